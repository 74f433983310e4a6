//! `/status`: the stream behind the page at `/`, one event per second with what the server holds and has counted. It is served by
//! the crate itself, from a hub and a store of its own: what they keep is the page's history.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tower_events::{
    Channel, Event, Hub, MemoryStore, Retention, SseService, Stats,
    hub::{Counts, Histogram, Label, ReaderKind, Totals},
    store::Start,
};

/// Watches `hub`; returns the stream, and its hub, which has to drain too.
pub(crate) fn watch(hub: Hub) -> (SseService, Hub) {
    let own = Hub::new(MemoryStore::new(Retention::default().events(HISTORY)));
    #[expect(clippy::expect_used, reason = "a constant")]
    let channel = Channel::new("status").expect("a valid name");
    let stream = SseService::fixed(own.clone(), channel.clone()).start(Start::Earliest);
    tokio::spawn(publish(hub, own.clone(), channel));
    (stream, own)
}

/// How many seconds the page can look back.
const HISTORY: u64 = 300;

const BUSIEST: usize = 10;

async fn publish(hub: Hub, own: Hub, channel: Channel) {
    let (began, mut before) = (Instant::now(), hub.stats().totals);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let stats = hub.stats();
        // That looks at every channel, so only while somebody looks at the page.
        let busiest = if own.stats().readers > 0 { hub.busiest_channels(BUSIEST) } else { Vec::new() };
        let status = status(&stats, &before, began.elapsed(), &busiest);
        before = stats.totals;
        if let Ok(event) = Event::json(&status) {
            _ = own.publish(&channel, event).await; // a store in memory refuses none of this
        }
    }
}

/// What the page shows. Totals are sent as they are, and the page takes their differences: it may have missed some.
fn status(stats: &Stats, before: &Totals, uptime: Duration, busiest: &[(Channel, usize)]) -> Value {
    let Stats {
        readers_by_kind,
        followed_channels,
        ring_bytes,
        running_reads,
        waiting_reads,
        draining,
        store,
        totals,
        ..
    } = stats;
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let lag = totals.delivery_lag.since(&before.delivery_lag);
    let reads = totals.catch_up_reads.since(&before.catch_up_reads);
    let channels: Value = busiest.iter().map(|(channel, readers)| json!([channel.as_str(), readers])).collect();
    json!({
        "at": at,
        "uptime": uptime.as_secs(),
        "channels": channels,
        "readers": counts(readers_by_kind),
        "followed": followed_channels,
        "ring": ring_bytes,
        "running": running_reads,
        "waiting": waiting_reads,
        "draining": draining,
        "store": store.as_str(),
        "lag": [millis(&lag, 0.5), millis(&lag, 0.99)],
        "reads": [millis(&reads, 0.5), millis(&reads, 0.99)],
        "opened": totals.readers.of(ReaderKind::Sse),
        "polls": totals.readers.of(ReaderKind::LongPoll),
        "resumes": totals.resumes.sum(),
        "delivered": totals.deliveries.sum(),
        "published": totals.published_events,
        "duplicates": totals.duplicates,
        "bytes": totals.bytes.sum(),
        "pages": totals.catch_up_pages,
        "resets": counts(&totals.resets),
        "refusals": counts(&totals.refusals),
        "ended": counts(&totals.ended_readers),
        "failures": counts(&totals.publish_failures),
        "read_failures": totals.read_failures.sum(),
    })
}

fn counts<L: Label>(counts: &Counts<L>) -> Value {
    counts.iter().map(|(label, count)| (label.as_str().to_owned(), json!(count))).collect::<Map<_, _>>().into()
}

fn millis(histogram: &Histogram, quantile: f64) -> Option<f64> {
    histogram.quantile(quantile).map(|duration| duration.as_secs_f64() * 1e3)
}
