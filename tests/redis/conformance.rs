//! The conformance suite, on one server per test that all clauses share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_events::{
    AnyStore, Channel, RedisStore, Retention,
    store::Clock,
    testing::{Harness, Time, Unable, Wrapped, clauses},
};

use super::server::Server;

/// Stores on one server; each place has a prefix of its own, and each store has its own connections, as on another
/// node.
struct RedisHarness {
    server: Server,
    places: AtomicU32,
}

struct Place {
    prefix: String,
    retention: Retention,
    now: Arc<AtomicU64>,
}

impl RedisHarness {
    async fn start() -> Option<Self> {
        Some(Self { server: Server::start(&[]).await?, places: AtomicU32::new(0) })
    }
}

impl Harness for RedisHarness {
    type Store = RedisStore;
    type Place = Place;

    async fn place(&self, retention: Retention) -> Place {
        let nth = self.places.fetch_add(1, Ordering::Relaxed);
        Place { prefix: format!("test-{nth}"), retention, now: Arc::new(AtomicU64::new(1_732_094_400_000)) }
    }

    async fn open(&self, place: &Place) -> RedisStore {
        let now = Arc::clone(&place.now);
        RedisStore::options()
            .prefix(&place.prefix)
            .retention(place.retention.clone())
            .timeout(Duration::from_secs(30))
            .clock(Clock::new(move || now.load(Ordering::SeqCst)))
            .connect(&self.server.url())
            .await
            .expect("a store")
    }

    fn time(&self) -> Time {
        Time::Controlled
    }

    async fn advance(&self, place: &Place, by: Duration) {
        place.now.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        // Connections and hints take real time, which clauses wait for by advancing the clock.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    async fn lose_tail(&self, place: &Place, channel: &Channel, n: u64) -> Result<(), Unable> {
        let answer =
            self.server.command(&["EVAL", LOSE_TAIL, "0", &place.prefix, channel.as_str(), &n.to_string()]).await;
        assert!(answer.starts_with(":1"), "{answer}");
        Ok(())
    }

    async fn step_back(&self, place: &Place, by: Duration) -> Result<(), Unable> {
        place.now.fetch_sub(by.as_millis() as u64, Ordering::SeqCst);
        Ok(())
    }

    async fn reopen(&self, place: Place, retention: Retention) -> Result<Place, Unable> {
        Ok(Place { retention, ..place })
    }

    async fn wipe(&self, place: Place, retention: Retention) -> Place {
        let answer = self.server.command(&["EVAL", WIPE, "0", &place.prefix]).await;
        assert!(answer.starts_with(':') && !answer.starts_with(":0"), "{answer}");
        Place { retention, ..place }
    }

    /// Makes the server refuse writes; stores get an error at once instead of waiting for a server that hangs.
    async fn begin_trouble(&self, _: &Place) -> Result<(), Unable> {
        self.server.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
        Ok(())
    }

    async fn end_trouble(&self, _: &Place) {
        self.server.command(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract() {
    let Some(harness) = RedisHarness::start().await else { return };
    for clause in clauses::all() {
        println!("clause {}", clause.name());
        clause.run(&harness).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_the_contract_erased() {
    let Some(harness) = RedisHarness::start().await else { return };
    let erased = Wrapped::new(harness, AnyStore::new);
    for clause in clauses::all() {
        println!("clause {}", clause.name());
        clause.run(&erased).await;
    }
}

#[tokio::test]
async fn keeps_the_contract_on_one_thread_with_racing_calls() {
    let Some(harness) = RedisHarness::start().await else { return };
    for clause in clauses::races() {
        println!("clause {}", clause.name());
        clause.run(&harness).await;
    }
}

/// Deletes the keys of a prefix; returns how many there were.
const WIPE: &str = r"
local keys = redis.call('KEYS', '{' .. ARGV[1] .. '}:*')
for _, key in ipairs(keys) do redis.call('DEL', key) end
return #keys";

/// Restores a channel to its state `n` appends ago, as a replica has it that the last appends did not reach.
const LOSE_TAIL: &str = r"
local place, log = '{' .. ARGV[1] .. '}:place', '{' .. ARGV[1] .. '}:log:' .. ARGV[2]
local RECORD = '>c16c4Bc4ddddddddd'
local epoch, tag, closed, etag, seq, eseq, dropped, max, sum, esum, first, stamp, ttl =
  struct.unpack(RECORD, redis.call('HGET', place, 'c:' .. ARGV[2]))
for _ = 1, tonumber(ARGV[3]) do
  local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
  local _, prev, _, _, before, top = struct.unpack('>I4c4dddd', last[2][2])
  redis.call('XDEL', log, last[1])
  seq, tag, max, sum = seq - 1, prev, top, before
end
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
redis.call('XSETID', log, last[1])
redis.call('HSET', place, 'c:' .. ARGV[2],
  struct.pack(RECORD, epoch, tag, closed, etag, seq, eseq, dropped, max, sum, esum, first, stamp, ttl))
return 1";
