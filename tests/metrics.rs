//! What a hub counts, by what clients do to it over sockets, and the metrics that it publishes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::Router;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use support::{App, Server, channel, eventually, eventually_eq, serve};
use tower_events::{
    Channels, Delivery, Event, EventService, Hub, HubOptions, MemoryStore, PublishService, Retention, Subscription,
    hub::{EndReason, Histogram, Label, PublishFailure, ReadPurpose, ReaderKind, RefusedBy, Totals},
    metrics::HubMetrics,
    store::{Health, Reason},
    testing::FaultStore,
};

const SSE: ReaderKind = ReaderKind::Sse;
const POLL: ReaderKind = ReaderKind::LongPoll;

async fn serve_hub(hub: &Hub) -> Server {
    let publish = PublishService::new(hub.clone(), Channels::from_query).max_event(100);
    let events = EventService::new(hub.clone(), Channels::from_query);
    serve(Router::new().route_service("/events", events).route_service("/publish", publish)).await
}

#[tokio::test]
async fn readers_deliveries_and_bytes_are_counted_by_transport() {
    let app = App::start().await;
    let mut stream = app.get("/events?channel=a").sse().await;
    stream.live().await;
    let polled = async { app.get("/events?channel=a").send().await };
    let published = async {
        eventually_eq("a stream and a poll", [1, 1], || {
            [SSE, POLL].map(|kind| app.hub.stats().readers_by_kind.of(kind))
        })
        .await;
        app.publish("a", Event::text("hello")).await;
    };
    let (poll, ()) = tokio::join!(polled, published);
    stream.next().await;
    let totals = app.hub.stats().totals;
    assert_eq!([SSE, POLL].map(|kind| totals.deliveries.of(kind)), [1, 1]);
    assert_eq!([SSE, POLL].map(|kind| totals.bytes.of(kind)), [stream.text().len() as u64, poll.body.len() as u64]);
    assert_eq!((totals.publishes, totals.published_events, totals.duplicates), (1, 1, 0));
    assert!((1..=2).contains(&totals.delivery_lag.count()), "the very first delivery is measured");
    let subscriber = app.hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let kinds = [ReaderKind::InProcess, SSE, POLL];
    assert_eq!(kinds.map(|kind| app.hub.stats().readers_by_kind.of(kind)), [1, 1, 0]);
    drop((subscriber, stream));
    eventually("all leave", || app.hub.stats().readers == 0).await;
    let stats = app.hub.stats();
    assert_eq!(kinds.map(|kind| (stats.readers_by_kind.of(kind), stats.totals.readers.of(kind))), [(0, 1); 3]);
}

#[tokio::test]
async fn what_readers_keep_up_with_is_timed_and_what_they_catch_up_on_is_not() {
    let app = App::start().await;
    app.publish_many("a", 300).await;
    let mut stream = app.get("/events?channel=a&after=earliest").sse().await;
    stream.take(300).await;
    stream.live().await;
    let totals = app.hub.stats().totals;
    assert_eq!((totals.delivery_lag.count(), totals.deliveries.of(SSE)), (0, 300));
    for _ in 0..24 {
        app.publish("a", Event::text("live")).await;
        stream.next().await;
    }
    let lag = app.hub.stats().totals.delivery_lag;
    assert!((3..=4).contains(&lag.count()) && lag.sum() < Duration::from_secs(60), "{lag:?}");
}

#[tokio::test]
async fn resumes_and_resets_are_counted_by_reason() {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(4)));
    let server = serve_hub(&hub).await;
    let first = hub.publish(&channel("a"), Event::text("1")).await.unwrap().cursor;
    let mut last = first;
    for n in 2..20 {
        last = hub.publish(&channel("a"), Event::text(n.to_string())).await.unwrap().cursor;
    }
    let ahead = tower_events::Cursor { seq: last.seq + 9, ..last };
    for (kind, id) in [(SSE, first), (POLL, first), (SSE, ahead), (SSE, last)] {
        let accept = if kind == SSE { "text/event-stream" } else { "application/json" };
        let request = server.get("/events?channel=a").header("accept", accept).last_event_id(id.to_string());
        let mut answer = request.open().await;
        answer.body.chunk().await.unwrap().unwrap();
    }
    server.get("/events?channel=a&wait=0").last_event_id("nonsense").send().await;
    let totals = hub.stats().totals;
    let reasons = [Reason::Trimmed, Reason::Ahead, Reason::EpochChanged, Reason::Unknown];
    assert_eq!(reasons.map(|reason| totals.resets.of(reason)), [2, 1, 0, 1]);
    assert_eq!([SSE, POLL].map(|kind| totals.resumes.of(kind)), [3, 2]);
    assert!(totals.ring_misses > 0 && totals.catch_up_pages > 0, "{totals:?}");
    assert!(totals.catch_up_reads.count() >= totals.catch_up_pages && totals.head_reads.count() > 0, "{totals:?}");
}

