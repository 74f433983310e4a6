//! The health that the store reports.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tower_events::{
    Channel, Event, NatsStore, Store, StoreError,
    store::{Append, Health, Limit, OpenErrorKind, Start, Use},
};

use crate::{
    faults::api,
    hints::Hints,
    server::{Server, servers},
};

async fn store(server: &Server) -> NatsStore {
    NatsStore::options().timeout(Duration::from_secs(2)).connect(&server.url()).await.expect("a store")
}

async fn append(store: &NatsStore) -> bool {
    let done = store.append(&Channel::new("a").expect("a channel"), Append::new([Event::text("x")])).await;
    done.inspect_err(|error| println!("{error:?}")).is_ok()
}

/// No calls are made except for the health.
async fn becomes(store: &NatsStore, health: Health) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.health() != health {
        assert!(Instant::now() < deadline, "{:?} instead of {health:?}", store.health());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn each<F: Future<Output = ()>>(test: impl Fn(Server) -> F) {
    for binary in servers() {
        test(Server::start(&binary)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_unavailable_and_later_ready_again() {
    each(|server| async move {
        let store = store(&server).await;
        assert!(append(&store).await && store.health() == Health::Ready);
        server.pause();
        assert!(!append(&store).await);
        assert_eq!(store.health(), Health::Unavailable, "the last call found it unavailable");
        server.go_on();
        becomes(&store, Health::Ready).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_hints_are_late() {
    // The user may not create consumers, so no hints arrive.
    let config = |allowed: &str| {
        format!("authorization {{ users [{{ user: a, password: b, permissions: {{ publish: {{ {allowed} }} }} }}] }}")
    };
    for binary in servers() {
        let server = limited(&binary, config("deny: [\"$JS.API.CONSUMER.CREATE.>\"]"));
        let store = NatsStore::options().timeout(Duration::from_secs(2)).user("a", "b");
        let store = store.connect(&server.url()).await.expect("a store");
        assert_eq!(store.health(), Health::Ready, "no watcher waits for hints");
        let hints = Hints::of(&store);
        becomes(&store, Health::Degraded).await;
        assert!(append(&store).await, "calls succeed");
        assert_eq!(store.health(), Health::Degraded);
        drop(hints);
        becomes(&store, Health::Ready).await;
    }
}

fn limited(binary: &Path, config: String) -> Server {
    Server::with_config(binary, Some(config))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_accepts_nothing_is_read_only_until_it_does() {
    each(|server| async move {
        let (store, admin) = (store(&server).await, async_nats::connect(server.url()).await.expect("a client"));
        assert!(append(&store).await);
        let mut config = api(&admin, "STREAM.INFO.tower-events", "").await["config"].clone();
        config["max_bytes"] = 1.into();
        api(&admin, "STREAM.UPDATE.tower-events", &config.to_string()).await;
        assert!(!append(&store).await);
        assert_eq!(store.health(), Health::ReadOnly, "publishing is refused");
        config["max_bytes"] = (-1).into();
        api(&admin, "STREAM.UPDATE.tower-events", &config.to_string()).await;
        becomes(&store, Health::Ready).await;
        assert!(append(&store).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_format_is_reported_with_both_versions_and_nothing_is_written_any_more() {
    each(|server| async move {
        let (store, admin) = (store(&server).await, async_nats::connect(server.url()).await.expect("a client"));
        assert!(append(&store).await);
        let info = api(&admin, "STREAM.INFO.tower-events", "").await;
        let root = info["config"]["subjects"][0].as_str().expect("a subject").trim_end_matches(".>").to_owned();
        let identity = || async {
            let what = format!(r#"{{"last_by_subj": "{root}.place"}}"#);
            let data = api(&admin, "STREAM.MSG.GET.tower-events", &what).await["message"]["data"].clone();
            let text = STANDARD.decode(data.as_str().expect("a text")).expect("base64");
            String::from_utf8(text).expect("a text")
        };
        let before = identity().await;
        let (epoch, ours) = before.split_once(' ').expect("an epoch and a format");
        assert_eq!(ours, "2 2 2");
        let stored = |format: &str| {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Rollup", "sub");
            let text = format!("{epoch} {format}");
            let request = async_nats::Request::new().headers(headers).payload(text.into());
            let sent = admin.send_request(format!("{root}.place"), request);
            async move { sent.await.expect("an acknowledgement") }
        };
        // A newer node admits this one as a reader.
        stored("3 2 3").await;
        let deadline = Instant::now() + Duration::from_secs(20);
        let of = Channel::new("a").expect("a channel");
        let refused = loop {
            match store.append(&of, Append::new([Event::text("x")])).await {
                Err(error) => break error,
                Ok(_) => assert!(Instant::now() < deadline, "the newer node continues to write"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(
            matches!(refused, StoreError::NewerFormat { stored: 3, supported: 2, denied: Use::Write }),
            "{refused:?}"
        );
        assert_eq!(store.health(), Health::ReadOnly);
        store.read(&of, Start::Earliest, Limit::default()).await.expect("a page");
        let opened = self::store(&server).await;
        opened.read(&of, Start::Earliest, Limit::default()).await.expect("a page");
        let refused = opened.append(&of, Append::new([Event::text("x")])).await.expect_err("a newer format");
        assert!(matches!(refused, StoreError::NewerFormat { stored: 3, .. }), "{refused:?}");
        // Then it does not admit this one any longer; a message in the newer format does not count as damage either.
        stored("3 3 3").await;
        let refused = NatsStore::connect(&server.url()).await.expect_err("a newer format");
        assert!(matches!(refused.kind(), OpenErrorKind::NewerFormat { stored: 3, supported: 2 }), "{refused:?}");
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Tower-Events", "3 whatever it is");
        let request = async_nats::Request::new().headers(headers).payload("new".into());
        admin.send_request(format!("{root}.c.YQ"), request).await.expect("an acknowledgement");
        let refused = store.read(&of, Start::Earliest, Limit::default()).await.expect_err("a newer format");
        assert!(matches!(refused, StoreError::NewerFormat { stored: 3, .. }), "{refused:?}");
        // Both continue when the format is restored.
        stored(ours).await;
        becomes(&store, Health::Ready).await;
        let other = Channel::new("b").expect("a channel");
        store.append(&other, Append::new([Event::text("x")])).await.expect("an append");
    })
    .await;
}
