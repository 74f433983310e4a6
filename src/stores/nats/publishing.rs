//! Publishing one message, and finding out what became of it when no response arrives.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    api::{self, ReadFrom, Selector},
    error::CallError,
    place::Place,
    plan::Planned,
    record::{self, Kind, Record},
    timing::{in_time, jittered},
    writer::{MAX_PAUSE, Writer},
};
use crate::{
    cursor::Cursor,
    store::{StoreError, Unit},
};

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublishOutcome {
    Stored,
    /// Another message came first: decide again.
    Overtaken,
}

impl Writer {
    /// Publishes the message right after the known one. If no response arrives, finds out what became of it; the
    /// message can then be sent again, because the server accepts it only once.
    pub(super) async fn publish(
        &mut self,
        mut message: Planned,
        deadline: Instant,
    ) -> Result<PublishOutcome, StoreError> {
        let Some(state) = &self.state else { return Ok(PublishOutcome::Overtaken) };
        let (place, record) = (Arc::clone(&state.place), state.record);
        if message.record.kind == Kind::Gone {
            return self.send(&place, message, deadline).await;
        }
        if let Some(record) = record {
            message.record.announcement = record.announcement;
            return self.send(&place, message, deadline).await;
        }
        let Some(own) = Box::pin(self.announce(&place, deadline)).await? else {
            self.distrust_state();
            return Ok(PublishOutcome::Overtaken);
        };
        message.record.announcement = own.at();
        let sent = self.send(&place, message, deadline).await;
        // A log may have been started, by this message or by another node's; if it is lost by now, the next log must
        // not follow its announcement.
        if matches!(sent, Ok(PublishOutcome::Overtaken) | Err(StoreError::Unknown(_)))
            && let Some(state) = &mut self.state
        {
            state.announcement = 0;
        }
        match sent? {
            PublishOutcome::Stored => {
                let done = Box::pin(self.remove_unless_same_place(&place, deadline)).await?;
                if done == PublishOutcome::Stored {
                    Box::pin(self.announce_again(&place, own, deadline)).await;
                }
                Ok(done)
            }
            PublishOutcome::Overtaken => Ok(PublishOutcome::Overtaken),
        }
    }

    /// A log must start in the place that it was decided on. If the stream was replaced meanwhile, the log is removed
    /// again.
    async fn remove_unless_same_place(
        &mut self,
        place: &Place,
        deadline: Instant,
    ) -> Result<PublishOutcome, StoreError> {
        let request_timeout = self.inner.settings.request_timeout;
        let unknown = |error: StoreError| StoreError::Unknown(Box::new(error));
        if in_time(deadline, place.is_same(&self.inner.connection, request_timeout)).await.map_err(unknown)? {
            return Ok(PublishOutcome::Stored);
        }
        self.inner.invalidate_place();
        if let Some(state) = &self.state {
            let start = Cursor { tag: 0, ..state.absent };
            let announcement = state.record.map_or(0, |record| record.announcement);
            let record = Record { announcement, ..Record::new(Kind::Gone, start, state.now(&self.inner.clock)) };
            let mark = Planned { record, body: Bytes::new(), keys: Vec::new() };
            let removed = self.send(place, mark, deadline).await.map_err(unknown)?;
            self.distrust_state();
            return after_removal(removed);
        }
        Ok(PublishOutcome::Overtaken)
    }

    async fn send(&mut self, place: &Place, message: Planned, deadline: Instant) -> Result<PublishOutcome, StoreError> {
        let inner = Arc::clone(&self.inner);
        let Some(at) = self.state.as_ref().map(|state| state.at) else { return Ok(PublishOutcome::Overtaken) };
        let subject = place.entries(&self.channel);
        let mut is_unknown = false;
        loop {
            let mut headers = api::expect_last(at);
            headers.insert(record::NAME, message.record.to_text());
            if message.record.kind != Kind::Append {
                headers.insert("Nats-Rollup", "sub");
            }
            let left = deadline.saturating_duration_since(Instant::now()).min(inner.settings.request_timeout);
            let sent = api::publish(&inner.connection, &subject, headers, message.body.clone(), left).await;
            let error = match sent {
                Ok(at) => return Ok(self.advance(at, message)),
                Err(error) => error,
            };
            if !is_unknown && let Some(done) = self.refused(&error) {
                return done.ok_or_else(|| too_large_or(error, &message, inner.connection.max_payload()));
            }
            is_unknown = true;
            match Box::pin(self.find_successor(place, &message, at, deadline)).await? {
                Successor::At(at) => return Ok(self.advance(at, message)),
                Successor::Other => {
                    self.distrust_state();
                    return Ok(PublishOutcome::Overtaken);
                }
                Successor::Nothing => {}
            }
        }
    }

