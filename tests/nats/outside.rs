//! Changes to the stream by others, by hand or by limits: each resets the readers that lost something, and is never a
//! `Continued`.

use std::time::Duration;

use tower_events::{
    Channel, Cursor, Event, NatsStore, Store,
    store::{Append, Limit, OpenErrorKind, Outcome, Start},
};

use crate::{
    faults::api,
    server::{Server, servers},
};

/// The channel, and its name as a token of a subject.
const ROOM: (&str, &str) = ("room", "cm9vbQ");

fn room() -> Channel {
    Channel::new(ROOM.0).expect("a channel")
}

async fn store(server: &Server) -> NatsStore {
    NatsStore::options().timeout(Duration::from_secs(3)).connect(&server.url()).await.expect("a store")
}

async fn append(store: &NatsStore, text: &str) -> Cursor {
    let done = store.append(&room(), Append::new([Event::text(text)])).await.expect("an append");
    done.head.cursor
}

async fn resume(store: &NatsStore, from: Cursor) -> Outcome {
    store.read(&room(), Start::After(from), Limit::default()).await.expect("a page").outcome
}

/// Three events are appended to an absent channel, are lost, and others are appended: readers that waited for the first
/// one are reset, and so are those that saw some of them, on the node that wrote, on one that only reads and on one
/// that starts later.
async fn is_told<F: Future<Output = ()>>(what: &str, lose: impl Fn(async_nats::Client, String) -> F) {
    for binary in servers() {
        let server = Server::start(&binary);
        let admin = async_nats::connect(server.url()).await.expect("a client");
        let (writes, reads) = (store(&server).await, store(&server).await);
        let absent = reads.heads(&[room()]).await.expect("heads")[0].cursor;
        let mut seen = vec![absent];
        for text in ["1", "2", "3"] {
            seen.push(append(&writes, text).await);
        }
        let info = api(&admin, "STREAM.INFO.tower-events", "").await;
        let root = info["config"]["subjects"][0].as_str().expect("a subject").trim_end_matches(".>").to_owned();
        lose(admin.clone(), root).await;
        let fresh = store(&server).await;
        for round in 0..6 {
            for (who, node) in [("writer", &writes), ("reader", &reads), ("fresh node", &fresh)] {
                for cursor in &seen {
                    let outcome = resume(node, *cursor).await;
                    assert!(
                        matches!(outcome, Outcome::Reset(_)),
                        "{what}: {who}, round {round}: {cursor:?} {outcome:?}"
                    );
                }
            }
            let last = append([&writes, &reads, &fresh][round % 3], "again").await;
            assert_eq!(resume(&reads, last).await, Outcome::Continued, "{what}, round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_the_stream_also_resets_readers_that_waited_for_the_first_event() {
    is_told("purge", |admin, _| async move { drop(api(&admin, "STREAM.PURGE.tower-events", "").await) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_all_but_the_newest_message_is_a_reset() {
    is_told("purge", |admin, _| async move {
        let last = api(&admin, "STREAM.INFO.tower-events", "").await["state"]["last_seq"].as_u64().expect("a number");
        api(&admin, "STREAM.PURGE.tower-events", &format!(r#"{{"seq": {}}}"#, last + 1)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_one_channel_is_a_reset() {
    is_told("purge of a subject", |admin, root| async move {
        let what = format!(r#"{{"filter": "{root}.c.{}"}}"#, ROOM.1);
        api(&admin, "STREAM.PURGE.tower-events", &what).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_whose_messages_are_deleted_one_by_one_is_a_reset() {
    is_told("deletes", |admin, root| async move {
        let subject = format!("{root}.c.{}", ROOM.1);
        for _ in 0..3 {
            let last = format!(r#"{{"seq": 1, "next_by_subj": "{subject}"}}"#);
            let seq = api(&admin, "STREAM.MSG.GET.tower-events", &last).await["message"]["seq"].clone();
            api(&admin, "STREAM.MSG.DELETE.tower-events", &format!(r#"{{"seq": {seq}}}"#)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_deleted_and_recreated_by_hand_is_a_reset() {
    is_told("made again", |admin, _| async move {
        let config = api(&admin, "STREAM.INFO.tower-events", "").await["config"].clone();
        api(&admin, "STREAM.DELETE.tower-events", "").await;
        api(&admin, "STREAM.CREATE.tower-events", &config.to_string()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operators_max_age_deletes_is_a_reset() {
    is_told("max_age", |admin, _| async move {
        limit(&admin, "max_age", 100_000_000.into()).await;
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while api(&admin, "STREAM.INFO.tower-events", "").await["state"]["messages"] != 0 {
            assert!(std::time::Instant::now() < deadline, "no message is deleted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        limit(&admin, "max_age", 0.into()).await;
    })
    .await;
}

/// Sets a limit of the stream.
async fn limit(admin: &async_nats::Client, name: &str, to: serde_json::Value) {
    let mut config = api(admin, "STREAM.INFO.tower-events", "").await["config"].clone();
    config[name] = to;
    if config["max_age"] != 0 {
        // The server rejects a longer window.
        config["duplicate_window"] = config["max_age"].clone();
    }
    api(admin, "STREAM.UPDATE.tower-events", &config.to_string()).await;
}

/// Deletes a channel's messages, but not its announcement.
async fn lose_the_room(admin: &async_nats::Client, root: &str) {
    let what = format!(r#"{{"filter": "{root}.c.{}"}}"#, ROOM.1);
    api(admin, "STREAM.PURGE.tower-events", &what).await;
}

async fn root(admin: &async_nats::Client) -> String {
    let info = api(admin, "STREAM.INFO.tower-events", "").await;
    info["config"]["subjects"][0].as_str().expect("a subject").trim_end_matches(".>").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_is_reported_even_when_a_node_appends_before_any_reader_comes() {
    for binary in servers() {
        for who in ["the writer", "a reader", "a fresh node"] {
            let server = Server::start(&binary);
            let admin = async_nats::connect(server.url()).await.expect("a client");
            let (writes, reads) = (store(&server).await, store(&server).await);
            let mut seen = vec![reads.heads(&[room()]).await.expect("heads")[0].cursor];
            for text in ["1", "2", "3"] {
                seen.push(append(&writes, text).await);
            }
            lose_the_room(&admin, &root(&admin).await).await;
            let fresh = store(&server).await;
            let next = match who {
                "the writer" => &writes,
                "a reader" => &reads,
                _ => &fresh,
            };
            append(next, "4").await;
            for cursor in &seen {
                let outcome = resume(&reads, *cursor).await;
                assert!(matches!(outcome, Outcome::Reset(_)), "{who} appends: {cursor:?} {outcome:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_head_of_a_lost_log_is_none_that_was_given_before() {
    for binary in servers() {
        // One alone, and all in one scan.
        for others in [0, 100] {
            let server = Server::start(&binary);
            let admin = async_nats::connect(server.url()).await.expect("a client");
            let (writes, reads) = (store(&server).await, store(&server).await);
            let other = |n: usize| Channel::new(format!("other {n}")).expect("a channel");
            let asked: Vec<_> = [room()].into_iter().chain((0..others).map(other)).collect();
            let head = async |node: &NatsStore| node.heads(&asked).await.expect("heads")[0].cursor;
            let mut seen = vec![head(&reads).await];
            for text in ["1", "2", "3"] {
                seen.push(append(&writes, text).await);
            }
            lose_the_room(&admin, &root(&admin).await).await;
            let fresh = store(&server).await;
            for (who, node) in [("reader", &reads), ("writer", &writes), ("fresh node", &fresh)] {
                let now = head(node).await;
                assert!(!seen.contains(&now), "{who}, {others} others: {now:?} of {seen:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_channel_can_be_written_to_though_its_announcement_is_gone() {
    for binary in servers() {
        let server = Server::start(&binary);
        let admin = async_nats::connect(server.url()).await.expect("a client");
        let writes = store(&server).await;
        append(&writes, "1").await;
        writes.delete(&room()).await.expect("a delete");
        let what = format!(r#"{{"filter": "{}.b.{}"}}"#, root(&admin).await, ROOM.1);
        api(&admin, "STREAM.PURGE.tower-events", &what).await;
        for node in [&store(&server).await, &writes] {
            append(node, "2").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_limits_of_an_operator_is_refused_and_they_are_named() {
    for binary in servers() {
        let server = Server::start(&binary);
        let admin = async_nats::connect(server.url()).await.expect("a client");
        drop(store(&server).await);
        for (name, value, none) in
            [("max_age", 3_600_000_000_000_i64, 0), ("max_msgs", 1_000_000, -1), ("max_msgs_per_subject", 1_000, -1)]
        {
            limit(&admin, name, value.into()).await;
            let refused = NatsStore::connect(&server.url()).await.expect_err("a limit");
            let said = format!("{refused:?}");
            assert!(*refused.kind() == OpenErrorKind::Misconfigured && said.contains(name), "{name}: {said}");
            limit(&admin, name, none.into()).await;
        }
        limit(&admin, "discard", "old".into()).await;
        let refused = NatsStore::connect(&server.url()).await.expect_err("a limit");
        assert!(format!("{refused:?}").contains("discard"), "{refused:?}");
        limit(&admin, "discard", "new".into()).await;
        store(&server).await;
    }
}
