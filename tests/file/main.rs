//! The file store: the conformance suite, several processes, and what can go wrong. Feature `file`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

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
