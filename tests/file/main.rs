//! The file store: the conformance suite, several processes, and what can go wrong. Feature `file`.
#![cfg(unix)]

mod child;
mod conformance;
mod damage;
mod faults;
mod kills;
mod opening;
mod power;
mod processes;
mod room;
mod support;