#[tokio::test]
async fn publishes_are_counted_with_duplicates_failures_and_refusals() {
    let hub = Hub::new(MemoryStore::default());
    let server = serve_hub(&hub).await;
    let publish = async |key: &str, body: &str| {
        let request = server.post("/publish?channel=a", "text/plain", body).header("idempotency-key", key);
        request.send().await.status
    };
    assert_eq!([publish("1", "a").await, publish("1", "a").await, publish("2", "b").await], [200, 200, 200]);
    assert_eq!(publish("1", "other").await, 422);
    assert_eq!(publish("3", &"x".repeat(101)).await, 422);
    hub.close(&channel("a")).await.unwrap();
    assert_eq!(publish("4", "c").await, 409);
    let totals = hub.stats().totals;
    assert_eq!((totals.publishes, totals.published_events, totals.duplicates), (4, 2, 1), "one closed the channel");
    let failures =
        [PublishFailure::KeyReused, PublishFailure::Closed].map(|failure| totals.publish_failures.of(failure));
    assert_eq!((failures, totals.publish_failures.sum()), ([1, 1], 2));
}

#[tokio::test]
async fn refusals_are_counted_by_limit_and_readers_that_the_hub_ends_by_reason() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().max_readers(1));
    let server = serve_hub(&hub).await;
    let mut stream = server.get("/events?channel=a").sse().await;
    stream.live().await;
    for _ in 0..2 {
        assert_eq!(server.get("/events?channel=a").sse().await.remaining().await.len(), 1, "stream-retry");
    }
    assert_eq!(server.post("/publish?channel=a", "text/plain", "x".repeat(2 << 20)).send().await.status, 413);
    assert!(!hub.stats().draining);
    hub.drain(Duration::from_secs(1)).await;
    stream.remaining().await;
    assert_eq!(server.get("/events?channel=a").send().await.status, 503);
    let stats = hub.stats();
    assert!(stats.draining);
    let limits = [RefusedBy::MaxReaders, RefusedBy::PublishSize, RefusedBy::Drain];
    assert_eq!(limits.map(|limit| stats.totals.refusals.of(limit)), [2, 1, 1]);
    assert_eq!(stats.totals.refusals.sum(), 4);
    assert_eq!((stats.totals.ended_readers.of(EndReason::Drained), stats.totals.ended_readers.sum()), (1, 1));
}

#[tokio::test]
async fn a_store_that_fails_is_counted_by_what_it_was_asked_for() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::new(store);
    let server = serve_hub(&hub).await;
    let cursor = hub.publish(&channel("a"), Event::text("1")).await.unwrap().cursor;
    hub.publish(&channel("a"), Event::text("2")).await.unwrap();
    faults.fail_next_heads(9);
    faults.fail_next_reads(9);
    assert_eq!(server.get("/events?channel=a").last_event_id(cursor.to_string()).send().await.status, 503);
    let totals = hub.stats().totals;
    assert!(totals.read_failures.sum() > 0, "{totals:?}");
    assert_eq!(totals.ended_readers.of(EndReason::StoreFailed), 1);
}

#[tokio::test]
async fn the_busiest_channels_are_those_with_the_most_readers() {
    let app = App::start().await;
    let mut streams = Vec::new();
    for name in ["a", "b", "b", "c", "c", "c"] {
        streams.push(app.get(&format!("/events?channel={name}")).sse().await);
    }
    let busiest = app.hub.busiest_channels(2);
    assert_eq!(busiest, [(channel("c"), 3), (channel("b"), 2)]);
    drop(streams);
    eventually("all leave", || app.hub.busiest_channels(2).is_empty()).await;
}

#[tokio::test]
async fn the_documented_metrics_are_those_that_are_published() {
    let published = Exported::of(&Hub::new(MemoryStore::default()));
    let documented: BTreeMap<_, _> = documented().into_iter().map(|row| (row.name.clone(), row)).collect();
    let names = |exported: &BTreeMap<String, String>| exported.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), names(&published.types));
    for (name, row) in &documented {
        assert_eq!(row.kind, published.types[name], "{name}");
        let suffix = match row.kind.as_str() {
            "counter" => name.ends_with("_total"),
            "histogram" => name.ends_with("_seconds"),
            _ => !name.ends_with("_total"),
        };
        assert!(suffix, "{name} is not named as a {}", row.kind);
        assert!(published.has_help(name), "{name} is not described");
    }
}

