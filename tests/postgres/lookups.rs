//! Ways to a row that depend on how many are looked for, or on what a node knows of it.

use tower_events::{Channel, Event, Store, store::Append};

use super::{
    harness::{fresh_schema, lose_tail},
    server,
    support::{a, store_in, texts},
};

/// Few are looked for among those that exist first, unless some of them were absent the last time; many are not.
#[tokio::test]
async fn heads_are_the_same_however_many_are_asked_for() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let names: Vec<_> = (0..150).map(|n| Channel::new(format!("room:{n}")).unwrap()).collect();
    for name in names.iter().step_by(3) {
        store.append(name, Append::new([Event::text("x")])).await.unwrap();
    }
    // One that was there and is not has another place to begin at than one that never was.
    store.delete(&names[0]).await.unwrap();
    let all = store.heads(&names).await.unwrap();
    assert_eq!(all.iter().filter(|head| head.cursor.tag != 0).count(), 49);
    for size in [1, 7, 100] {
        let new = store_in(server, &schema).await;
        for time in ["first", "second"] {
            for (names, all) in names.chunks(size).zip(all.chunks(size)) {
                assert_eq!(new.heads(names).await.unwrap(), all, "{size} at once, for the {time} time");
            }
        }
    }
    let twice = [&names[3], &names[1], &names[3], &names[1], &names[4]].map(Clone::clone);
    assert_eq!(store.heads(&twice).await.unwrap(), [all[3], all[1], all[3], all[1], all[4]]);
    assert_eq!(store.heads(&[]).await.unwrap(), []);
}

/// A node looks for a row among the newer ones than it last saw, and the database may have been set back since.
#[tokio::test]
async fn a_channel_that_is_behind_what_a_node_saw_is_written_to_all_the_same() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let event = |n: u64| Event::text(n.to_string());
    for events in [1..=300, 301..=600, 601..=601] {
        store.append(&a(), Append::new(events.map(event))).await.unwrap();
    }
    assert_eq!(store.heads(&[a()]).await.unwrap()[0].cursor.seq, 601);
    lose_tail(server, &schema, &a(), 201).await;
    for n in 401..=403 {
        let appended = store.append(&a(), Append::new([event(n)])).await.unwrap();
        assert_eq!((appended.head.cursor.seq, texts(&appended.entries)), (n, vec![&*n.to_string()]));
    }
}
