//! Sending one message, and finding out what became of it when no answer comes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    api::{self, ReadFrom, Selector},
    connection::jittered,
    error::CallError,
    log::Log,
    place::Place,
    plan::Planned,
    record::{self, Kind, Record},
    writing::{LAST_PAUSE, Writer, in_time},
};
use crate::{
    cursor::Cursor,
    store::{StoreError, Unit},
};

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// Something else came first: decide anew.
    No,
}

impl Writer {
    /// Publishes right after what is known. When no answer comes, finds out what became of it; the same message may be sent
    /// again then, for the server takes it once.
    pub(super) async fn publish(&mut self, mut message: Planned, by: Instant) -> Result<Sent, StoreError> {
        let Some(known) = &self.known else { return Ok(Sent::No) };
        let (place, record) = (Arc::clone(&known.place), known.record);
        if message.record.kind == Kind::Gone {
            return self.send(&place, message, by).await;
        }
        if let Some(record) = record {
            message.record.announcement = record.announcement;
            return self.send(&place, message, by).await;
        }
        let Some(own) = Box::pin(self.announce(&place, by)).await? else {
            self.ask_again();
            return Ok(Sent::No);
        };
        message.record.announcement = own.at();
        let sent = self.send(&place, message, by).await;
        // A log may have come of it, ours or another's, and what may be lost by now is not followed.
        if matches!(sent, Ok(Sent::No) | Err(StoreError::Unknown(_)))
            && let Some(known) = &mut self.known
        {
            known.announcement = 0;
        }
        match sent? {
            Sent::Yes => {
                let done = Box::pin(self.take_back_unless_there(&place, by)).await?;
                if done == Sent::Yes {
                    Box::pin(self.announce_again(&place, own, by)).await;
                }
                Ok(done)
            }
            Sent::No => Ok(Sent::No),
        }
    }

    /// A log begins in its place. When that was another one by then, what it began is taken back.
    async fn take_back_unless_there(&mut self, place: &Place, by: Instant) -> Result<Sent, StoreError> {
        let request_timeout = self.inner.settings.request_timeout;
        let unknown = |error: StoreError| StoreError::Unknown(Box::new(error));
        if in_time(by, place.is_same(&self.inner.connection, request_timeout)).await.map_err(unknown)? {
            return Ok(Sent::Yes);
        }
        self.inner.invalidate_place();
        if let Some(known) = &self.known {
            let start = Cursor { tag: 0, ..known.absent };
            let announcement = known.record.map_or(0, |record| record.announcement);
            let record = Record { announcement, ..Record::new(Kind::Gone, start, known.now(&self.inner)) };
            let mark = Planned { record, body: Bytes::new(), keys: Vec::new() };
            let taken_back = self.send(place, mark, by).await.map_err(unknown)?;
            self.ask_again();
            return again_if(taken_back);
        }
        Ok(Sent::No)
    }

    async fn send(&mut self, place: &Place, message: Planned, by: Instant) -> Result<Sent, StoreError> {
        let inner = Arc::clone(&self.inner);
        let Some(at) = self.known.as_ref().map(|known| known.at) else { return Ok(Sent::No) };
        let subject = place.entries(&self.channel);
        let mut is_doubtful = false;
        loop {
            let mut headers = api::expect_last(at);
            headers.insert(record::NAME, message.record.to_text());
            if message.record.kind != Kind::Append {
                headers.insert("Nats-Rollup", "sub");
            }
            let left = by.saturating_duration_since(Instant::now()).min(inner.settings.request_timeout);
            let sent = api::publish(&inner.connection, &subject, headers, message.body.clone(), left).await;
            let error = match sent {
                Ok(at) => return Ok(self.advance(at, message)),
                Err(error) => error,
            };
            if !is_doubtful && let Some(done) = self.refused(&error) {
                return done.ok_or_else(|| too_large_or(error, &message, inner.connection.max_payload()));
            }
            is_doubtful = true;
            match Box::pin(self.find(place, &message, at, by)).await? {
                Found::At(at) => return Ok(self.advance(at, message)),
                Found::Another => {
                    self.ask_again();
                    return Ok(Sent::No);
                }
                Found::Nothing => {}
            }
        }
    }

