//! The peculiarities of JetStream, each with its test.

use std::{error::Error as _, time::Duration};

use tower_events::{
    AnyStore, Channel, Event, Hub, Listen, NatsStore, Retention, Store, StoreError, Subscription,
    store::{Append, Change, Limit, OpenErrorKind, Outcome, Reason, Start},
};

use crate::{
    hints::Hints,
    server::{Server, servers},
};

fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel")
}

fn keyed(text: &str) -> Event {
    Event::text(text).keyed(text).expect("a key")
}

async fn each<F: Future<Output = ()>>(test: impl Fn(Server) -> F) {
    for binary in servers() {
        test(Server::start(&binary)).await;
    }
}

async fn texts(store: &NatsStore, of: &Channel, start: Start) -> Vec<String> {
    let page = store.read(of, start, Limit::new(10_000, 1 << 30)).await.expect("a page");
    page.entries.iter().map(|entry| entry.data.as_shown().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_name_is_one_token_and_no_wildcard() {
    each(|server| async move {
        let store = NatsStore::connect(&server.url()).await.expect("a store");
        let longest = "é".repeat(127);
        let names = ["a", "a.b", "a.*", "a.>", "*", ">", "$JS.API", " ", "a b", "чат", "😀", &longest];
        let mut hints = Hints::of(&store);
        hints.resync().await;
        for name in names {
            let of = channel(name);
            store.append(&of, Append::new([Event::text(name)])).await.expect("an append");
            assert_eq!(hints.until(&of, 1).await.len(), 1, "{name}");
        }
        for name in names {
            assert_eq!(texts(&store, &channel(name), Start::Earliest).await, [name]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seqs_are_dense_though_stream_sequences_are_not() {
    each(|server| async move {
        let store = NatsStore::connect(&server.url()).await.expect("a store");
        for n in 1..=20 {
            for name in ["a", "b", "c"] {
                let done = store.append(&channel(name), Append::new([Event::text("x")])).await.expect("an append");
                assert_eq!(done.head.cursor.seq, n);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_write_concurrently_never_take_the_same_position() {
    each(|server| async move {
        let store = async || NatsStore::connect(&server.url()).await.expect("a store");
        let write = |store: NatsStore| {
            tokio::spawn(async move {
                let mut seqs = Vec::new();
                for _ in 0..200 {
                    let done = store.append(&channel("a"), Append::new([Event::text("x")])).await.expect("an append");
                    seqs.push(done.receipts[0].cursor.seq);
                }
                seqs
            })
        };
        let nodes = [store().await, store().await];
        let (one, two) = (write(nodes[0].clone()), write(nodes[1].clone()));
        let mut seqs = [one.await.expect("a node"), two.await.expect("a node")].concat();
        let conflicts = nodes.map(|node| node.upkeep().conflicts);
        assert!(conflicts.iter().sum::<u64>() > 0, "{conflicts:?}");
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=400).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixes_keep_applications_apart() {
    each(|server| async move {
        let one = NatsStore::options().prefix("one").connect(&server.url()).await.expect("a store");
        let two = NatsStore::options().prefix("two").connect(&server.url()).await.expect("a store");
        let of = channel("a");
        one.append(&of, Append::new([Event::text("x")])).await.expect("an append");
        assert_eq!(texts(&two, &of, Start::Earliest).await.len(), 0);
        for bad in ["", "a.b", "a b", ">", "*", &"x".repeat(33)] {
            let refused = NatsStore::options().prefix(bad).connect(&server.url()).await.expect_err("a bad prefix");
            assert_eq!(refused.kind(), &OpenErrorKind::Settings, "{bad:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_another_application_is_left_alone() {
    each(|server| async move {
        let admin = async_nats::connect(server.url()).await.expect("a client");
        let config = r#"{"name": "shop", "subjects": ["orders.>"]}"#;
        admin.request("$JS.API.STREAM.CREATE.shop", config.into()).await.expect("an answer");
        let refused = NatsStore::options().prefix("shop").connect(&server.url()).await.expect_err("another stream");
        assert_eq!(refused.kind(), &OpenErrorKind::Foreign, "{refused:?}");
    })
    .await;
}

/// Messages and bytes of the stream.
async fn stored(server: &Server) -> (u64, u64) {
    let admin = async_nats::connect(server.url()).await.expect("a client");
    let info = admin.request("$JS.API.STREAM.INFO.tower-events", "".into()).await.expect("an answer");
    let info: serde_json::Value = serde_json::from_slice(&info.payload).expect("JSON");
    let state = |name: &str| info["state"][name].as_u64().expect("a number");
    (state("messages"), state("bytes"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_does_not_keep_what_is_no_longer_visible_but_keys_stay() {
    each(|server| async move {
        let retention = Retention::default().events(50);
        let store = NatsStore::options().retention(retention).connect(&server.url()).await.expect("a store");
        let of = channel("a");
        let text = |n: u32| format!("{n:05}{}", "x".repeat(1_000));
        for n in 0..600 {
            let event = Event::text(text(n)).keyed(n.to_string()).expect("a key");
            store.append(&of, Append::new([event])).await.expect("an append");
        }
        // Trimming happens in the background, so it may be late.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let (messages, bytes) = stored(&server).await;
            if messages < 130 && bytes < 300_000 {
                break;
            }
            assert!(std::time::Instant::now() < deadline, "{messages} messages with {bytes} bytes are left");
            store.append(&of, Append::new([Event::text("more")])).await.expect("an append");
        }
        // A node that starts afterwards knows the keys of deleted messages.
        let other = NatsStore::options().connect(&server.url()).await.expect("a store");
        for n in [0_u32, 1, 299, 598, 599] {
            let again = Append::new([Event::text(text(n)).keyed(n.to_string()).expect("a key")]);
            let again = other.append(&of, again).await.expect("an append");
            assert_eq!((again.entries.len(), again.receipts[0].cursor.seq), (0, u64::from(n) + 1), "key {n}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_logs_are_read_from_anywhere_with_and_without_batches() {
    each(|server| async move {
        let retention = Retention::default().events(10_000);
        let store = NatsStore::options().retention(retention.clone()).connect(&server.url()).await.expect("a store");
        let of = channel("a");
        let mut entries = Vec::new();
        for n in 0..400 {
            store.append(&channel("noise"), Append::new([Event::text("x")])).await.expect("an append");
            let events = (0..=n % 3).map(|k| Event::text(format!("{n}/{k}")));
            entries.extend(store.append(&of, Append::new(events)).await.expect("an append").entries);
        }
        let fresh = NatsStore::options().retention(retention).connect(&server.url()).await.expect("a store");
        for nth in (0..entries.len()).step_by(37) {
            let limit = Limit::default().events(150);
            let page = fresh.read(&of, Start::After(entries[nth].cursor), limit).await.expect("a page");
            let rest: Vec<_> = entries[nth + 1..].iter().take(150).cloned().collect();
            assert_eq!((page.outcome, page.entries), (Outcome::Continued, rest));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_a_message_holds_is_too_large_and_less_fits() {
    each(|server| async move {
        let store = NatsStore::connect(&server.url()).await.expect("a store");
        let of = channel("a");
        let refused = store.append(&of, Append::new([Event::text("x".repeat(1 << 20))])).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { max, .. }) if max < 1 << 20), "{refused:?}");
        let refused =
            store.init(&of, vec![Event::text("x".repeat(600_000)); 2], tower_events::store::Expect::Any).await;
        assert!(matches!(refused, Err(StoreError::TooLarge { .. })), "{refused:?}");
        // Each fits, but those that wait together do not fit into one message.
        let (store, of) = (&store, &of);
        let large = |n: u32| async move {
            store.append(of, Append::new([Event::text(format!("{n}{}", "x".repeat(400_000)))])).await
        };
        let all = tokio::join!(large(1), large(2), large(3), large(4), large(5));
        assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok() && all.4.is_ok());
        assert_eq!(texts(store, of, Start::Earliest).await.len(), 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_refuses_appends_and_can_be_read() {
    each(|server| async move {
        let options = NatsStore::options().max_bytes(100_000).retention(Retention::default().events(1_000_000));
        // An old server would sometimes delete the oldest message where it should refuse the newest.
        let (connected, of) = (options.connect(&server.url()).await, channel("a"));
        let is_new = async_nats::connect(server.url()).await.expect("a client").is_server_compatible(2, 11, 0);
        let Ok(store) = connected else { return assert!(!is_new, "{connected:?}") };
        let mut stored = 0;
        let refused = loop {
            match store.append(&of, Append::new([Event::text("x".repeat(5_000))])).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 30, "no end: {:?}", self::stored(&server).await);
        };
        assert!(matches!(refused, StoreError::Full(_)), "{refused:?}");
        assert_eq!(texts(&store, &of, Start::Earliest).await.len(), stored);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_passwords_and_tokens_are_taken_from_url_and_options() {
    for binary in servers() {
        let config = "authorization { user: app, password: \"s3cret\" }".to_owned();
        let server = Server::with_config(&binary, Some(config));
        let inside = server.url().replace("nats://", "nats://app:s3cret@");
        NatsStore::connect(&inside).await.expect("a name in the URL");
        NatsStore::options().user("app", "s3cret").connect(&server.url()).await.expect("a name in the options");
        let refused = NatsStore::connect(&server.url()).await.expect_err("no name");
        assert_eq!(refused.kind(), &OpenErrorKind::Denied, "{refused:?}");
        let server = Server::with_config(&binary, Some("authorization { token: \"t0ken\" }".to_owned()));
        NatsStore::options().token("t0ken").connect(&server.url()).await.expect("a token");
        let inside = server.url().replace("nats://", "nats://t0ken@");
        NatsStore::connect(&inside).await.expect("a token in the URL");
        let refused = NatsStore::options().token("other").connect(&server.url()).await.expect_err("another token");
        assert_eq!(refused.kind(), &OpenErrorKind::Denied, "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_continues_on_another_node() {
    each(|server| async move {
        let (one, two) = (node(&server).await, node(&server).await);
        let of = channel("a");
        let mut wanted = Subscription::new(of.clone()).start(Start::Earliest);
        let mut seen = Vec::new();
        for n in 0..20_u32 {
            let (from, to) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
            let published = from.publish(&of, keyed(&n.to_string()));
            let (listened, published) =
                tokio::join!(to.listen(Listen::from(wanted).wait(Duration::from_secs(20))), published);
            let listened = listened.expect("a page");
            assert!(published.is_ok() && listened.resets.is_empty());
            seen.extend(listened.events.iter().flat_map(|events| events.entries().cloned().collect::<Vec<_>>()));
            wanted = Subscription::new(of.clone()).resume(&listened.cursors);
        }
        let seen: Vec<_> = seen.iter().map(|entry| entry.data.as_shown().to_owned()).collect();
        assert_eq!(seen, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    })
    .await;
}

async fn node(server: &Server) -> Hub<AnyStore> {
    Hub::new(NatsStore::connect(&server.url()).await.expect("a store"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_hint_is_lost_or_wrong_while_others_publish() {
    each(|server| async move {
        let (here, there) = (
            NatsStore::connect(&server.url()).await.expect("a store"),
            NatsStore::connect(&server.url()).await.expect("a store"),
        );
        let (of, mut hints) = (channel("a"), Hints::of(&there));
        hints.resync().await;
        let mut at = here.read(&of, Start::Latest, Limit::POSITION).await.expect("a position").next;
        for n in 0..200_u32 {
            here.append(&of, Append::new([Event::text(n.to_string())])).await.expect("an append");
        }
        while at.seq < 200 {
            match hints.next().await {
                Change::Entries(entries) => {
                    assert_eq!(entries[0].prev(), at);
                    at = entries.last().expect("one").cursor;
                }
                other => panic!("a gap: {other:?}"),
            }
        }
        let page = there.read(&of, Start::After(at), Limit::default()).await.expect("a page");
        assert_ne!(page.outcome, Outcome::Reset(Reason::Ahead));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_connecting_says_what_is_wrong_and_whether_to_retry() {
    let refused = async |url: String| {
        let error = NatsStore::options().timeout(Duration::from_secs(1)).connect(&url).await.expect_err("no server");
        let text = format!("{error} {error:?}");
        assert!(text.starts_with("NATS ") && !text.contains("canary"), "{text}");
        (error.kind().clone(), error.is_retryable())
    };
    let nowhere = format!("nats://app:canary@127.0.0.1:{}", crate::server::free_port());
    assert_eq!(refused(nowhere).await, (OpenErrorKind::Unreachable, true));
    assert_eq!(refused("nats://app:canary@[".to_owned()).await, (OpenErrorKind::Settings, false));
    for binary in servers() {
        let accounts = "accounts { A: { users: [{ user: app, password: canary }] }, B: { jetstream: enabled } }";
        let server = Server::with_config(&binary, Some(accounts.to_owned()));
        let url = server.url().replace("nats://", "nats://app:canary@");
        assert_eq!(refused(url).await, (OpenErrorKind::Misconfigured, false));
        let error = NatsStore::connect(&server.url().replace("nats://", "nats://app:canary@")).await.expect_err("none");
        assert!(error.source().is_some_and(|source| source.to_string().contains("JetStream")), "{error:?}");
        // A wrong password.
        let url = server.url().replace("nats://", "nats://app:other-canary@");
        assert_eq!(refused(url).await, (OpenErrorKind::Denied, false));
    }
}
