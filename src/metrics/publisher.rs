//! The names of the metrics, and how statistics become their values.

use std::time::Duration;

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{
    hub::{self, Counts, Histogram, Stats, Totals},
    store::Health,
};

/// Sets metrics that all have these labels.
pub(super) struct Publisher<'a> {
    labels: &'a [(&'static str, String)],
}

/// The histograms that were published before.
#[derive(Default)]
pub(super) struct Histograms {
    catch_up_reads: Histogram,
    advancing_reads: Histogram,
    head_reads: Histogram,
    delivery_lag: Histogram,
}

/// What a metric is called, what it is counted in, and what it means.
#[derive(Clone, Copy)]
struct Metric {
    name: &'static str,
    unit: Unit,
    help: &'static str,
}

const fn count(name: &'static str, help: &'static str) -> Metric {
    Metric { name, unit: Unit::Count, help }
}

const fn bytes(name: &'static str, help: &'static str) -> Metric {
    Metric { name, unit: Unit::Bytes, help }
}

const fn seconds(name: &'static str, help: &'static str) -> Metric {
    Metric { name, unit: Unit::Seconds, help }
}

impl<'a> Publisher<'a> {
    pub(super) fn new(labels: &'a [(&'static str, String)]) -> Self {
        Self { labels }
    }

    /// Publishes all of `stats`; returns its histograms, for the next call.
    pub(super) fn publish(&self, stats: &Stats, before: &Histograms) -> Histograms {
        self.held(stats);
        self.readers(&stats.totals);
        self.publishes(&stats.totals);
        self.store(stats);
        self.histograms(&stats.totals, before)
    }

    fn held(&self, stats: &Stats) {
        let readers = count("tower_events_readers", "Open readers: streams, parked polls, in-process subscribers");
        for (kind, readers_of_kind) in stats.readers_by_kind.iter() {
            self.gauge(readers, Some(("transport", hub::Label::as_str(kind))), readers_of_kind as f64);
        }
        let followed = count("tower_events_followed_channels", "Channels that have readers or had some a moment ago");
        self.gauge(followed, None, stats.followed_channels as f64);
        let lingering = count("tower_events_lingering_channels", "Followed channels without a reader");
        self.gauge(lingering, None, stats.lingering_channels as f64);
        let ring = bytes("tower_events_ring_bytes", "Memory of the recent events of followed channels");
        self.gauge(ring, None, stats.ring_bytes as f64);
        let draining = count("tower_events_draining", "1 once the hub drains");
        self.gauge(draining, None, f64::from(u8::from(stats.draining)));
    }

    fn readers(&self, totals: &Totals) {
        self.counts(
            count("tower_events_readers_opened_total", "Readers that were admitted"),
            "transport",
            &totals.readers,
        );
        self.counts(
            count("tower_events_resumes_total", "Admitted readers that brought a position"),
            "transport",
            &totals.resumes,
        );
        self.counts(
            count("tower_events_readers_ended_total", "Readers that the hub ended"),
            "reason",
            &totals.ended_readers,
        );
        self.counts(
            count("tower_events_deliveries_total", "Events that were handed to readers"),
            "transport",
            &totals.deliveries,
        );
        self.counts(
            bytes("tower_events_sent_bytes_total", "Bytes of bodies that were handed to the HTTP server"),
            "transport",
            &totals.bytes,
        );
        self.counts(count("tower_events_resets_total", "Resets that were handed to readers"), "reason", &totals.resets);
        self.counts(
            count("tower_events_refusals_total", "Requests and reads that were over a limit"),
            "limit",
            &totals.refusals,
        );
        self.counter(
            count("tower_events_ring_misses_total", "Positions that were not among a channel's recent events"),
            None,
            totals.ring_misses,
        );
        self.counter(
            count("tower_events_catch_up_pages_total", "Pages that were read for readers that catch up"),
            None,
            totals.catch_up_pages,
        );
        self.counter(
            count("tower_events_revoked_pages_total", "Pages that were taken back from stalled readers"),
            None,
            totals.revoked_pages,
        );
    }

    fn publishes(&self, totals: &Totals) {
        self.counter(count("tower_events_publishes_total", "Appends that succeeded"), None, totals.publishes);
        self.counter(
            count("tower_events_published_events_total", "Events that were appended"),
            None,
            totals.published_events,
        );
        self.counter(
            count("tower_events_duplicates_total", "Events whose key had been used for them before"),
            None,
            totals.duplicates,
        );
        self.counts(
            count("tower_events_publish_failures_total", "Appends that failed"),
            "error",
            &totals.publish_failures,
        );
    }

    fn store(&self, stats: &Stats) {
        let health = count("tower_events_store_health", "1 for the state that the store is in");
        for state in [Health::Ready, Health::Degraded, Health::ReadOnly, Health::Unavailable] {
            self.gauge(health, Some(("state", state.as_str())), f64::from(u8::from(stats.store == state)));
        }
        let lag =
            seconds("tower_events_store_janitor_lag_seconds", "For how long the store's janitor has had work left");
        self.gauge(lag, None, stats.upkeep.janitor_lag.as_secs_f64());
        let conflicts = count("tower_events_store_conflicts_total", "Writes that gave way to one of another process");
        self.counter(conflicts, None, stats.upkeep.conflicts);
        let running = count("tower_events_store_reads_running", "Reads under way for readers that catch up");
        self.gauge(running, None, stats.running_reads as f64);
        let waiting = count("tower_events_store_reads_waiting", "Reads that wait to start");
        self.gauge(waiting, None, stats.waiting_reads as f64);
        self.counts(
            count("tower_events_store_read_failures_total", "Calls that failed"),
            "purpose",
            &stats.totals.read_failures,
        );
    }

    fn histograms(&self, totals: &Totals, before: &Histograms) -> Histograms {
        let reads = seconds("tower_events_store_read_seconds", "Time of a call to the store that succeeded");
        let now = Histograms {
            catch_up_reads: totals.catch_up_reads,
            advancing_reads: totals.advancing_reads,
            head_reads: totals.head_reads,
            delivery_lag: totals.delivery_lag,
        };
        let purpose = |purpose: hub::ReadPurpose| Some(("purpose", hub::Label::as_str(purpose)));
        self.histogram(reads, purpose(hub::ReadPurpose::CatchUp), &now.catch_up_reads.since(&before.catch_up_reads));
        self.histogram(reads, purpose(hub::ReadPurpose::Advance), &now.advancing_reads.since(&before.advancing_reads));
        self.histogram(reads, purpose(hub::ReadPurpose::Heads), &now.head_reads.since(&before.head_reads));
        let lag =
            seconds("tower_events_delivery_lag_seconds", "From append to hand-over, of readers that keep up; a sample");
        self.histogram(lag, None, &now.delivery_lag.since(&before.delivery_lag));
        now
    }
}

