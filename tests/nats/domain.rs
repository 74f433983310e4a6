//! The JetStream of a domain, reached through a server outside it: a leaf node and its hub.

use tower_events::{
    Channel, Event, NatsStore, Store,
    store::{Append, Limit, Start},
};

use crate::{
    hints::Hints,
    server::{Server, free_port, servers},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_kept_in_the_domain_of_a_leaf() {
    for binary in servers() {
        let port = free_port();
        let hub = format!("jetstream {{ domain: hub }}\nleafnodes {{ listen: \"127.0.0.1:{port}\" }}");
        let leaf = format!(
            "jetstream {{ domain: leaf }}\nleafnodes {{ remotes: [{{ url: \"nats-leaf://127.0.0.1:{port}\" }}] }}"
        );
        let (hub, leaf) = (Server::with_config(&binary, Some(hub)), Server::with_config(&binary, Some(leaf)));
        let options = || NatsStore::options().domain("leaf");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // Until the servers know each other.
        let far = loop {
            match options().connect(&hub.url()).await {
                Ok(store) => break store,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error:?}"),
            }
        };
        let near = options().connect(&leaf.url()).await.expect("a store");
        let of = Channel::new("a").expect("a channel");
        let mut hints = Hints::of(&far);
        hints.resync().await;
        for (nth, store) in [&near, &far, &near, &far].into_iter().enumerate() {
            let done = store.append(&of, Append::new([Event::text("x")])).await.expect("an append");
            assert_eq!(done.head.cursor.seq, nth as u64 + 1);
            hints.until(&of, done.head.cursor.seq).await;
        }
        for store in [&near, &far] {
            let page = store.read(&of, Start::Earliest, Limit::default()).await.expect("a page");
            assert_eq!(page.entries.len(), 4);
            assert_eq!(store.channels("", None, 10).await.expect("channels").len(), 1);
        }
        // The hub has no such stream.
        let other = NatsStore::connect(&hub.url()).await.expect("a store");
        assert!(other.channels("", None, 10).await.expect("channels").is_empty());
        for bad in ["", "a.b", "a b", ">", "*"] {
            assert!(NatsStore::options().domain(bad).connect(&hub.url()).await.is_err(), "{bad:?}");
        }
    }
}
