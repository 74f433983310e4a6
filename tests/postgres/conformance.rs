//! The conformance suite: on one store, on several as on several nodes, erased, without prepared statements as behind a
//! pooler, and with the server's clock where time matters.

use tower_events::{
    AnyStore,
    testing::{Wrapped, clauses, conformance_tests},
};

use super::{
    harness::{
        Clocks, Postgres,
        Statements::{self, Prepared, Unprepared},
        Stores::{self, Many, One},
    },
    server,
};

fn postgres(stores: Stores, statements: Statements) -> Option<Postgres> {
    Some(Postgres { server: server::shared()?, stores, clock: Clocks::Ours, statements, pooler: None })
}

conformance_tests! {
    mod one_node in postgres(One, Prepared);
    mod several_nodes in postgres(Many, Prepared);
    mod several_nodes_unprepared in postgres(Many, Unprepared);
    mod erased in postgres(Many, Prepared).map(|harness| Wrapped::new(harness, AnyStore::new));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_seeds_agree_with_the_model() {
    let Some(harness) = postgres(Many, Prepared) else { return };
    let seeds = if super::is_long() { 100 } else { 5 };
    for seed in 0..seeds {
        clauses::agrees_with_a_model_from(&harness, seed).await;
    }
}

/// With the server's clock, as in production.
mod real_time {
    use super::{Clocks, Many, Postgres, Prepared, clauses, server, server::Server};

    fn postgres(server: &'static Server) -> Postgres {
        Postgres { server, stores: Many, clock: Clocks::Servers, statements: Prepared, pooler: None }
    }

    macro_rules! clause {
        ($($name:ident)*) => {$(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(server) = server::shared() else { return };
                clauses::$name(&postgres(server)).await;
            }
        )*};
    }

    clause! {
        keeps_the_age_and_at_most_twice
        a_record_outlives_its_entries
        a_forgotten_channel_raises_the_floor
        a_key_is_forgotten_after_its_window
    }

    /// On a server of its own, which hangs; it is stopped together with this process.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn trouble_and_its_end_are_reported() {
        let Some(server) = Server::start() else { return };
        clauses::health_reports_trouble_and_its_end(&postgres(Box::leak(Box::new(server)))).await;
    }
}
