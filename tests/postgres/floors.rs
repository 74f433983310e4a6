//! Where channels start while transactions of applications are open.

use tower_events::{
    Channel, Cursor, Event, Store,
    store::{Append, Limit, Outcome, Start, floor},
    stores::postgres::PostgresStore,
};

use super::{
    harness::{client, fresh_schema},
    server,
    support::{a, store_in, texts},
};

/// A channel that is created and not committed affects no other transaction.
#[tokio::test]
async fn an_open_transaction_that_creates_a_channel_delays_no_other() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let [other, idle] = ["other", "idle"].map(|name| Channel::new(name).unwrap());
    for channel in [&other, &idle] {
        store.append(channel, Append::new([Event::text("x")])).await.unwrap();
    }
    let mut holder = client(server).await;
    let transaction = holder.transaction().await.unwrap();
    transaction.execute(&format!("select {schema}.append_text('a', 'x')"), &[]).await.unwrap();

    store.delete(&other).await.unwrap();
    // The channel that is being created is absent: there is nothing to delete, and nothing to wait for.
    store.delete(&a()).await.unwrap();
    // As if it had been empty for a long time.
    let forgotten = format!(
        "delete from {schema}.entry where log = (select log from {schema}.head where name = 'idle');
         update {schema}.head set earliest_seq = seq, bytes = 0, due = 0, emptied_at = 0 where name = 'idle'"
    );
    client(server).await.batch_execute(&forgotten).await.unwrap();
    store.tidy().await.unwrap();
    assert_eq!(store.channels("", None, 10).await.unwrap(), []);
    transaction.commit().await.unwrap();
    let page = store.read(&a(), Start::Earliest, Limit::default()).await.unwrap();
    assert_eq!(texts(&page.entries), ["x"]);
}

/// The floor that a transaction saw when it began may date from before an earlier life of the channel.
#[tokio::test]
async fn a_transaction_with_an_old_snapshot_creates_no_channel_below_the_floor() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let mut late = client(server).await;
    let level = tokio_postgres::IsolationLevel::RepeatableRead;
    let before = head(&store, &a()).await;
    let transaction = late.build_transaction().isolation_level(level).start().await.unwrap();
    transaction.execute(&format!("select count(*) from {schema}.entry"), &[]).await.unwrap();
    store.append(&a(), Append::new([Event::text("lost")])).await.unwrap();
    store.delete(&a()).await.unwrap();
    let append = format!("select {schema}.append_text('a', 'x')");
    let refused = transaction.execute(&append, &[]).await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("40001"), "{refused:?}");
    drop(transaction);

    // With a snapshot that is new enough it creates the channel, and then delays no deletion.
    let transaction = late.build_transaction().isolation_level(level).start().await.unwrap();
    transaction.execute(&append, &[]).await.unwrap();
    let other = neighbour();
    store.append(&other, Append::new([Event::text("x")])).await.unwrap();
    store.delete(&other).await.unwrap();
    transaction.commit().await.unwrap();
    assert_ne!(outcome(&store, before).await, Outcome::Continued);
}

/// The floor rises while the channel is created: a reader that was given the new one has missed an event.
#[tokio::test]
async fn a_floor_that_rises_while_a_channel_is_created_continues_only_readers_that_missed_nothing() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let mut holder = client(server).await;
    let other = neighbour();
    let before = head(&store, &a()).await;
    let transaction = holder.transaction().await.unwrap();
    transaction.execute(&format!("select {schema}.append_text('a', 'made')"), &[]).await.unwrap();
    store.append(&other, Append::new([Event::text("x")])).await.unwrap();
    store.delete(&other).await.unwrap();
    let moved = head(&store, &a()).await;
    assert!(moved.seq > before.seq, "they share a floor");
    transaction.commit().await.unwrap();

    assert_eq!(outcome(&store, before).await, Outcome::Continued);
    assert_ne!(outcome(&store, moved).await, Outcome::Continued);
    store.delete(&a()).await.unwrap();
    for cursor in [before, moved] {
        assert_ne!(outcome(&store, cursor).await, Outcome::Continued);
    }
    store.append(&a(), Append::new([Event::text("again")])).await.unwrap();
    for cursor in [before, moved] {
        assert_ne!(outcome(&store, cursor).await, Outcome::Continued);
    }
}

/// The server computes buckets for the outbox and the janitor, the node for everything else.
#[tokio::test]
async fn the_database_computes_buckets_as_the_crate_does() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    store_in(server, &schema).await;
    let client = client(server).await;
    let statement = client.prepare(&format!("select {schema}.bucket_of($1)")).await.unwrap();
    for n in 0..200 {
        let name: String = (0..fastrand::usize(1..40)).map(|_| fastrand::char('!'..'\u{10ff}')).collect();
        let Ok(channel) = Channel::new(if n == 0 { "a".to_owned() } else { name }) else { continue };
        let row = client.query_one(&statement, &[&channel.as_str()]).await.unwrap();
        assert_eq!(row.get::<_, i32>(0), i32::from(floor::bucket_of(&channel)), "{channel:?}");
    }
}

/// Channels that are forgotten together raise a floor once, and each bucket has its turn only now and then.
#[tokio::test]
async fn a_bucket_has_four_turns_to_forget_in_the_time_that_records_are_kept() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    store_in(server, &schema).await;
    let client = client(server).await;
    let hour = 3_600_000_i64;
    let statement =
        client.prepare(&format!("select {schema}.turn($1, array[0, 0, 0, $2, 0]::bigint[], $3)")).await.unwrap();
    let turn = async |bucket: i32, from: i64| {
        client.query_one(&statement, &[&bucket, &(4 * hour), &from]).await.unwrap().get::<_, i64>(0)
    };
    let now = 1_732_094_400_000;
    for bucket in [0, 1, 500, 1023] {
        let first = turn(bucket, now).await;
        assert!((now..now + hour).contains(&first), "{bucket}: {first}");
        assert_eq!(turn(bucket, first).await, first);
        assert_eq!(turn(bucket, first + 1).await, first + hour);
    }
    assert_ne!(turn(0, now).await, turn(512, now).await, "not all at once");
}

async fn head(store: &PostgresStore, channel: &Channel) -> Cursor {
    store.heads(std::slice::from_ref(channel)).await.unwrap()[0].cursor
}

async fn outcome(store: &PostgresStore, cursor: Cursor) -> Outcome {
    store.read(&a(), Start::After(cursor), Limit::default()).await.unwrap().outcome
}

/// A channel of the same bucket.
fn neighbour() -> Channel {
    let names = (0..).map(|n| Channel::new(format!("n{n}")).unwrap());
    names.into_iter().find(|name| floor::bucket_of(name) == floor::bucket_of(&a())).unwrap()
}
