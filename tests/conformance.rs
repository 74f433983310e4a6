//! The conformance suite on the memory store: directly, type-erased, and inside a fault store without faults.

use tower_events::{
    AnyStore,
    testing::{FaultStore, MemoryHarness, Wrapped, clauses, conformance_tests},
};

conformance_tests! {
    mod memory in [MemoryHarness];
    mod erased in [Wrapped::new(MemoryHarness, AnyStore::new)];
    mod without_faults in [Wrapped::new(MemoryHarness, |store| FaultStore::new(store).0)];
}

#[tokio::test]
async fn many_seeds_agree_with_the_model() {
    for seed in 0..150 {
        clauses::agrees_with_a_model_from(&MemoryHarness, seed).await;
    }
}
