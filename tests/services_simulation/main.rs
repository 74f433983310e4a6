//! Random simulations of the services as clients see them: two nodes behind HTTP on one store, with a paused clock, connections in
//! memory that are cut after any byte, stores that fail, clients that stall, nodes that drain or are killed and come back, grants
//! that end and are revoked. Whatever happens, each client gets each event once and in order, or a reset where some are missing; what
//! was acknowledged to a publisher is stored once.
//!
//! ```sh
//! TOWER_EVENTS_SEEDS=10000 cargo test --release --test services_simulation
//! TOWER_EVENTS_SEED=1234 cargo test --test services_simulation   # one of them again
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "../support/mod.rs"]
mod support;

mod client;
mod node;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::world::{Counts, World};

#[test]
fn every_client_gets_each_event_once_in_order_or_a_reset() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<_> = match (number("TOWER_EVENTS_SEED"), number("TOWER_EVENTS_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (0..count).collect(),
        (None, None) => (0..80).chain((0..20).map(|_| fastrand::u64(..))).collect(),
    };
    let mut all = Counts::default();
    for seed in &seeds {
        match run(*seed) {
            Ok(counts) => all.add(&counts),
            Err(failure) => panic!("replay with TOWER_EVENTS_SEED={seed}: {failure}"),
        }
    }
    println!("{} seeds: {all:?}", seeds.len());
    assert!(seeds.len() < 50 || all.has_seen_everything(), "the simulation is too tame: {all:?}");
}

fn run(seed: u64) -> Result<Counts, String> {
    // The crate draws delays from this generator.
    fastrand::seed(seed);
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(async { World::new(seed).run().await })
    }));
    result.map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).unwrap_or_default(),
    })
}
