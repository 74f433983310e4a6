//! The configuration of a Redis store, and the names of its keys.

use std::time::Duration;

use crate::store::{Clock, Retention};

/// All settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) retention: Retention,
    pub(super) timeout: Duration,
    pub(super) replicas: Option<(u32, Duration)>,
    pub(super) max_append_bytes: u64,
    pub(super) inline: usize,
    pub(super) clock: Option<Clock>,
}

impl Settings {
    /// What all key names start with: a hash tag, so that the keys share a cluster slot.
    pub(super) fn prefix(&self) -> String {
        format!("{{{}}}", self.name)
    }

    pub(super) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "tower-events".to_owned(),
            retention: Retention::default(),
            timeout: Duration::from_secs(3),
            replicas: None,
            max_append_bytes: 4 << 20,
            inline: 16 << 10,
            clock: None,
        }
    }
}
