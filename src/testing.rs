//! Tools for tests: the conformance suite for stores, a store that injects faults, and a reader of event streams.
//!
//! # A store of your own
//! Describe how to open it in a [`Harness`], then run every clause of the [contract](crate::Store) on it, all at once with
//! [`run_all`], or one test per clause with [`conformance_tests`]. A clause that does not hold panics with its name, what was
//! expected and what was observed. Random clauses print their seed; set `TOWER_EVENTS_SEED` to repeat a run.
//!
//! ```
//! use tower_events::testing::{MemoryHarness, clauses};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! clauses::continues_only_on_proof(&MemoryHarness).await; // one clause, to investigate a failure
//! # }
//! ```
//!
//! ## What the harness can do
//! A harness that only creates places and opens stores runs every clause except those in which the harness must act on the store
//! itself. A clause that is skipped because a method has its default implementation says so on standard error:
//!
//! | method | with the default implementation |
//! |---|---|
//! | [`Harness::lose_tail`] | [`a_regrown_tail_is_another_history`](clauses::a_regrown_tail_is_another_history) and [`a_regrown_tail_with_the_same_events_is_another_history`](clauses::a_regrown_tail_with_the_same_events_is_another_history) are skipped |
//! | [`Harness::step_back`] | [`a_clock_that_steps_back_does_no_harm`](clauses::a_clock_that_steps_back_does_no_harm) is skipped |
//! | [`Harness::reopen`] | [`raised_limits_hold_at_once`](clauses::raised_limits_hold_at_once) and [`lowered_limits_lose_nothing_at_once`](clauses::lowered_limits_lose_nothing_at_once) are skipped |
//! | [`Harness::wipe`] | [`a_place_that_is_wiped_has_another_epoch`](clauses::a_place_that_is_wiped_has_another_epoch) compares two places |
//! | [`Harness::begin_trouble`] and [`Harness::end_trouble`] | [`health_reports_trouble_and_its_end`](clauses::health_reports_trouble_and_its_end) is skipped |
//! | [`Harness::time`] with [`Time::Controlled`], and [`Harness::advance`] | Nothing is skipped: the clauses about time set short limits and wait. In [`agrees_with_a_model`](clauses::agrees_with_a_model) nothing expires |
//!
//! In real time a clause that waits takes up to about 160 units of [`Time::Real`]: 8 seconds by default. A store that checks its
//! limits less often than every few units (of 50 ms) needs a longer unit, or a controlled clock.
//!
//! # Code that uses a store
//! [`FaultStore`] wraps a store. Its [`Faults`] handle makes calls fail or wait, and hints get lost, duplicated or reordered.
//!
//! # Handlers that stream
//! [`SseReader`] reads the events from the body of a response.

mod case;
pub mod clauses;
mod conformance;
pub mod fault;
mod harness;
mod model;
mod sse_reader;
mod wrapped;

#[doc(inline)]
pub use crate::conformance_tests;

pub use self::{
    clauses::{Clause, run_all},
    fault::{FaultStore, Faults, Hold},
    harness::{Harness, MemoryHarness, MemoryPlace, Time, Unable},
    sse_reader::{SseEvent, SseReadError, SseReader},
    wrapped::Wrapped,
};
