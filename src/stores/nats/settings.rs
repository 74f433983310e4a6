//! The configuration of a store.

use std::time::Duration;

use serde_json::{Value, json};

use super::timing::nanos;
use crate::store::{Retention, kit::Keep};

/// The settings that an open store keeps.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) prefix: String,
    pub(super) keep: Keep,
    pub(super) retention: Retention,
    pub(super) replicas: usize,
    pub(super) memory: bool,
    pub(super) max_bytes: Option<u64>,
    /// How long an operation may take.
    pub(super) timeout: Duration,
    /// How long one request may take: less, so that a second attempt fits.
    pub(super) request_timeout: Duration,
}

impl Settings {
    /// The request that creates the stream, with all subjects below `root`.
    pub(super) fn stream(&self, root: &str) -> Value {
        json!({
            "name": self.prefix,
            "description": "tower-events",
            "subjects": [format!("{root}.>")],
            "retention": "limits",
            // Only this crate decides which messages may be deleted.
            "discard": "new",
            "max_consumers": -1,
            "max_msgs": -1,
            "max_msgs_per_subject": -1,
            "max_bytes": self.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            "max_age": 0,
            "max_msg_size": -1,
            "storage": if self.memory { "memory" } else { "file" },
            "num_replicas": self.replicas,
            // Not used; the minimum keeps the server's table of message ids empty.
            "duplicate_window": nanos(Duration::from_secs(1)),
            "allow_direct": true,
            "allow_rollup_hdrs": true,
            "deny_delete": false,
            "deny_purge": false,
        })
    }
}
