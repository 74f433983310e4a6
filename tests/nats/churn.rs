//! Many short-lived channels, and some unreadable ones.

use std::time::{Duration, Instant};

use tower_events::{
    Channel, Event, NatsStore, Retention, Store,
    store::{Append, Limit, Start},
};

use crate::{
    faults::api,
    server::{Server, servers},
};

/// Keeps nothing for more than a few seconds.
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
async fn unreadable_channels_do_not_stop_others_from_being_forgotten() {
    for binary in servers() {
        let server = Server::start(&binary);
        let (store, admin) = (store(&server).await, async_nats::connect(server.url()).await.expect("a client"));
        let info = api(&admin, "STREAM.INFO.tower-events", "").await;
        let root = info["config"]["subjects"][0].as_str().expect("a subject").trim_end_matches(".>").to_owned();
        for n in 0..30 {
            let healthy = Channel::new(format!("healthy {n}")).expect("a channel");
            store.append(&healthy, Append::new([Event::text("x")])).await.expect("an append");
            // `AAAA` and so on are names, but this crate did not write what they hold.
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
        // Unreadable channels stay, and are reported.
        let damaged = Channel::new("AAA").expect("a channel");
        let page = store.read(&damaged, Start::Earliest, Limit::default()).await;
        assert!(matches!(page, Err(tower_events::StoreError::Corrupt(_))), "{page:?}");
    }
}

/// Memory of a process, in KiB; 0 where it is not available.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// `TOWER_EVENTS_CHURN` sets the duration in seconds; 600 in the long form. Prints figures every 10 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_new_channels_a_second_leave_nothing_behind() {
    let is_long = std::env::var_os("TOWER_EVENTS_LONG").is_some();
    let given = std::env::var("TOWER_EVENTS_CHURN").ok().map(|seconds| seconds.parse().expect("seconds"));
    let lasting = Duration::from_secs(given.unwrap_or(if is_long { 600 } else { 45 }));
    for binary in servers() {
        let server = Server::start(&binary);
        let (store, admin) = (store(&server).await, async_nats::connect(server.url()).await.expect("a client"));
        let (begun, mut n, mut calls) = (Instant::now(), 0, tokio::task::JoinSet::new());
        let mut every = tokio::time::interval(Duration::from_millis(10));
        let (mut most, mut shown) = (0, 0);
        while begun.elapsed() < lasting {
            every.tick().await;
            let (store, channel) = (store.clone(), Channel::new(format!("short {n}")).expect("a channel"));
            calls.spawn(async move {
                // The timeout is one second, because removal markers stay ten times as long.
                while let Err(error) = store.append(&channel, Append::new([Event::text("x".repeat(100))])).await {
                    assert!(error.is_retryable(), "{error:?}");
                }
            });
            while let Some(done) = calls.try_join_next() {
                done.expect("a call");
            }
            n += 1;
            if n % 100 == 0 {
                most = most.max(stored(&admin).await.2);
            }
            if begun.elapsed().as_secs() / 10 > shown {
                shown = begun.elapsed().as_secs() / 10;
                let (messages, bytes, subjects) = stored(&admin).await;
                println!(
                    "after {:.0?}: {n} channels made; {messages} messages, {bytes} bytes, {subjects} subjects (at most \
                     {most}); server {} KiB, this process {} KiB",
                    begun.elapsed(),
                    resident(server.id()),
                    resident(std::process::id())
                );
            }
        }
        while let Some(done) = calls.join_next().await {
            done.expect("a call");
        }
        println!("{n} channels in {:?}: at most {most} subjects", begun.elapsed());
        assert!(most < MOST_SUBJECTS, "{most} subjects, of {MOST_SUBJECTS}");
        // Only the floors and a few other messages outlive the channels.
        let deadline = Instant::now() + Duration::from_secs(60);
        while stored(&admin).await.2 > 1_024 + 8 {
            assert!(Instant::now() < deadline, "something is left: {:?}", stored(&admin).await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A channel has two subjects. It is visible for 2 s, remembered for 1 s, checked every second, and its removal marker
/// stays for 10 s. There are as many floors as buckets, and a few other subjects. Other tests may slow this down.
const MOST_SUBJECTS: u64 = 2 * (2 * 100 * (2 + 1 + 2 + 10)) + 1_100;
