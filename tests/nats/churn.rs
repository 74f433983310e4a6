//! Many channels that live for a short time, and some that cannot be read.

use std::time::{Duration, Instant};

use tower_events::{
    Channel, Event, NatsStore, Retention, Store,
    store::{Append, Limit, Start},
};

use crate::{
    faults::api,
    server::{Server, servers},
};

/// Nothing stays for more than a few seconds.
fn short() -> Retention {
    let second = Duration::from_secs(1);
    Retention::default().age(second * 2).forget_after(second).key_window(second)
}

async fn store(server: &Server) -> NatsStore {
    NatsStore::options()
        .retention(short())
        .timeout(Duration::from_secs(1))
        .connect(&server.url())
        .await
        .expect("a store")
}

/// Messages, bytes and subjects of the stream.
async fn stored(admin: &async_nats::Client) -> (u64, u64, u64) {
    let info = api(admin, "STREAM.INFO.tower-events", "").await;
    let state = |name: &str| info["state"][name].as_u64().unwrap_or(0);
    (state("messages"), state("bytes"), state("num_subjects"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_that_cannot_be_read_keep_no_other_from_being_forgotten() {
    for binary in servers() {
        let server = Server::start(&binary);
        let (store, admin) = (store(&server).await, async_nats::connect(server.url()).await.expect("a client"));
        let info = api(&admin, "STREAM.INFO.tower-events", "").await;
        let root = info["config"]["subjects"][0].as_str().expect("a subject").trim_end_matches(".>").to_owned();
        for n in 0..30 {
            let healthy = Channel::new(format!("healthy {n}")).expect("a channel");
            store.append(&healthy, Append::new([Event::text("x")])).await.expect("an append");
            // `AAAA` and so on are names, but what they hold is not ours.
            let damaged = format!("{root}.c.{}", "QUFB".repeat(n + 1));
            admin.request(damaged, "damage".into()).await.expect("an acknowledgement");
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let what = format!(r#"{{"subjects_filter": "{root}.c.>"}}"#);
            let info = api(&admin, "STREAM.INFO.tower-events", &what).await;
            let left = info["state"]["subjects"].as_object().map_or(0, serde_json::Map::len);
            if left <= 30 {
                break;
            }
            assert!(Instant::now() < deadline, "{left} channels are left");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        // What cannot be read stays and is told of.
        let damaged = Channel::new("AAA").expect("a channel");
        let page = store.read(&damaged, Start::Earliest, Limit::default()).await;
        assert!(matches!(page, Err(tower_events::StoreError::Corrupt(_))), "{page:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_new_channels_a_second_leave_nothing_behind() {
    let lasting = Duration::from_secs(if std::env::var_os("TOWER_EVENTS_LONG").is_some() { 150 } else { 45 });
    for binary in servers() {
        let server = Server::start(&binary);
        let (store, admin) = (store(&server).await, async_nats::connect(server.url()).await.expect("a client"));
        let (begun, mut n, mut calls) = (Instant::now(), 0, tokio::task::JoinSet::new());
        let mut every = tokio::time::interval(Duration::from_millis(10));
        let (mut most, mut shown) = ((0, 0, 0), 0);
        while begun.elapsed() < lasting {
            every.tick().await;
            let (store, channel) = (store.clone(), Channel::new(format!("short {n}")).expect("a channel"));
            calls.spawn(async move {
                // A call has a second, for what goes stays ten times as long.
                while let Err(error) = store.append(&channel, Append::new([Event::text("x".repeat(100))])).await {
                    assert!(error.is_retryable(), "{error:?}");
                }
            });
            n += 1;
            if n % 100 == 0 {
                let now = stored(&admin).await;
                most = (most.0.max(now.0), most.1.max(now.1), most.2.max(now.2));
            }
            if begun.elapsed().as_secs() / 10 > shown {
                shown = begun.elapsed().as_secs() / 10;
                println!(
                    "after {:?}: {n} channels made; most messages, bytes, subjects so far {most:?}",
                    begun.elapsed()
                );
            }
        }
        while let Some(done) = calls.join_next().await {
            done.expect("a call");
        }
        println!("{n} channels in {:?}: most messages, bytes, subjects {most:?}", begun.elapsed());
        // A channel is seen for 2 s, remembered for 1 s, looked at every second, and a mark that it is gone stays for 10 s.
        // It has two subjects, and there are at most so many floors. Other tests may slow it down.
        let seconds = (2 + 1 + 2 + 10) * 2;
        assert!(most.2 < 2 * 100 * seconds + 1_100, "{most:?}");
    }
}
