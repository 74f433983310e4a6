//! Users with exactly the permissions that the documentation lists.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use tower_events::{
    Channel, Event, NatsStore, Retention, Store, StoreError,
    store::{Append, Expect, Limit, OpenErrorKind, Start},
    stores::nats::NatsOptions,
};

use crate::{
    hints::Hints,
    server::{Server, servers},
};

/// What a user may publish and subscribe to.
#[derive(Clone)]
pub struct Grant {
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl Grant {
    /// As in `docs/stores/nats.md`, for the prefix `shop`.
    pub fn of(prefix: &str) -> Self {
        let page = include_str!("../../docs/stores/nats.md");
        let block = page.split("```").find(|block| block.contains("permissions:")).expect("a block");
        let list = |name: &str| {
            let list = block.split(name).nth(1).and_then(|rest| rest.split(['[', ']']).nth(1)).expect("a list");
            list.split('"').skip(1).step_by(2).map(|subject| subject.replace("shop", prefix)).collect::<Vec<_>>()
        };
        Self { publish: list("publish:"), subscribe: list("subscribe:") }
    }
}

/// A user of this name, in the syntax of the server's configuration.
pub fn user(name: &str, grant: &Grant) -> String {
    format!(
        "{{ user: \"{name}\", password: \"s3cret\", permissions: {{ publish: {{ allow: {:?} }}, subscribe: {{ allow: {:?} }} }} }}",
        grant.publish, grant.subscribe
    )
}

/// These users, and one that may do everything.
pub fn config(users: &[String]) -> String {
    format!("authorization {{ users: [{{ user: admin, password: s3cret }}, {}] }}", users.join(", "))
}

/// Connects as the user of this prefix.
pub fn known_as(options: NatsOptions, prefix: &str) -> NatsOptions {
    options.prefix(prefix).user(prefix, "s3cret").inbox_prefix(format!("_INBOX_{prefix}"))
}

pub fn as_admin(options: NatsOptions) -> NatsOptions {
    options.user("admin", "s3cret")
}

fn channel(name: &str) -> Channel {
    Channel::new(name).expect("a channel")
}

fn said(error: &(dyn Error + 'static)) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

async fn raw(server: &Server, user: &str) -> (async_nats::Client, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (told, heard) = tokio::sync::mpsc::unbounded_channel();
    let options = async_nats::ConnectOptions::with_user_and_password(user.into(), "s3cret".into());
    let options = options.custom_inbox_prefix(format!("_INBOX_{user}")).event_callback(move |event| {
        _ = told.send(event.to_string());
        std::future::ready(())
    });
    (options.connect(server.url()).await.expect("a client"), heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_prefix_and_its_responses_are_out_of_reach() {
    for binary in servers() {
        let users = ["shop", "other"].map(|prefix| user(prefix, &Grant::of(prefix)));
        let server = Server::with_config(&binary, Some(config(&users)));
        let other = known_as(NatsStore::options(), "other").connect(&server.url()).await.expect("a store");
        other.append(&channel("a"), Append::new([Event::text("x")])).await.expect("an append");
        // Through a store.
        let options = NatsStore::options().prefix("other").user("shop", "s3cret").inbox_prefix("_INBOX_shop");
        let begun = Instant::now();
        let refused = options.connect(&server.url()).await.expect_err("no right");
        assert!(said(&refused).contains("to publish to $JS.API.STREAM.INFO.other"), "{refused:?}");
        assert_eq!(refused.kind(), &OpenErrorKind::Denied);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        // Through the driver.
        let (client, mut told) = raw(&server, "shop").await;
        let subjects = [
            "other.turns",
            "other.0.c.YQ",
            "$JS.API.STREAM.DELETE.other",
            "$JS.API.STREAM.DELETE.shop",
            "$JS.FC.other.a",
        ];
        for subject in subjects.into_iter().chain(["$JS.API.STREAM.UPDATE.shop", "$JS.API.STREAM.LIST", "else"]) {
            client.publish(subject, "x".into()).await.expect("the message is sent");
        }
        for subject in ["other.>", "shop.>", "_INBOX.>", "_INBOX_other.>", "$JS.>", ">"] {
            drop(client.subscribe(subject).await.expect("the message is sent"));
        }
        client.flush().await.expect("a server");
        let mut denied = 0;
        while denied < 14 {
            let event = tokio::time::timeout(Duration::from_secs(10), told.recv()).await.expect("a denial in time");
            denied += usize::from(event.expect("an event").contains("ermissions Violation"));
        }
    }
}

/// Everything that a store does, once; stops at the first failure.
async fn work(store: &NatsStore) -> Result<(), StoreError> {
    let keyed = |n: u32| Event::text(format!("{n}")).keyed(format!("{n}")).expect("a key");
    store.heads(&(0..40).map(|n| channel(&format!("{n}"))).collect::<Vec<_>>()).await?;
    let mut hints = Hints::of(store);
    hints.resync().await;
    for n in 0..40 {
        store.append(&channel("a"), Append::new([keyed(n)])).await?;
    }
    hints.until(&channel("a"), 40).await;
    store.read(&channel("a"), Start::Earliest, Limit::default()).await?;
    store.channels("", None, 10).await?;
    store.init(&channel("a"), vec![Event::text("x")], Expect::Any).await?;
    store.delete(&channel("a")).await
}

/// The user lacks one of the permissions.
fn lacking(nth: usize) -> Option<(String, Grant)> {
    let whole = Grant::of("shop");
    let (mut publish, mut subscribe) = (whole.publish, whole.subscribe);
    let count = publish.len();
    let lacks = if nth < count {
        publish.remove(nth)
    } else if nth - count < subscribe.len() {
        subscribe.remove(nth - count)
    } else {
        return None;
    };
    Some((lacks, Grant { publish, subscribe }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_permission_is_named_at_once() {
    for binary in servers() {
        for nth in 0.. {
            let Some((lacks, grant)) = lacking(nth) else { break };
            let server = Server::with_config(&binary, Some(config(&[user("shop", &grant)])));
            let options = || known_as(NatsStore::options(), "shop").retention(Retention::default().events(4));
            // The stream exists already, except for the user that may not create it.
            let makes = lacks.contains("STREAM.CREATE");
            if !makes {
                as_admin(NatsStore::options()).prefix("shop").connect(&server.url()).await.expect("a store");
            }
            let begun = Instant::now();
            let failed: Result<(), Box<dyn Error>> = match options().connect(&server.url()).await {
                Ok(store) => work(&store).await.map_err(Into::into),
                Err(error) => {
                    assert_eq!(error.kind(), &OpenErrorKind::Denied, "without {lacks}: {error:?}");
                    Err(error.into())
                }
            };
            let took = begun.elapsed();
            println!("without {lacks}: {failed:?} after {took:?}");
            match failed {
                Err(error) => {
                    let (said, subject) = (said(&*error), lacks.trim_end_matches(['>', '*']));
                    assert!(said.contains("does not allow") && said.contains(subject), "without {lacks}: {said}");
                    assert!(took < Duration::from_secs(3), "without {lacks}: after {took:?}");
                }
                // Permissions for turns, for background work, or for asking a replica first.
                Ok(()) => assert!(
                    ["$JS.FC.", ".turns", "CONSUMER.DELETE", "STREAM.PURGE", "DIRECT.GET"]
                        .iter()
                        .any(|seldom| lacks.contains(seldom)),
                    "without {lacks} it works"
                ),
            }
            if makes {
                as_admin(NatsStore::options()).prefix("shop").connect(&server.url()).await.expect("a store");
                work(&options().connect(&server.url()).await.expect("a store"))
                    .await
                    .expect("a stream that was created by hand");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_without_permission_fails_at_once() {
    for binary in servers() {
        let mut grant = Grant::of("shop");
        grant.publish.retain(|subject| subject != "shop.>");
        grant.publish.extend(["*.place", "*.time", "*.kept", "*.b.>", "*.f.>"].map(|rest| format!("shop.{rest}")));
        let server = Server::with_config(&binary, Some(config(&[user("shop", &grant)])));
        let store =
            known_as(NatsStore::options(), "shop").timeout(Duration::from_secs(20)).connect(&server.url()).await;
        let (store, begun) = (store.expect("a store"), Instant::now());
        let refused = store.append(&channel("a"), Append::new([Event::text("x")])).await.expect_err("no right");
        assert!(matches!(refused, StoreError::Unavailable(_)) && said(&refused).contains(".c.YQ"), "{refused:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
