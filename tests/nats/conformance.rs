//! The conformance suite against real servers. Most clauses open a second store on the same stream, with a connection
//! of its own, as another node would. `granted` runs it as users with exactly the documented permissions.

use tower_events::{
    AnyStore,
    testing::{Wrapped, clauses, conformance_tests},
};

use crate::{harness::NatsHarness, server::servers};

conformance_tests! {
    mod nats in servers().into_iter().map(NatsHarness::new);
    mod granted in servers().into_iter().map(NatsHarness::granted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_holds_through_any_store() {
    for server in servers() {
        let erased = Wrapped::new(NatsHarness::new(server), AnyStore::new);
        clauses::reads_what_was_appended_exactly_once_in_order(&erased).await;
        clauses::continues_only_on_proof(&erased).await;
        clauses::agrees_with_a_model(&erased).await;
    }
}
