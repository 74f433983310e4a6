//! Live state on every store, as several nodes share it, over real sockets: grants that end, filters, snapshots and recorded runs.
//! What one node does in every schedule is tested on a store in memory and a paused clock (`grants`, `filters`, `snapshots`,
//! `runs`); these are the same promises where a store has a network, other processes and a clock of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    dead_code,
    reason = "a helper's panic is a failed test; the servers are those of the stores' own tests"
)]

mod expiry;
mod filters;
mod handed_out;
mod killed;
#[cfg(feature = "nats")]
#[path = "../nats/server.rs"]
mod nats_server;
mod place;
#[cfg(feature = "postgres")]
#[path = "../postgres/server.rs"]
mod postgres_server;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/recorded.rs"]
mod recorded;
#[cfg(feature = "redis")]
#[path = "../redis/server.rs"]
mod redis_server;
mod revocation;
mod runs;
mod snapshots;
#[path = "../../examples/common/store.rs"]
mod store;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/wire.rs"]
mod wire;

use self::place::Place;

/// Tests that take a place, on these kinds of places. A server that is not installed has none.
macro_rules! on {
    ($($store:ident $(if $feature:literal)? { $($module:ident::$name:ident)* })*) => {$(
        $(#[cfg(feature = $feature)])?
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(place) = super::Place::$store().await {
                        super::$module::$name(place).await;
                    }
                }
            )*
        }
    )*};
}

on! {
    memory {
        expiry::streams_and_polls_end_and_resume
        filters::a_changed_filter_is_told
        snapshots::no_change_is_missed
        snapshots::a_state_comes_with_its_position
    }
    file {
        revocation::nothing_is_handed_out_after_the_interval
        expiry::streams_and_polls_end_and_resume
        filters::a_changed_filter_is_told
        snapshots::no_change_is_missed
        snapshots::a_state_comes_with_its_position
        runs::one_of_many_is_elected_and_all_are_listed
        runs::no_stop_is_lost
        killed::a_suspended_producer_adds_nothing
        killed::every_run_ends_once
    }
    redis if "redis" {
        revocation::nothing_is_handed_out_after_the_interval
        expiry::streams_and_polls_end_and_resume
        filters::a_changed_filter_is_told
        snapshots::no_change_is_missed
        snapshots::a_state_comes_with_its_position
        runs::one_of_many_is_elected_and_all_are_listed
        runs::no_stop_is_lost
        killed::a_suspended_producer_adds_nothing
        killed::every_run_ends_once
    }
    nats if "nats" {
        revocation::nothing_is_handed_out_after_the_interval
        runs::one_of_many_is_elected_and_all_are_listed
        runs::no_stop_is_lost
        killed::every_run_ends_once
    }
    postgres if "postgres" {
        revocation::nothing_is_handed_out_after_the_interval
        runs::one_of_many_is_elected_and_all_are_listed
        runs::no_stop_is_lost
        killed::every_run_ends_once
    }
}