    /// What a fault says for certain of a message that was sent once: that something else came first, or (none) that it
    /// was not taken.
    fn refused(&mut self, error: &CallError) -> Option<Option<Sent>> {
        match error {
            CallError::Refused(api_error) if api_error.is_conflict() => {
                self.ask_again();
                Some(Some(Sent::No))
            }
            CallError::Refused(_) | CallError::NotSent(_) | CallError::PermissionDenied(_) => Some(None),
            CallError::NoResponders => {
                self.inner.invalidate_place();
                self.ask_again();
                Some(None)
            }
            CallError::NoResponse(_) | CallError::Malformed(_) => None,
        }
    }

    /// What came right after `at`, as soon as the leader says it.
    async fn find(&mut self, place: &Place, message: &Planned, at: u64, by: Instant) -> Result<Found, StoreError> {
        let mut pause = FIRST_PAUSE;
        loop {
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LAST_PAUSE);
            if Instant::now() >= by {
                self.ask_again();
                return Err(StoreError::Unknown("no answer from NATS".into()));
            }
            let Ok(now) = in_time(by, self.inner.place()).await else { continue };
            if !now.is(place) {
                return Err(StoreError::Unknown("the stream was made anew".into()));
            }
            let log = Log::new(&self.inner, now, &self.channel, ReadFrom::Leader);
            let Ok(next) = in_time(by, log.get(Selector::AtOrAfter(at + 1))).await else { continue };
            return match next {
                None => Ok(Found::Nothing),
                Some(next) if next.record == message.record => Ok(Found::At(next.at)),
                Some(next) if next.after == Some(at) => Ok(Found::Another),
                // It was there and is gone already, or it never was.
                Some(_) => Err(StoreError::Unknown("what followed was replaced".into())),
            };
        }
    }

    /// Takes over what was published.
    fn advance(&mut self, at: u64, message: Planned) -> Sent {
        let Some(known) = &mut self.known else { return Sent::Yes };
        let record = message.record;
        if known.record.is_none() || record.kind != Kind::Append {
            self.inner.note_listed(&self.channel, (record.kind != Kind::Gone).then(|| record.head()));
        }
        (known.at, known.checked) = (at, Instant::now());
        known.announcement = if record.kind == Kind::Gone { record.announcement } else { 0 };
        // Before anyone is answered: who then reads here is not to be served by a replica that does not have it yet.
        self.inner.note_seen(&self.channel, at);
        match record.kind {
            Kind::Append => {
                known.record = Some(record);
                if let Some(keys) = &mut known.keys {
                    message.keys.into_iter().for_each(|(key, known)| keys.remember(key, known, record.stamp));
                }
            }
            Kind::Init => (known.record, known.keys) = (Some(record), None),
            Kind::Gone => (known.record, known.keys, known.absent) = (None, None, record.cursor()),
        }
        self.inner.note_written(&self.channel, known);
        Sent::Yes
    }
}

/// What began a log may be sent again only where it was taken back; what another went on from stays.
fn again_if(taken_back: Sent) -> Result<Sent, StoreError> {
    match taken_back {
        Sent::Yes => Ok(Sent::No),
        Sent::No => Err(StoreError::Unknown("the stream changed while a log was begun".into())),
    }
}

/// What follows a message.
enum Found {
    /// Ours, there.
    At(u64),
    Another,
    Nothing,
}

fn too_large_or(error: CallError, message: &Planned, most: usize) -> StoreError {
    match error {
        CallError::Refused(api_error) if api_error.is_too_large() => {
            StoreError::TooLarge { size: message.body.len() as u64, most: most as u64, unit: Unit::Bytes }
        }
        other => other.into_store_error(),
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_taken_back_is_not_sent_again() {
        assert!(matches!(again_if(Sent::Yes), Ok(Sent::No)));
        assert!(matches!(again_if(Sent::No), Err(StoreError::Unknown(_))));
    }
}
