//! The calls in `docs/from-php.md` compile, do what they say, and stand on the page exactly as they are here. The README's example
//! is a documentation test.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower_events::{Channel, Event, Hub, Listen, Listened, MemoryStore, Subscription, store::Start};

/// Evaluates an expression that the page shows verbatim.
macro_rules! shown {
    ($($code:tt)+) => {{
        assert!(page().contains(&dense(stringify!($($code)+))), "not on the page: {}", stringify!($($code)+));
        $($code)+
    }};
}

/// Removes white space, which `stringify` does not preserve.
fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

fn page() -> String {
    dense(&include_str!("../docs/from-php.md").replace("\\|", "|"))
}

fn texts(listened: &Listened) -> Vec<&str> {
    listened.entries().into_iter().filter_map(|entry| entry.data.as_text()).collect()
}

/// What the PHP package's own tests require: events newer than a time, sorted by it; `init` replaces; `push` to an empty store.
#[tokio::test(start_paused = true)]
async fn the_calls_in_the_table_do_what_the_php_package_did() -> Result<(), Box<dyn std::error::Error>> {
    let store = MemoryStore::default();
    let hub = shown!(Hub::new(store));
    let channel = Channel::new("chat")?;
    let time = 1_000;

    for (birthday, data) in [(3_000, "late"), (2_000, "sorted in"), (1_000, "not newer")] {
        let event = shown!(Event::json(&data)?.at(birthday)?);
        shown!(hub.publish(&channel, event)).await?;
    }
    let listened = {
        let channel = channel.clone();
        shown!(hub.listen(Listen::from(Subscription::new(channel).start(Start::Time(time))).wait(Duration::ZERO)))
            .await?
    };
    assert_eq!(texts(&listened), ["sorted in", "late"]);

    let events = vec![Event::text("other").at(2_500)?];
    shown!(hub.init(&channel, events)).await?;
    assert!(hub.init_if_unused(&channel, Vec::new()).await?.is_none());
    let listened = {
        let channel = channel.clone();
        shown!(hub.listen(Subscription::new(channel).start(Start::Time(time)))).await?
    };
    assert_eq!(texts(&listened), ["other"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_and_calls_back_after_each_empty_check() -> Result<(), Box<dyn std::error::Error>> {
    let hub = Hub::new(MemoryStore::default());
    let checks = Arc::new(AtomicUsize::new(0));
    let (counter, duration) = (checks.clone(), Duration::from_secs(5));
    let wait = Listen::from(Subscription::new(Channel::new("chat")?))
        .wait(duration)
        .on_empty(move || _ = counter.fetch_add(1, Ordering::Relaxed));
    assert!(hub.listen(wait).await?.entries().is_empty());
    assert!(checks.load(Ordering::Relaxed) > 0);
    assert!(page().contains(".wait(duration)") && page().contains(".on_empty(||..."));
    Ok(())
}
