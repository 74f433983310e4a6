//! The file store: the conformance suite, several processes, and failures. Feature `file`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

mod child;
mod conformance;
mod damaged_files;
mod sync_failures;
mod formats;
mod health;
mod kills;
mod idle_and_churn;
mod opening;
mod power_loss;
mod processes;
mod damaged_channels;
mod disk_space;
mod retention_changes;
mod support;
mod shared_retention;
