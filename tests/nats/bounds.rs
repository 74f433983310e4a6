//! Queued writes are bounded.

use std::time::{Duration, Instant};

use tower_events::{
    Channel, Event, NatsStore, Retention, Store, StoreError,
    store::{Append, Expect, Limit, Start, Unit},
};

use crate::server::{Server, servers};

fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_appends_are_bounded_in_bytes_and_number() {
    for binary in servers() {
        let server = Server::start(&binary);
        let retention = Retention::default().bytes(1 << 30).events(10_000_000);
        let options = NatsStore::options().retention(retention).timeout(Duration::from_secs(60));
        let store = options.connect(&server.url()).await.expect("a store");
        store.append(&channel("0"), Append::new([Event::text("x")])).await.expect("an append");
        for (name, size, most) in [("bytes", 500 << 10, 400), ("number", 1, 100_000)] {
            server.pause();
            let mut calls = tokio::task::JoinSet::new();
            let text = "x".repeat(size);
            for n in 0..most {
                let (store, event) = (store.clone(), Event::text(text.clone()));
                calls.spawn(async move {
                    let begun = Instant::now();
                    (store.append(&channel(&format!("{}", n % 7)), Append::new([event])).await, begun.elapsed())
                });
            }
            // Only refused appends can end while the server is suspended.
            let mut refused = 0;
            while let Ok(Some(done)) = tokio::time::timeout(Duration::from_secs(2), calls.join_next()).await {
                let (done, took) = done.expect("a call");
                // The server may have accepted some before it was suspended.
                let Err(why) = done else { continue };
                assert!(
                    matches!(&why, StoreError::Unavailable(why) if why.to_string().contains("retry in")),
                    "{why:?}"
                );
                assert!(took < Duration::from_secs(2), "{name}: refused after {took:?}");
                refused += 1;
            }
            let waits = calls.len();
            println!("{name}: {refused} refused at once, {waits} waiting");
            assert!(
                refused > 0 && waits * size <= 64 << 20 && waits <= 65_536,
                "{name}: {refused} refused, {waits} waiting"
            );
            server.go_on();
            while let Some(done) = calls.join_next().await {
                done.expect("a call").0.expect("the queued appends are written");
            }
            store.append(&channel("0"), Append::new([Event::text("y")])).await.expect("an append");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_init_is_judged_by_what_of_it_is_kept() {
    for binary in servers() {
        let server = Server::start(&binary);
        let options = NatsStore::options().retention(Retention::default().events(10));
        let (store, of) = (options.connect(&server.url()).await.expect("a store"), channel("a"));
        // 4 MiB, of which the newest ten are kept.
        let events: Vec<_> = (0..80).map(|n| Event::text(format!("{n:02}{}", "x".repeat(50_000)))).collect();
        let head = store.init(&of, events, Expect::Any).await.expect("an init");
        let page = store.read(&of, Start::Earliest, Limit::new(100, 8 << 20)).await.expect("a page");
        let texts: Vec<_> = page.entries.iter().map(|entry| entry.data.as_shown()[..2].to_owned()).collect();
        assert_eq!(texts, (70..80).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!((page.next, page.head), (head.cursor, head));
        assert_ne!(page.from.tag, 0, "events were dropped");
        // What is kept has to fit into one message, otherwise nothing changes.
        let events = vec![Event::text("x".repeat(300_000)); 10];
        let size = 10 * 300_000;
        match store.init(&of, events, Expect::Any).await {
            Err(StoreError::TooLarge { size: told, max: most, unit: Unit::Bytes }) => {
                assert!((size..size + 1_000).contains(&told) && (1 << 19..1 << 20).contains(&most), "{told} {most}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(store.heads(&[of]).await.expect("heads"), [head]);
    }
}
