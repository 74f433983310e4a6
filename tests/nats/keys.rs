//! What a node knows of the idempotency keys that other nodes append.

use std::time::Duration;

use tower_events::{
    Channel, Event, NatsStore, Retention, Store, StoreError,
    store::{Append, Receipt},
};

use crate::{
    server::{Server, servers},
    wire::{Slow, Wire},
};

async fn append(store: &NatsStore, text: &str, key: &str) -> Result<Receipt, StoreError> {
    let event = Event::text(text).keyed(key).expect("a key");
    let done = store.append(&Channel::new("a").expect("a channel"), Append::new([event])).await?;
    Ok(done.receipts[0])
}

/// A node that knows the keys of a channel learns those that others append while it writes there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_another_node_appends_meanwhile_are_known() {
    for binary in servers() {
        let server = Server::start(&binary);
        let (one, two) = (
            NatsStore::connect(&server.url()).await.expect("a store"),
            NatsStore::connect(&server.url()).await.expect("a store"),
        );
        let append = async |store: &NatsStore, key: &str| append(store, key, key).await.expect("an append");
        assert!(!append(&one, "1").await.duplicate);
        assert!(!append(&two, "2").await.duplicate);
        for round in 0..10 {
            // One message came in between, or several.
            for n in 0..=round % 3 {
                assert!(!append(&one, &format!("{round}/{n}")).await.duplicate);
            }
            for n in 0..=round % 3 {
                assert!(append(&two, &format!("{round}/{n}")).await.duplicate, "{round}/{n} was appended twice");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_cannot_be_read_within_one_call_are_read_within_several() {
    for binary in servers() {
        let server = Server::start(&binary);
        let retention = Retention::default().events(10_000);
        let near = NatsStore::options().retention(retention.clone()).connect(&server.url()).await.expect("a store");
        let text = "x".repeat(1_000);
        for key in 0..MESSAGES {
            append(&near, &text, &key.to_string()).await.expect("an append");
        }
        let wire = Wire::to(server.addr()).await;
        let options = NatsStore::options().retention(retention).timeout(Duration::from_secs(1));
        let far = options.connect(&format!("nats://{}", wire.addr())).await.expect("a store");
        // Reading the keys takes longer than several calls may.
        wire.slow(Slow { delay: Duration::ZERO, bandwidth: Some(MESSAGES * 1_000 / 3) });
        let mut failures = 0;
        let known = loop {
            match append(&far, &text, "0").await {
                Ok(receipt) => break receipt,
                Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}"),
            }
            failures += 1;
            assert!(failures < 60, "no end");
        };
        assert!(failures > 1, "one call was enough, so the test shows nothing");
        assert_eq!((known.duplicate, known.cursor.seq), (true, 1));
        let new = append(&far, "new", "new").await.expect("an append");
        assert_eq!((new.duplicate, new.cursor.seq), (false, MESSAGES as u64 + 1));
    }
}

const MESSAGES: usize = 600;
