//! Lookups that depend on the number of channels, or on what a node knows of a row.

use tower_events::{Channel, Event, Store, store::Append};

use super::{
    harness::{fresh_schema, lose_tail},
    server,
    support::{a, store_in, texts},
};

/// A few channels are first looked up among the existing ones, unless some were absent last time; many are not.
#[tokio::test]
async fn heads_are_the_same_however_many_are_requested() {
    let Some(server) = server::shared() else { return };
    let schema = fresh_schema();
    let store = store_in(server, &schema).await;
    let names: Vec<_> = (0..150).map(|n| Channel::new(format!("room:{n}")).unwrap()).collect();
    for name in names.iter().step_by(3) {
        store.append(name, Append::new([Event::text("x")])).await.unwrap();
    }
    // A channel that existed and is gone starts elsewhere than one that never existed.
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

/// A node looks for a row among those newer than what it last saw, and the database may have been reset since.
#[tokio::test]
async fn a_channel_that_is_behind_what_a_node_saw_can_still_be_written_to() {
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