#[tokio::test]
async fn the_documented_labels_are_those_that_are_published() {
    let hub = Hub::new(MemoryStore::default());
    // Nothing that a client names becomes a label.
    let _stream = hub.subscribe(Subscription::new(channel("secret-channel"))).await.unwrap();
    hub.publish(&channel("secret-channel"), Event::text("secret-data")).await.unwrap();
    let published = Exported::of(&hub);
    assert!(!published.text.contains("secret"), "{}", published.text);
    for row in documented() {
        let labels = published.labels(&row.name);
        for (label, value) in &labels {
            assert!(row.labels.contains(&format!("`{label}`")), "{} {label}", row.name);
            let is_named = row.labels.contains(&format!("`{value}`"));
            assert!(is_named || ["transport", "purpose"].contains(&label.as_str()), "{} {label}={value}", row.name);
        }
        let values: BTreeSet<_> = row.labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let seen: BTreeSet<_> = labels.iter().flat_map(|(label, value)| [label.clone(), value.clone()]).collect();
        let missing: Vec<_> = values.difference(&seen).collect();
        assert!(missing.is_empty(), "{} never has {missing:?}", row.name);
    }
}

#[tokio::test]
async fn histograms_are_exported_with_exact_counts_and_sums() {
    let hub = Hub::new(MemoryStore::default());
    let mut subscriber = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let (recorder, metrics) = (prometheus(), HubMetrics::new(hub.clone()).label("hub", "chat"));
    let text = recorder.handle();
    for round in 1..=3 {
        hub.publish(&channel("a"), Event::text("x")).await.unwrap();
        let Some(Ok(Delivery::Events(_))) = subscriber.next().await else { panic!() };
        metrics::with_local_recorder(&recorder, || metrics.publish());
        let (text, lag) = (text.render(), hub.stats().totals.delivery_lag);
        assert_eq!(value(&text, "tower_events_delivery_lag_seconds_count{hub=\"chat\"}"), lag.count() as f64);
        let sum = value(&text, "tower_events_delivery_lag_seconds_sum{hub=\"chat\"}");
        assert!((sum - lag.sum().as_secs_f64()).abs() < 1e-6, "{sum} {lag:?}");
        let mut below = 0;
        for (bucket, bound) in lag.buckets().zip(Histogram::BOUNDS) {
            below += bucket.count;
            let series =
                format!("tower_events_delivery_lag_seconds_bucket{{hub=\"chat\",le=\"{}\"}}", bound.as_secs_f64());
            assert_eq!(value(&text, &series), below as f64, "{series}");
        }
        assert_eq!(value(&text, "tower_events_publishes_total{hub=\"chat\"}"), f64::from(round));
    }
}

#[test]
fn every_label_has_its_values() {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(values::<ReaderKind>(), names(&["in-process", "sse", "longpoll"]));
    assert_eq!(values::<ReadPurpose>(), names(&["catch-up", "advance", "heads"]));
    assert_eq!(Totals::default().resets.sum(), 0);
    assert_eq!(Health::default().as_str(), "ready");
}

fn values<L: Label>() -> Vec<String> {
    L::ALL.iter().map(|label| label.as_str().to_owned()).collect()
}

fn prometheus() -> metrics_exporter_prometheus::PrometheusRecorder {
    let bounds = Histogram::BOUNDS.map(|bound| bound.as_secs_f64());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &bounds);
    builder.unwrap().build_recorder()
}

/// What a hub publishes, as Prometheus reads it.
struct Exported {
    text: String,
    types: BTreeMap<String, String>,
}

impl Exported {
    fn of(hub: &Hub) -> Self {
        let recorder = prometheus();
        metrics::with_local_recorder(&recorder, || HubMetrics::new(hub.clone()).publish());
        let text = recorder.handle().render();
        let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let types = types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect();
        Self { types, text }
    }

    fn has_help(&self, name: &str) -> bool {
        self.text.lines().any(|line| line.starts_with(&format!("# HELP {name} ")))
    }

    /// The labels of all series of a metric, but for the bounds of buckets.
    fn labels(&self, name: &str) -> BTreeSet<(String, String)> {
        let series = self.text.lines().filter_map(|line| line.strip_prefix(name)?.split_once('{'));
        let series = series.filter(|(suffix, _)| ["", "_bucket", "_count", "_sum"].contains(suffix));
        let labels = series.flat_map(|(_, rest)| rest.split_once('}').unwrap().0.split(','));
        let labels = labels.filter_map(|label| label.split_once("=\"")).filter(|(name, _)| *name != "le");
        labels.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned())).collect()
    }
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().unwrap()
}

/// A row of the table.
struct Documented {
    name: String,
    kind: String,
    labels: String,
}

fn documented() -> Vec<Documented> {
    let page = include_str!("../docs/metrics.md");
    let rows = page.lines().filter(|line| line.starts_with("| `tower_events_"));
    let rows = rows.map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else { panic!("{line}") };
        Documented { name: name.trim_matches('`').to_owned(), kind: kind.to_owned(), labels: labels.to_owned() }
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 20);
    rows
}
