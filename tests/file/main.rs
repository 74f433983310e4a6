//! The file store: the conformance suite, several processes, and what can go wrong. Feature `file`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on has failed")]

mod child;
mod conformance;
mod damage;
mod faults;
mod formats;
mod health;
mod kills;
mod load;
mod opening;
mod power;
mod processes;
mod quarantine;
mod room;
mod settings;
mod support;
mod users;
