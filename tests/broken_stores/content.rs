//! Stores that change what they are given: names, keys and data.

use std::{collections::HashSet, sync::Mutex};

use tower_events::{
    Channel, Data, Event, MemoryStore, Store, StoreError,
    store::{Append, Appended, Limit, Page, Start},
};

use super::patched_store::Fault;

/// Changes the names of channels.
pub(crate) struct ChangesNames(pub(crate) fn(&str) -> String);

impl ChangesNames {
    fn changed(&self, channel: &Channel) -> Channel {
        Channel::new((self.0)(channel.as_str())).unwrap()
    }
}

impl Fault for ChangesNames {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        inner.append(&self.changed(channel), append).await
    }

    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        inner.read(&self.changed(channel), start, limit).await
    }
}

/// Changes keys.
pub(crate) struct ChangesKeys(pub(crate) fn(&str) -> String);

impl Fault for ChangesKeys {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, mut append: Append) -> Result<Appended, StoreError> {
        for event in &mut append.events {
            if let Some(key) = event.key().map(|key| (self.0)(key.as_str())) {
                *event = event.clone().keyed(key).unwrap();
            }
        }
        inner.append(channel, append).await
    }
}

/// Joins a channel's name and a key into one text.
#[derive(Default)]
pub(crate) struct JoinsNameAndKey(Mutex<HashSet<String>>);

impl Fault for JoinsNameAndKey {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        for key in append.events.iter().filter_map(Event::key) {
            if !self.0.lock().unwrap().insert(format!("{channel}:{}", key.as_str())) {
                return Err(StoreError::KeyReused { index: 0 });
            }
        }
        inner.append(channel, append).await
    }
}

/// Changes the data of all events.
async fn append_as(
    inner: &MemoryStore,
    channel: &Channel,
    mut append: Append,
    change: impl Fn(&Data) -> Data,
) -> Result<Appended, StoreError> {
    for event in &mut append.events {
        *event = Event::new(change(event.data()));
    }
    inner.append(channel, append).await
}

/// Parses JSON and formats it again.
pub(crate) struct ReformatsJson;

impl Fault for ReformatsJson {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        append_as(inner, channel, append, |data| {
            let json = || serde_json::from_str::<serde_json::Value>(data.as_shown()).ok();
            let read = if data.as_text().is_some() { None } else { json() };
            read.map_or_else(|| data.clone(), |json| Data::from_json(json.to_string()).unwrap())
        })
        .await
    }
}

/// Truncates texts whose length does not fit into 16 bits.
pub(crate) struct TruncatesLongTexts;

impl Fault for TruncatesLongTexts {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        append_as(inner, channel, append, |data| match data.as_text() {
            Some(text) if text.len() > 65_535 => Data::text(text.chars().take(20_000).collect::<String>()),
            _ => data.clone(),
        })
        .await
    }
}

/// Rounds times to whole seconds.
pub(crate) struct RoundsTimes;

impl Fault for RoundsTimes {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, mut append: Append) -> Result<Appended, StoreError> {
        for event in &mut append.events {
            if let Some(time) = event.time() {
                *event = event.clone().at(time / 1000 * 1000).unwrap();
            }
        }
        inner.append(channel, append).await
    }
}

/// Stores a text that looks like JSON as JSON.
pub(crate) struct ParsesTextAsJson;

impl Fault for ParsesTextAsJson {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        append_as(inner, channel, append, |data| match data.as_text() {
            Some(word @ ("null" | "{}")) => Data::from_json(word).unwrap(),
            _ => data.clone(),
        })
        .await
    }
}
