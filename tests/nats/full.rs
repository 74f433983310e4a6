//! A full stream can still be read, and gets room again by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tower_events::{
    Channel, Event, NatsStore, Retention, Store, StoreError,
    store::{Append, Clock, Limit, Outcome, Start},
};

use crate::{
    faults::api,
    server::{Server, servers},
};

fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel")
}

/// Makes the stream accept nothing more. A limit below what it holds would make the server delete some of it.
async fn fill(admin: &async_nats::Client) {
    let bytes = api(admin, "STREAM.INFO.tower-events", "").await["state"]["bytes"].clone();
    set_most_bytes(admin, bytes).await;
}

async fn set_most_bytes(admin: &async_nats::Client, most: serde_json::Value) {
    let mut config = api(admin, "STREAM.INFO.tower-events", "").await["config"].clone();
    config["max_bytes"] = most;
    api(admin, "STREAM.UPDATE.tower-events", &config.to_string()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_channel_is_absent_though_nothing_can_be_written() {
    for binary in servers() {
        let server = Server::start(&binary);
        let admin = async_nats::connect(server.url()).await.expect("a client");
        let now = Arc::new(AtomicU64::new(1_732_094_400_000));
        let clock = Arc::clone(&now);
        let store = NatsStore::options()
            .timeout(Duration::from_secs(3))
            .clock(Clock::new(move || clock.load(Ordering::SeqCst)))
            .connect(&server.url())
            .await
            .expect("a store");
        let of = channel("a");
        let last = store.append(&of, Append::new([Event::text("x")])).await.expect("an append").head.cursor;
        fill(&admin).await;
        now.fetch_add(1_000 * 86_400_000, Ordering::SeqCst);
        let refused = store.append(&of, Append::new([Event::text("x")])).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
        let page = store.read(&of, Start::After(last), Limit::default()).await.expect("a page");
        assert!(page.entries.is_empty() && matches!(page.outcome, Outcome::Reset(_)), "{page:?}");
        let other = channel("b");
        let heads = store.heads(&[of.clone(), other]).await.expect("heads");
        assert_eq!(heads[0], page.head);
        assert_ne!(page.head.cursor, last);
        // A position that was returned meanwhile is not mistaken for the one before the next event.
        set_most_bytes(&admin, (-1).into()).await;
        store.append(&of, Append::new([Event::text("y")])).await.expect("an append");
        let outcome = store.read(&of, Start::After(last), Limit::default()).await.expect("a page").outcome;
        assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_is_trimmed_and_accepts_appends_again() {
    for binary in servers() {
        let server = Server::start(&binary);
        let admin = async_nats::connect(server.url()).await.expect("a client");
        let second = Duration::from_secs(1);
        let store = NatsStore::options()
            .retention(Retention::default().age(second * 2).forget_after(second * 600).key_window(second))
            .timeout(second * 2)
            .connect(&server.url())
            .await
            .expect("a store");
        let (of, event) = (channel("a"), || Append::new([Event::text("x".repeat(10_000))]));
        for _ in 0..20 {
            store.append(&of, event()).await.expect("an append");
        }
        fill(&admin).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = store.append(&of, event()).await {
            assert!(Instant::now() < deadline, "it stays full: {error:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
