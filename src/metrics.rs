//! Publishes what a [`Hub`] counts to the `metrics` facade, and so to any of its exporters.
//!
//! The hub counts whether or not anybody asks; [`HubMetrics::publish`] copies its [`Stats`](crate::Stats) to the recorder that is
//! installed then. Where metrics are collected by requests, as for Prometheus, call it for each request; it takes some
//! microseconds. Otherwise [`HubMetrics::publish_every`] does so at intervals. Delivering an event costs the same with the
//! feature as without it.
//!
//! All names begin with `tower_events_`; `docs/metrics.md` in the repository lists what each means and what to alert on. No label
//! has a value that comes from a client, such as the name of a channel.
//!
//! # Examples
//! The default, for a handler of `/metrics`:
//! ```
//! use metrics_exporter_prometheus::PrometheusBuilder;
//! use tower_events::{Hub, MemoryStore, metrics::HubMetrics};
//!
//! let recorder = PrometheusBuilder::new().build_recorder();
//! let text = recorder.handle(); // in a program: `install_recorder`
//! let hub = HubMetrics::new(Hub::new(MemoryStore::default()));
//! metrics::with_local_recorder(&recorder, || hub.publish());
//! assert!(text.render().contains("tower_events_readers{transport=\"sse\"} 0"));
//! ```
//! Customised: two hubs, with a label of their own, published every ten seconds.
//! ```
//! use std::time::Duration;
//! use tower_events::{Hub, metrics::HubMetrics};
//!
//! fn publish(chat: Hub, jobs: Hub) {
//!     for (name, hub) in [("chat", chat), ("jobs", jobs)] {
//!         let metrics = HubMetrics::new(hub).label("hub", name);
//!         tokio::spawn(metrics.publish_every(Duration::from_secs(10)));
//!     }
//! }
//! # drop(publish);
//! ```

mod publisher;

use std::{
    convert::Infallible,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use self::publisher::{Histograms, Publisher};
use crate::{
    hub::Hub,
    store::{AnyStore, Store},
};

/// Publishes the metrics of a hub. Create one per hub and process: histograms are published as what was added since the last call.
pub struct HubMetrics<S = AnyStore> {
    hub: Hub<S>,
    labels: Vec<(&'static str, String)>,
    published: Mutex<Histograms>,
}

impl<S: Store> HubMetrics<S> {
    /// The metrics of `hub`, without labels of their own.
    pub fn new(hub: Hub<S>) -> Self {
        Self { hub, labels: Vec::new(), published: Mutex::default() }
    }

    /// Adds a label to every metric, to tell several hubs of a process apart.
    #[must_use]
    pub fn label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }

    /// Sets every metric of the recorder to what the hub has counted by now.
    pub fn publish(&self) {
        let stats = self.hub.stats();
        // Held until all is published: of two calls at once neither takes what the other added.
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        *published = Publisher::new(&self.labels).publish(&stats, &published);
    }

    /// Publishes at these intervals, at least a millisecond, for as long as it is polled.
    ///
    /// # Cancel safety
    /// Safe to drop at any point.
    pub async fn publish_every(self, interval: Duration) -> Infallible {
        let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
        loop {
            ticks.tick().await;
            self.publish();
        }
    }
}

impl<S> fmt::Debug for HubMetrics<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubMetrics").field("labels", &self.labels).finish_non_exhaustive()
    }
}
