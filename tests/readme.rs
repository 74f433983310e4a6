//! The README's table of what became of the PHP package: its calls are compiled, run, and found on the page. Its example is
//! a documentation test.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower_events::{Channel, Event, Hub, Listened, MemoryStore, Subscription, store::Start};

/// Evaluates code that the README shows, as it shows it.
macro_rules! shown {
    ($($code:tt)+) => {{
        assert!(readme().contains(&dense(stringify!($($code)+))), "not in the README: {}", stringify!($($code)+));
        $($code)+
    }};
}

/// Text without white space, which `stringify` does not keep.
fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

fn readme() -> String {
    dense(&include_str!("../README.md").replace("\\|", "|"))
}

fn texts(listened: &Listened) -> Vec<&str> {
    listened.entries().into_iter().filter_map(|entry| entry.data.as_text()).collect()
}

/// As the package's own tests say: events newer than a time, sorted by it; `init` replaces; `push` to nothing works.
#[tokio::test(start_paused = true)]
async fn what_the_package_did_is_done_as_the_table_says() -> Result<(), Box<dyn std::error::Error>> {
    let store = MemoryStore::default();
    let hub = shown!(Hub::new(store));
    let channel = Channel::new("chat")?;
    let time = 1_000;

    for (birthday, data) in [(3_000, "late"), (2_000, "sorted in"), (1_000, "not newer")] {
        let event = shown!(Event::json(&data)?.at(birthday)?);
        shown!(hub.publish(&channel, event)).await?;
    }
    let got = {
        let channel = channel.clone();
        shown!(hub.listen(Subscription::new(channel).start(Start::Time(time)).wait(Duration::ZERO))).await?
    };
    assert_eq!(texts(&got), ["sorted in", "late"]);

    let events = vec![Event::text("other").at(2_500)?];
    shown!(hub.init(&channel, events)).await?;
    assert!(hub.init_if_unused(&channel, Vec::new()).await?.is_none());
    let got = {
        let channel = channel.clone();
        shown!(hub.listen(Subscription::new(channel).start(Start::Time(time)))).await?
    };
    assert_eq!(texts(&got), ["other"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_and_tells_of_each_empty_look() -> Result<(), Box<dyn std::error::Error>> {
    let hub = Hub::new(MemoryStore::default());
    let looks = Arc::new(AtomicUsize::new(0));
    let (seen, duration) = (looks.clone(), Duration::from_secs(5));
    let wait = Subscription::new(Channel::new("chat")?)
        .wait(duration)
        .on_empty(move || _ = seen.fetch_add(1, Ordering::Relaxed));
    assert!(hub.listen(wait).await?.entries().is_empty());
    assert!(looks.load(Ordering::Relaxed) > 0);
    assert!(readme().contains(".wait(duration)") && readme().contains(".on_empty(||..."));
    Ok(())
}