/// One metric. It is described every time, because a recorder may have been installed since.
impl Publisher<'_> {
    fn gauge(&self, Metric { name, unit, help }: Metric, label: Option<(&'static str, &'static str)>, value: f64) {
        describe_gauge!(name, unit, help);
        gauge!(name, self.labels(label)).set(value);
    }

    fn counter(&self, Metric { name, unit, help }: Metric, label: Option<(&'static str, &'static str)>, value: u64) {
        describe_counter!(name, unit, help);
        counter!(name, self.labels(label)).absolute(value);
    }

    fn counts<L: hub::Label>(&self, metric: Metric, name: &'static str, counts: &Counts<L>) {
        for (label, count) in counts.iter() {
            self.counter(metric, Some((name, label.as_str())), count);
        }
    }

    /// Adds durations. Each is published as the mean of its bucket, which lies within it: so an exporter with the same bounds has
    /// the same counts, and every exporter the same sum.
    fn histogram(
        &self,
        Metric { name, unit, help }: Metric,
        label: Option<(&'static str, &'static str)>,
        added: &Histogram,
    ) {
        describe_histogram!(name, unit, help);
        let published = histogram!(name, self.labels(label));
        let bounds = Histogram::BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        for (bucket, bound) in added.buckets().zip(bounds).filter(|(bucket, _)| bucket.count > 0) {
            // Rounding must not carry it over the bound.
            let mean = (bucket.sum.as_secs_f64() / bucket.count as f64).min(bound);
            published.record_many(mean, usize::try_from(bucket.count).unwrap_or(usize::MAX));
        }
    }

    fn labels(&self, label: Option<(&'static str, &'static str)>) -> Vec<Label> {
        let own = label.map(|(name, value)| Label::from_static_parts(name, value));
        own.into_iter().chain(self.labels.iter().map(|(name, value)| Label::new(*name, value.clone()))).collect()
    }
}
