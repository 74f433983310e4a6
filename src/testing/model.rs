//! Random operations on a store and on a simple model of it: the model must allow every result of the store.

mod log;
mod page;
mod steps;

use std::time::Duration;

use self::steps::Steps;
use super::{
    case::Case,
    harness::{Harness, Time},
};
use crate::store::Retention;

/// Random operations have results that a simple model of the contract allows. Runs with the seed in `TOWER_EVENTS_SEED`, or else
/// with several fixed seeds and a random one.
///
/// # Panics
/// When the clause does not hold; the seed is printed.
pub async fn agrees_with_a_model<H: Harness>(harness: &H) {
    if let Some(seed) = std::env::var("TOWER_EVENTS_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return agrees_with_a_model_from(harness, seed).await;
    }
    // With each of the fixed seeds, this clause finds every defect that `tests/broken_stores` expects it to find.
    for seed in [6, 9, 18, fastrand::u64(..)] {
        agrees_with_a_model_from(harness, seed).await;
    }
}

/// As [`agrees_with_a_model`], with one seed.
///
/// # Panics
/// When the clause does not hold; the seed is printed.
pub async fn agrees_with_a_model_from<H: Harness>(harness: &H, seed: u64) {
    let _note = SeedNote(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    let retention = retention(&mut random, harness.time());
    let case = Case::keeping("agrees_with_a_model", harness, retention.clone()).await;
    let second = case.second().await;
    let mut steps = Steps::new(case, second, retention, random);
    for _ in 0..STEPS {
        steps.step().await;
    }
}

/// Small limits, so that a run reaches all of them. The limits in time stay long unless time is controlled: in real time nothing
/// may expire during a run.
fn retention(random: &mut fastrand::Rng, time: Time) -> Retention {
    let small = Retention::default().events(random.u64(1..24)).bytes(random.u64(600..6_000));
    match time {
        Time::Real { .. } => small,
        Time::Controlled => small
            .age(Duration::from_secs(random.u64(20..60)))
            .forget_after(Duration::from_secs(random.u64(20..100)))
            .key_window(Duration::from_secs(random.u64(10..100))),
    }
}

/// Prints the seed if the run panics.
struct SeedNote(u64);

impl Drop for SeedNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("=== replay with TOWER_EVENTS_SEED={} ===", self.0);
        }
    }
}

const STEPS: usize = 400;
