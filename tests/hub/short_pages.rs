//! Pages that hold fewer entries than the store examined for them.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_events::{
    Hub, Listen, MemoryStore, Store, StoreError, Subscription,
    store::{Limit, Page, Start},
};

use super::{
    patched_store::{Fault, PatchedStore},
    *,
};

/// A store that examines two entries for a page by time, and returns those that are new enough.
struct ExaminesTwo;

impl Fault for ExaminesTwo {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        let Start::Time(time) = start else { return inner.read(channel, start, limit).await };
        let mut page = inner.read(channel, Start::Earliest, limit.events(limit.events.min(2))).await?;
        page.entries.retain(|entry| entry.time > time);
        Ok(page)
    }
}

/// A store that never answers reads of the channel `never`.
struct NeverAnswers(Mutex<Vec<(Channel, usize)>>);

impl Fault for NeverAnswers {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        if channel.as_str() == "never" {
            std::future::pending::<()>().await;
        }
        self.0.lock().unwrap().push((channel.clone(), limit.events));
        inner.read(channel, start, limit).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_read_while_the_start_of_another_is_undecided() {
    let fault = Arc::new(NeverAnswers(Mutex::default()));
    let hub = Hub::new(PatchedStore::new(MemoryStore::default(), fault.clone()));
    publish(&hub, "a", 1).await;
    let both = Subscription::new(channels(["never", "a"])).start(Start::Earliest);
    let subscribing = tokio::spawn(async move { hub.subscribe(both).await });
    settle().await;
    let read: Vec<_> = fault.0.lock().unwrap().iter().map(|(_, events)| *events > 0).collect();
    assert_eq!(read, [false, true], "first its position, then its page");
    subscribing.abort();
}

/// The texts that a start by time gives when each letter is published as an event, capital letters as new ones; and whether the
/// listener ends at the head.
async fn since(names: Channels, letters: &str) -> (String, bool) {
    let hub = Hub::new(PatchedStore::new(MemoryStore::default(), Arc::new(ExaminesTwo)));
    for name in &names {
        for letter in letters.chars() {
            let time = if letter.is_uppercase() { 600 } else { 100 };
            hub.publish(name, Event::text(letter.to_string()).at(time).unwrap()).await.unwrap();
        }
    }
    let since = Subscription::new(names.clone()).start(Start::Time(500));
    let listened = hub.listen(Listen::from(since).wait(Duration::ZERO)).await.unwrap();
    assert!(listened.resets.is_empty());
    let texts = listened.events.iter().flat_map(|events| events.entries());
    let seen = texts.map(|entry| entry.data.as_text().unwrap()).collect();
    (seen, listened.cursors == hub.position(&names).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_page_without_events_still_moves_the_position() {
    // The filter applies to the first page only.
    for (letters, expected) in
        [("", ""), ("a", ""), ("ab", ""), ("aB", "B"), ("Ab", "A"), ("abcD", "cD"), ("aBc", "Bc")]
    {
        assert_eq!(since(channels(["one"]), letters).await, (expected.to_owned(), true), "{letters}");
        let (seen, at_head) = since(channels(["one", "two"]), letters).await;
        // Which of two channels comes first is random.
        let twice = expected.chars().map(|letter| seen.matches(letter).count());
        assert_eq!((seen.len(), at_head), (2 * expected.len(), true), "{letters} of two: {seen}");
        assert!(twice.into_iter().all(|count| count == 2), "{letters} of two: {seen}");
    }
}
