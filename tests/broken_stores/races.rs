//! Stores whose operations are not atomic.

use std::{collections::HashMap, sync::Mutex};

use tokio::task::yield_now;
use tower_events::{
    Channel, Event, EventKey, MemoryStore, Store, StoreError,
    store::{Append, Appended, Entry, Expect, Head, Receipt},
};

use super::{head_of, patched_store::Fault};

/// Checks whether a key is known before the append, not atomically with it.
#[derive(Default)]
pub(crate) struct LooksUpKeysFirst(Mutex<HashMap<(Channel, EventKey), Receipt>>);

impl Fault for LooksUpKeysFirst {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let Some(key) = append.events.first().and_then(Event::key).cloned() else {
            return inner.append(channel, append).await;
        };
        let at = (channel.clone(), key);
        let known = self.0.lock().unwrap().get(&at).copied();
        yield_now().await;
        if let Some(known) = known {
            let receipts = vec![Receipt::duplicate(known.cursor, known.time)];
            return Ok(Appended::new(receipts, vec![], head_of(inner, channel).await));
        }
        let events = append.events.iter().map(|event| Event::new(event.data().clone()));
        let done = inner.append(channel, Append::new(events)).await?;
        self.0.lock().unwrap().insert(at, done.receipts[0]);
        Ok(done)
    }
}

/// Checks whether the head is the expected one before the append, not atomically with it.
pub(crate) struct LooksAtHeadFirst;

impl Fault for LooksAtHeadFirst {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let head = head_of(inner, channel).await;
        if matches!(append.expect, Expect::At(cursor) if cursor != head.cursor) {
            return Err(StoreError::Conflict { head });
        }
        yield_now().await;
        inner.append(channel, append.expecting(Expect::Any)).await
    }
}

/// Acknowledges and loses an append that is overtaken by a close, an init or a delete.
pub(crate) struct AcknowledgesWhenOvertaken;

impl Fault for AcknowledgesWhenOvertaken {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let before = head_of(inner, channel).await;
        yield_now().await;
        let after = head_of(inner, channel).await;
        let is_new = after.cursor.tag == 0 && before.cursor.tag != 0;
        let is_overtaken = before.closed != after.closed || before.cursor.epoch != after.cursor.epoch || is_new;
        let Some(event) = append.events.first().filter(|_| is_overtaken) else {
            return inner.append(channel, append).await;
        };
        let mut cursor = after.cursor;
        (cursor.seq, cursor.tag) = (cursor.seq + 1, 77);
        let entry = Entry::new(channel.clone(), cursor, event.data().clone()).after(after.cursor.tag);
        Ok(Appended::new(vec![Receipt::appended(cursor, 0)], vec![entry], after))
    }
}

/// Appends a batch event by event, then closes.
pub(crate) struct AppendsInPieces;

impl Fault for AppendsInPieces {
    async fn append(&self, inner: &MemoryStore, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let Append { events, close, .. } = append;
        let (mut receipts, mut entries) = (vec![], vec![]);
        for event in events {
            let done = inner.append(channel, Append::new([event])).await?;
            receipts.extend(done.receipts);
            entries.extend(done.entries);
            yield_now().await;
        }
        let last = if close { Append::new([]).closing() } else { Append::new([]) };
        let head = inner.append(channel, last).await?.head;
        Ok(Appended::new(receipts, entries, head))
    }
}

/// Deletes, then fills, in an init.
pub(crate) struct InitsInTwoSteps;

impl Fault for InitsInTwoSteps {
    async fn init(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        events: Vec<Event>,
        expect: Expect,
    ) -> Result<Head, StoreError> {
        inner.delete(channel).await?;
        yield_now().await;
        inner.init(channel, events, expect).await
    }
}
