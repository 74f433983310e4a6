//! The file store: the conformance suite, several processes, and failures. Feature `file`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

mod child;
mod conformance;
mod damaged_channels;
mod damaged_files;
mod disk_space;
mod formats;
mod health;
mod idle_and_churn;
mod kills;
mod opening;
mod power_loss;
mod processes;
mod retention_changes;
mod shared_retention;
mod support;
mod surroundings;
mod sync_failures;