    /// What an error says for certain about a message that was sent once: `Some(Some(_))` when another one came first,
    /// `Some(None)` when it was not stored.
    fn refused(&mut self, error: &CallError) -> Option<Option<PublishOutcome>> {
        match error {
            CallError::Refused(api_error) if api_error.is_conflict() => {
                self.distrust_state();
                Some(Some(PublishOutcome::Overtaken))
            }
            CallError::Refused(_) | CallError::NotSent(_) | CallError::PermissionDenied(_) => Some(None),
            CallError::NoResponders => {
                self.inner.invalidate_place();
                self.distrust_state();
                Some(None)
            }
            CallError::NoResponse(_) | CallError::Malformed(_) => None,
        }
    }

    /// The message after sequence `at`, as soon as the leader can tell.
    async fn find_successor(
        &mut self,
        place: &Place,
        message: &Planned,
        at: u64,
        deadline: Instant,
    ) -> Result<Successor, StoreError> {
        let mut pause = MIN_PAUSE;
        loop {
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(MAX_PAUSE);
            if Instant::now() >= deadline {
                self.distrust_state();
                return Err(StoreError::Unknown("no response from NATS".into()));
            }
            let Ok(now) = in_time(deadline, self.inner.place()).await else { continue };
            if !now.is(place) {
                return Err(StoreError::Unknown("the stream was replaced".into()));
            }
            let log = self.inner.log(now, &self.channel, ReadFrom::Leader);
            let Ok(next) = in_time(deadline, log.get(Selector::AtOrAfter(at + 1))).await else { continue };
            return match next {
                None => Ok(Successor::Nothing),
                Some(next) if next.record == message.record => Ok(Successor::At(next.at)),
                Some(next) if next.after == Some(at) => Ok(Successor::Other),
                // The message was stored and deleted again, or was never stored.
                Some(_) => Err(StoreError::Unknown("the messages that followed were replaced".into())),
            };
        }
    }

    /// Updates the state with the published message.
    fn advance(&mut self, at: u64, message: Planned) -> PublishOutcome {
        let Some(state) = &mut self.state else { return PublishOutcome::Stored };
        let record = message.record;
        if state.record.is_none() || record.kind != Kind::Append {
            self.inner.note_listed(&self.channel, (record.kind != Kind::Gone).then(|| record.head()));
        }
        (state.at, state.checked) = (at, Instant::now());
        state.announcement = if record.kind == Kind::Gone { record.announcement } else { 0 };
        // Before callers are answered: a caller that then reads here must not be served by a replica that does not have
        // the message yet.
        self.inner.note_seen(&self.channel, at);
        match record.kind {
            Kind::Append => {
                state.record = Some(record);
                if let Some(keys) = &mut state.keys {
                    message.keys.into_iter().for_each(|(key, known)| keys.remember(key, known, record.stamp));
                }
            }
            Kind::Init => (state.record, state.keys) = (Some(record), None),
            Kind::Gone => (state.record, state.keys, state.absent) = (None, None, record.cursor()),
        }
        self.inner.note_written(&self.channel, state);
        PublishOutcome::Stored
    }
}

/// The first message of a log is sent again only if it was removed; if another node continued the log, it stays.
fn after_removal(removed: PublishOutcome) -> Result<PublishOutcome, StoreError> {
    match removed {
        PublishOutcome::Stored => Ok(PublishOutcome::Overtaken),
        PublishOutcome::Overtaken => Err(StoreError::Unknown("the stream changed while a log was started".into())),
    }
}

/// What follows the known message.
enum Successor {
    /// This message, at this sequence.
    At(u64),
    Other,
    Nothing,
}

fn too_large_or(error: CallError, message: &Planned, max: usize) -> StoreError {
    match error {
        CallError::Refused(api_error) if api_error.is_too_large() => {
            StoreError::TooLarge { size: message.body.len() as u64, max: max as u64, unit: Unit::Bytes }
        }
        other => other.into_store_error(),
    }
}

const MIN_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_message_that_could_not_be_removed_is_not_sent_again() {
        assert!(matches!(after_removal(PublishOutcome::Stored), Ok(PublishOutcome::Overtaken)));
        assert!(matches!(after_removal(PublishOutcome::Overtaken), Err(StoreError::Unknown(_))));
    }
}
