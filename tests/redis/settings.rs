//! Changed retention, and nodes with different retention: nothing is dropped that the larger setting keeps.

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
    support::{server, text, until},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A server for nodes that use a clock of their own.
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

    /// How often a command was called so far.
    async fn calls(&self, command: &str) -> u64 {
        let stats = self.server.info(&format!("cmdstat_{command}")).await;
        stats.split(['=', ',']).nth(1).and_then(|calls| calls.parse().ok()).expect("calls")
    }

    async fn life_of(&self, key: &str) -> Duration {
        let life = self.server.command(&["PTTL", &format!("{{tower-events}}:{key}")]).await;
        let life: i64 = life.trim().trim_start_matches(':').parse().unwrap();
        Duration::from_millis(life.try_into().expect("a key with an expiry"))
    }
}

async fn kept(store: &RedisStore, name: &str) -> Vec<Entry> {
    let limit = Limit::new(10_000, 16 << 20);
    store.read(&channel(name), Start::Earliest, limit).await.unwrap().entries
}

fn keyed(key: &str) -> Append {
    Append::new([Event::text("x").keyed(key).unwrap()])
}

/// The expiry of a key depends on the retention at the time it was set.
#[tokio::test]
async fn raising_the_age_or_the_window_extends_the_expiry_of_existing_keys() {
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
    until("the unused log expires later too", MINUTE, async || setup.life_of("log:idle").await > HOUR).await;
    for name in ["used", "idle"] {
        let keys = setup.server.command(&["KEYS", &format!("*keys*:{name}")]).await;
        let key = keys.lines().find_map(|line| line.strip_prefix("{tower-events}:")).unwrap();
        until("its idempotency keys are remembered longer too", MINUTE, async || setup.life_of(key).await > HOUR).await;
    }
}

#[tokio::test]
async fn the_node_that_keeps_more_entries_decides() {
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
async fn the_node_that_keeps_more_bytes_decides() {
    let setup = Setup::of(server!());
    let less = setup.node(Retention::default().bytes(4000)).await;
    let more = setup.node(Retention::default().bytes(1 << 20)).await;
    for _ in 0..100 {
        less.append(&channel("a"), text(&"x".repeat(1000))).await.unwrap();
    }
    assert_eq!((kept(&less, "a").await.len(), kept(&more, "a").await.len()), (100, 100));
}

#[tokio::test]
async fn the_node_that_keeps_entries_longer_decides() {
    let setup = Setup::of(server!());
    let brief = Duration::from_secs(10);
    let less = setup.node(Retention::default().age(brief).forget_after(brief).key_window(brief)).await;
    let more = setup.node(Retention::default()).await;
    let first = less.append(&channel("a"), keyed("k")).await.unwrap();
    for minutes in 1..=9 {
        setup.advance(MINUTE);
        // Both are in use: they read, follow and append elsewhere.
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
async fn the_node_that_forgets_later_decides() {
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

/// Some time after the node that kept more is gone, the others keep what they were configured to keep.
#[tokio::test]
async fn the_setting_of_a_node_that_is_gone_no_longer_counts() {
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

/// Each setting is lowered and raised again with a restart: what both keep is available throughout.
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

/// The larger of each setting applies, even if the settings come from different nodes.
#[tokio::test]
async fn heads_of_a_retained_channel_need_no_script() {
    let setup = Setup::of(server!());
    let brief = Duration::from_secs(10);
    let nodes = [(brief, HOUR), (HOUR, brief)]
        .map(|(age, forget)| setup.node(Retention::default().age(age).forget_after(forget).key_window(brief)));
    let [one, other] = nodes;
    let (one, other) = (one.await, other.await);
    let first = one.append(&channel("a"), text("x")).await.unwrap();
    for _ in 0..35 {
        setup.advance(2 * MINUTE);
        for node in [&one, &other] {
            node.append(&channel("other"), text("x")).await.unwrap();
        }
    }
    for node in [&one, &other] {
        let before = setup.calls("evalsha").await;
        for _ in 0..20 {
            assert_eq!(node.heads(&[channel("a")]).await.unwrap(), [first.head]);
        }
        // The janitor may run.
        let scripts = setup.calls("evalsha").await - before;
        assert!(scripts < 20, "{scripts}");
    }
}

/// Between two requests, the floor of a shared bucket could rise above a channel that was created meanwhile.
#[tokio::test]
async fn heads_of_absent_channels_are_one_request() {
    let setup = Setup::of(server!());
    let node = setup.node(Retention::default()).await;
    let there = node.append(&channel("a"), text("x")).await.unwrap().head;
    node.append(&channel("gone"), text("x")).await.unwrap();
    node.delete(&channel("gone")).await.unwrap();
    let before = setup.calls("hmget").await;
    for _ in 0..20 {
        let heads = node.heads(&[channel("b"), channel("gone"), channel("a")]).await.unwrap();
        assert_eq!((heads[0].cursor.seq, heads[2]), (0, there));
        assert!(heads[1].cursor.seq > 1, "its floor has risen");
    }
    // The janitor's script sends a request now and then too.
    let questions = setup.calls("hmget").await - before;
    assert!((20..40).contains(&questions), "{questions}");
}

#[tokio::test]
async fn a_channel_that_is_due_is_read_while_the_server_accepts_no_writes() {
    let setup = Setup::of(server!());
    let node = setup.node(Retention::default().age(MINUTE).forget_after(MINUTE).key_window(MINUTE)).await;
    let head = node.append(&channel("due"), text("x")).await.unwrap().head;
    let other = node.append(&channel("due too"), text("x")).await.unwrap().head;
    setup.server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    setup.advance(HOUR);
    for start in [Start::Earliest, Start::After(head.cursor)] {
        let page = node.read(&channel("due"), start, Limit::default()).await.unwrap();
        assert_eq!((page.outcome, page.head, page.entries.len()), (Outcome::Continued, head, 0));
    }
    let heads = node.heads(&[channel("due"), channel("due too")]).await.unwrap();
    assert_eq!(heads, [head, other]);
    setup.server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    let page = node.read(&channel("due"), Start::After(head.cursor), Limit::default()).await.unwrap();
    assert!(page.outcome != Outcome::Continued && page.head.cursor.seq > head.cursor.seq, "{page:?}");
}
