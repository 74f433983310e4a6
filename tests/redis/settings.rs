//! Retention that is changed, and nodes that do not agree about it: nothing goes that the larger setting keeps.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_events::{
    Event, RedisStore, Retention, Store,
    store::{Append, Clock, Entry, Expect, Limit, Outcome, Start},
};

use super::{
    load::channel,
    server::Server,
    watch::{server, text, until},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A server whose nodes have a clock of their own.
struct Setup {
    server: Server,
    now: Arc<AtomicU64>,
}

impl Setup {
    fn of(server: Server) -> Self {
        Self { server, now: Arc::new(AtomicU64::new(1_732_094_400_000)) }
    }

    async fn node(&self, retention: Retention) -> RedisStore {
        let now = Arc::clone(&self.now);
        let options = RedisStore::options().retention(retention).clock(Clock::new(move || now.load(Ordering::SeqCst)));
        options.connect(&self.server.url()).await.unwrap()
    }

    fn advance(&self, by: Duration) {
        self.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    async fn life_of(&self, key: &str) -> Duration {
        let life = self.server.command(&["PTTL", &format!("{{tower-events}}:{key}")]).await;
        let life: i64 = life.trim().trim_start_matches(':').parse().unwrap();
        Duration::from_millis(life.try_into().expect("a life that ends"))
    }
}

async fn kept(store: &RedisStore, name: &str) -> Vec<Entry> {
    let limit = Limit { events: 10_000, bytes: 16 << 20 };
    store.read(&channel(name), Start::Earliest, limit).await.unwrap().entries
}

fn keyed(key: &str) -> Append {
    Append::new([Event::text("x").keyed(key).unwrap()])
}

/// The expiry of a key comes from what was kept when it was set.
#[tokio::test]
async fn raising_the_age_or_the_window_makes_what_is_there_live_longer() {
    let server = server!();
    let short = Retention::default().age(Duration::from_secs(10)).key_window(Duration::from_secs(10));
    let before = RedisStore::options().retention(short).connect(&server.url()).await.unwrap();
    for name in ["used", "idle"] {
        before.append(&channel(name), keyed("k")).await.unwrap();
    }
    drop(before);
    let long = Retention::default().age(HOUR).key_window(HOUR);
    let after = RedisStore::options().retention(long).connect(&server.url()).await.unwrap();
    after.append(&channel("used"), text("x")).await.unwrap();
    let setup = Setup::of(server);
    assert!(setup.life_of("log:used").await > HOUR);
    until("the log that nobody uses lives longer too", MINUTE, async || setup.life_of("log:idle").await > HOUR).await;
    for name in ["used", "idle"] {
        let keys = setup.server.command(&["KEYS", &format!("*keys*:{name}")]).await;
        let key = keys.lines().find_map(|line| line.strip_prefix("{tower-events}:")).unwrap();
        until("its keys are remembered longer too", MINUTE, async || setup.life_of(key).await > HOUR).await;
    }
}

#[tokio::test]
async fn of_two_nodes_the_one_that_keeps_more_entries_decides() {
    let setup = Setup::of(server!());
    let less = setup.node(Retention::default().events(10)).await;
    let more = setup.node(Retention::default().events(1000)).await;
    for n in 0..200 {
        less.append(&channel("a"), text(&n.to_string())).await.unwrap();
    }
    assert_eq!((kept(&less, "a").await.len(), kept(&more, "a").await.len()), (200, 200));
    less.init(&channel("a"), (0..300).map(|n| Event::text(n.to_string())).collect(), Expect::Any).await.unwrap();
    assert_eq!(kept(&more, "a").await.len(), 300);
}

#[tokio::test]
async fn of_two_nodes_the_one_that_keeps_more_bytes_decides() {
    let setup = Setup::of(server!());
    let less = setup.node(Retention::default().bytes(4000)).await;
    let more = setup.node(Retention::default().bytes(1 << 20)).await;
    for _ in 0..100 {
        less.append(&channel("a"), text(&"x".repeat(1000))).await.unwrap();
    }
    assert_eq!((kept(&less, "a").await.len(), kept(&more, "a").await.len()), (100, 100));
}

#[tokio::test]
async fn of_two_nodes_the_one_that_keeps_them_longer_decides() {
    let setup = Setup::of(server!());
    let brief = Duration::from_secs(10);
    let less = setup.node(Retention::default().age(brief).forget_after(brief).key_window(brief)).await;
    let more = setup.node(Retention::default()).await;
    let first = less.append(&channel("a"), keyed("k")).await.unwrap();
    for minutes in 1..=9 {
        setup.advance(MINUTE);
        // Both are in use: what is read, followed and appended elsewhere.
        less.append(&channel("less"), text("x")).await.unwrap();
        more.append(&channel("more"), text("x")).await.unwrap();
        for node in [&less, &more] {
            assert_eq!(kept(node, "a").await, first.entries, "after {minutes} minutes");
            assert_eq!(node.heads(&[channel("a")]).await.unwrap(), [first.head]);
        }
        let again = less.append(&channel("a"), keyed("k")).await.unwrap();
        assert!(again.receipts[0].duplicate, "after {minutes} minutes");
    }
}

#[tokio::test]
async fn of_two_nodes_the_one_that_forgets_later_decides() {
    let setup = Setup::of(server!());
    let brief = Duration::from_secs(10);
    let less = setup.node(Retention::default().age(brief).forget_after(brief).key_window(brief)).await;
    let more = setup.node(Retention::default().age(brief).forget_after(HOUR).key_window(brief)).await;
    let first = less.append(&channel("a"), text("x")).await.unwrap();
    for _ in 0..15 {
        setup.advance(2 * MINUTE);
        for node in [&less, &more] {
            node.append(&channel("other"), text("x")).await.unwrap();
            assert_eq!(node.heads(&[channel("a")]).await.unwrap(), [first.head]);
            let page = node.read(&channel("a"), Start::After(first.head.cursor), Limit::default()).await.unwrap();
            assert_eq!((page.outcome, page.head), (Outcome::Continued, first.head));
        }
    }
}

/// Once the node that kept more is gone for a while, the others keep what they were told to.
#[tokio::test]
async fn what_a_node_kept_that_is_gone_counts_no_more() {
    let setup = Setup::of(server!());
    let more = setup.node(Retention::default().events(1000)).await;
    let less = setup.node(Retention::default().events(10)).await;
    for n in 0..100 {
        more.append(&channel("a"), text(&n.to_string())).await.unwrap();
    }
    drop(more);
    setup.advance(10 * MINUTE);
    less.append(&channel("a"), text("100")).await.unwrap();
    let left = kept(&less, "a").await.len();
    assert!((10..=20).contains(&left), "{left}");
}

/// Each setting lowered and raised again with a restart: what both keep is there throughout.
#[tokio::test]
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
    let server = server!();
    let setup = Setup::of(server);
    for (nth, set) in settings.into_iter().enumerate() {
        for (order, steps) in [[&large, &small, &large], [&small, &large, &small]].into_iter().enumerate() {
            setup.server.command(&["FLUSHALL"]).await;
            let name = channel(&format!("{nth}/{order}"));
            let mut appended: Vec<Entry> = Vec::new();
            for (step, keep) in steps.into_iter().enumerate() {
                let node = setup.node(set(Retention::default(), keep)).await;
                for n in 0..5 {
                    let again = node.append(&name, keyed(&n.to_string())).await.unwrap();
                    assert!(
                        step == 0 || again.receipts[0].duplicate,
                        "setting {nth}, step {step}: key {n} is forgotten"
                    );
                    appended.extend(again.entries);
                }
                for _ in 0..3 {
                    appended.extend(node.append(&name, text("more")).await.unwrap().entries);
                }
                assert_eq!(kept(&node, name.as_str()).await, appended, "setting {nth}, step {step}");
                setup.advance(Duration::from_secs(20));
                assert_eq!(
                    node.heads(std::slice::from_ref(&name)).await.unwrap()[0].cursor,
                    appended.last().unwrap().cursor
                );
            }
        }
    }
}
