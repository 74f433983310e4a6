//! Changed retention, and nodes with different retention: nothing is dropped that the larger setting keeps.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tower_events::{
    Channel, Event, NatsStore, Retention, Store,
    store::{Append, Clock, Entry, Expect, Limit, Outcome, Start},
};

use crate::{
    faults::api,
    server::{Server, servers},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A server for nodes that use a clock of their own.
struct Setup {
    server: Server,
    now: Arc<AtomicU64>,
}

impl Setup {
    fn of(binary: &Path) -> Self {
        Self { server: Server::start(binary), now: Arc::new(AtomicU64::new(1_732_094_400_000)) }
    }

    async fn node(&self, retention: Retention) -> NatsStore {
        let now = Arc::clone(&self.now);
        let options = NatsStore::options().retention(retention).clock(Clock::new(move || now.load(Ordering::SeqCst)));
        options.connect(&self.server.url()).await.expect("a store")
    }

    fn advance(&self, by: Duration) {
        self.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel")
}

fn text(text: &str) -> Append {
    Append::new([Event::text(text)])
}

fn keyed(key: &str) -> Append {
    Append::new([Event::text(key).keyed(key).expect("a key")])
}

async fn kept(store: &NatsStore, name: &str) -> Vec<Entry> {
    let limit = Limit::new(10_000, 16 << 20);
    store.read(&channel(name), Start::Earliest, limit).await.expect("a page").entries
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_keeps_more_entries_decides() {
    for binary in servers() {
        let setup = Setup::of(&binary);
        let less = setup.node(Retention::default().events(10)).await;
        let more = setup.node(Retention::default().events(1000)).await;
        for n in 0..100 {
            less.append(&channel("a"), text(&n.to_string())).await.expect("an append");
        }
        // A node may not know of the other when it reads, but it drops nothing.
        setup.advance(6 * SECOND);
        assert_eq!((kept(&less, "a").await.len(), kept(&more, "a").await.len()), (100, 100));
        let events = (0..300).map(|n| Event::text(n.to_string())).collect();
        less.init(&channel("a"), events, Expect::Any).await.expect("an init");
        assert_eq!(kept(&more, "a").await.len(), 300);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_keeps_more_bytes_decides() {
    for binary in servers() {
        let setup = Setup::of(&binary);
        let less = setup.node(Retention::default().bytes(4000)).await;
        let more = setup.node(Retention::default().bytes(1 << 20)).await;
        for _ in 0..100 {
            less.append(&channel("a"), text(&"x".repeat(1000))).await.expect("an append");
        }
        setup.advance(6 * SECOND);
        assert_eq!((kept(&less, "a").await.len(), kept(&more, "a").await.len()), (100, 100));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_keeps_entries_longer_decides() {
    for binary in servers() {
        let setup = Setup::of(&binary);
        let brief = 10 * SECOND;
        let less = setup.node(Retention::default().age(brief).forget_after(brief).key_window(brief)).await;
        let more = setup.node(Retention::default()).await;
        let first = less.append(&channel("a"), keyed("k")).await.expect("an append");
        for minutes in 1..=9 {
            setup.advance(MINUTE);
            // Both are in use: they read, follow and append elsewhere.
            less.append(&channel("less"), text("x")).await.expect("an append");
            more.append(&channel("more"), text("x")).await.expect("an append");
            for node in [&less, &more] {
                assert_eq!(kept(node, "a").await, first.entries, "after {minutes} minutes");
                assert_eq!(node.heads(&[channel("a")]).await.expect("heads"), [first.head]);
                assert!(node.channels("a", None, 10).await.expect("channels").contains(&(channel("a"), first.head)));
            }
            let again = less.append(&channel("a"), keyed("k")).await.expect("an append");
            assert!(again.receipts[0].duplicate, "after {minutes} minutes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_forgets_later_decides() {
    for binary in servers() {
        let setup = Setup::of(&binary);
        let brief = 10 * SECOND;
        let less = setup.node(Retention::default().age(brief).forget_after(brief).key_window(brief)).await;
        let more = setup.node(Retention::default().age(brief).forget_after(HOUR).key_window(brief)).await;
        let first = less.append(&channel("a"), text("x")).await.expect("an append");
        for _ in 0..15 {
            setup.advance(2 * MINUTE);
            for node in [&less, &more] {
                node.append(&channel("other"), text("x")).await.expect("an append");
                assert_eq!(node.heads(&[channel("a")]).await.expect("heads"), [first.head]);
                let page = node.read(&channel("a"), Start::After(first.head.cursor), Limit::default()).await;
                let page = page.expect("a page");
                assert_eq!((page.outcome, page.head), (Outcome::Continued, first.head));
            }
        }
    }
}

/// A key that a node forgot, before another node started that remembers it for longer, is known again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_remembered_for_longer_once_a_node_announces_it() {
    for binary in servers() {
        let setup = Setup::of(&binary);
        let less = setup.node(Retention::default().key_window(10 * SECOND)).await;
        less.append(&channel("a"), keyed("k")).await.expect("an append");
        setup.advance(20 * SECOND);
        // The node's state of the channel now lacks that key.
        less.append(&channel("a"), keyed("other")).await.expect("an append");
        let _more = setup.node(Retention::default()).await;
        setup.advance(6 * SECOND);
        let again = less.append(&channel("a"), keyed("k")).await.expect("an append");
        assert!(again.receipts[0].duplicate, "{again:?}");
    }
}

/// Some time after the node that kept more is gone, the others keep what they were configured to keep.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_setting_of_a_node_that_is_gone_no_longer_counts() {
    for binary in servers() {
        let setup = Setup::of(&binary);
        let more = setup.node(Retention::default().events(1000)).await;
        let less = setup.node(Retention::default().events(10)).await;
        for n in 0..100 {
            more.append(&channel("a"), text(&n.to_string())).await.expect("an append");
        }
        drop(more);
        setup.advance(4 * MINUTE);
        assert_eq!(kept(&less, "a").await.len(), 100);
        setup.advance(6 * MINUTE);
        less.append(&channel("a"), text("100")).await.expect("an append");
        assert_eq!(kept(&less, "a").await.len(), 10);
        let admin = async_nats::connect(setup.server.url()).await.expect("a client");
        let deadline = Instant::now() + Duration::from_secs(20);
        while api(&admin, "STREAM.INFO.tower-events", "").await["state"]["messages"].as_u64() > Some(40) {
            assert!(Instant::now() < deadline, "no message is deleted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Each setting is lowered and raised again with a restart: what both keep is available throughout.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_another_setting_loses_nothing_that_both_keep() {
    let small =
        Retention::default().events(20).bytes(4000).age(10 * MINUTE).forget_after(MINUTE).key_window(2 * MINUTE);
    let large = Retention::default();
    let settings: [fn(Retention, &Retention) -> Retention; 5] = [
        |keep, of| keep.events(of.events),
        |keep, of| keep.bytes(of.bytes),
        |keep, of| keep.age(of.age),
        |keep, of| keep.forget_after(of.forget_after),
        |keep, of| keep.key_window(of.key_window),
    ];
    for binary in servers() {
        for (nth, set) in settings.into_iter().enumerate() {
            for steps in [[&large, &small, &large], [&small, &large, &small]] {
                let (setup, name) = (Setup::of(&binary), channel("a"));
                let mut appended: Vec<Entry> = Vec::new();
                for (step, keep) in steps.into_iter().enumerate() {
                    let node = setup.node(set(Retention::default(), keep)).await;
                    for n in 0..5 {
                        let again = node.append(&name, keyed(&n.to_string())).await.expect("an append");
                        assert!(step == 0 || again.receipts[0].duplicate, "setting {nth}, step {step}: key {n}");
                        appended.extend(again.entries);
                    }
                    for _ in 0..3 {
                        appended.extend(node.append(&name, text("more")).await.expect("an append").entries);
                    }
                    assert_eq!(kept(&node, "a").await, appended, "setting {nth}, step {step}");
                    setup.advance(20 * SECOND);
                    let heads = node.heads(std::slice::from_ref(&name)).await.expect("heads");
                    assert_eq!(Some(heads[0].cursor), appended.last().map(|last| last.cursor));
                }
            }
        }
    }
}
