//! For those who test: the conformance suite for stores, and a store that fails on purpose. Feature `testing`.
//!
//! # A store of your own
//! Describe how to open it in a [`Harness`], then run every clause of the [contract](crate::Store) on it, all at once with
//! [`run_all`], or one test per clause with [`conformance_tests`]. A clause that does not hold panics with its name,
//! what was expected and what was seen. What is random says its seed; set `TOWER_EVENTS_SEED` to replay it.
//!
//! ```
//! use tower_events::testing::{MemoryHarness, clauses};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! clauses::continues_only_on_proof(&MemoryHarness).await; // one clause, to look into a failure
//! # }
//! ```
//!
//! # A user of stores
//! [`FaultStore`] wraps a store and fails, delays, loses and swaps as its [`Faults`] handle is told.

mod case;
pub mod clauses;
mod conformance;
pub mod fault;
mod harness;
mod model;

#[doc(inline)]
pub use crate::conformance_tests;

pub use self::{
    clauses::{Clause, run_all},
    fault::{FaultStore, Faults, Hold},
    harness::{Harness, MemoryHarness, MemoryPlace, Time, Unable, Wrapped},
};
