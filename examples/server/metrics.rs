//! `/metrics`: what the hub counts, in the text format of Prometheus.

use std::error::Error;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tower_events::{Hub, hub::Histogram, metrics::HubMetrics};

pub(crate) struct Metrics {
    hub: HubMetrics,
    text: PrometheusHandle,
}

impl Metrics {
    /// Installs the recorder; once per process.
    pub(crate) fn install(hub: Hub) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let bounds = Histogram::BOUNDS.map(|bound| bound.as_secs_f64()); // as the hub counts, so that nothing is lost
        let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &bounds)?;
        Ok(Self { hub: HubMetrics::new(hub), text: builder.install_recorder()? })
    }

    pub(crate) fn render(&self) -> String {
        self.hub.publish();
        self.text.render()
    }
}
