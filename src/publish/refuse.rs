//! Refuses a request so that its client learns of it. Over HTTP/1 most clients write all of their body before they read the
//! answer; a server that answers and closes while bytes are still on the way resets the connection, and the client sees a
//! broken pipe (a proxy: a 502) instead of the answer. So what is left of the body is read and thrown away first, within
//! bounds. Knows nothing of why a request is refused.

use std::{sync::Arc, time::Duration};

use bytes::Buf as _;
use http::{HeaderValue, Response, Version, header, request::Parts};
use tokio::{sync::Semaphore, time::timeout};

use super::incoming_body::{BoxError, IncomingBody, ReadProgress};
use crate::{body::Body, problem::Problem};

/// Most bytes that are thrown away of one body.
const MAX_DISCARDED: u64 = 4 << 20;
/// How long they are waited for.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// How many bodies one service throws away at once.
const MAX_DISCARDS: usize = 64;

/// How a client sends its request: as much of it as a refusal depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendMode {
    /// HTTP/1: whatever is not read ends the connection.
    AtOnce,
    /// HTTP/1, and the body follows only when it is asked for (`Expect: 100-continue`).
    AfterContinue,
    /// HTTP/2 and later: a stream of its own, which a refusal stops without harm (RFC 9113, section 8.1).
    OwnStream,
}

impl SendMode {
    pub(super) fn of(request: &Parts) -> Self {
        let asks = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        match request.version {
            version if version > Version::HTTP_11 => Self::OwnStream,
            _ if request.headers.get_all(header::EXPECT).iter().any(asks) => Self::AfterContinue,
            _ => Self::AtOnce,
        }
    }
}

/// What is done with the rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyAction {
    /// Nothing is left, or it may stay.
    Leave,
    Discard,
    /// It is too much: the connection ends.
    CloseConnection,
}

fn body_action(send_mode: SendMode, progress: ReadProgress, min_remaining: u64) -> BodyAction {
    match (send_mode, progress) {
        (_, ReadProgress::Complete) | (SendMode::OwnStream, _) => BodyAction::Leave,
        // To read would be to ask for it.
        (SendMode::AfterContinue, ReadProgress::Unread) | (_, ReadProgress::Failed) => BodyAction::CloseConnection,
        _ if min_remaining > MAX_DISCARDED => BodyAction::CloseConnection,
        _ => BodyAction::Discard,
    }
}

/// Refuses for all clones of a service.
#[derive(Clone, Debug)]
pub(super) struct Refuser(Arc<Semaphore>);

impl Refuser {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_DISCARDS)))
    }

    /// The answer, once the client will read it.
    pub(super) async fn respond<B>(
        &self,
        problem: Problem,
        send_mode: SendMode,
        body: &mut IncomingBody<'_, B>,
    ) -> Response<Body>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let stays_open = match body_action(send_mode, body.progress(), body.min_remaining()) {
            BodyAction::Leave => true,
            BodyAction::Discard => self.discard(body).await,
            BodyAction::CloseConnection => false,
        };
        let mut response = problem.into_response();
        if !stays_open {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Whether the end of the body was reached.
    async fn discard<B>(&self, body: &mut IncomingBody<'_, B>) -> bool
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let Ok(_permit) = self.0.try_acquire() else { return false };
        let read = async {
            let mut remaining = MAX_DISCARDED;
            while let Some(Ok(data)) = body.next_chunk().await {
                match remaining.checked_sub(data.remaining() as u64) {
                    Some(less) => remaining = less,
                    None => return,
                }
            }
        };
        _ = timeout(DISCARD_TIMEOUT, read).await;
        body.progress() == ReadProgress::Complete
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn what_is_left_of_a_body_is_discarded_within_bounds() {
        let table = [
            (SendMode::AtOnce, ReadProgress::Unread, 0, BodyAction::Discard),
            (SendMode::AtOnce, ReadProgress::Unread, MAX_DISCARDED, BodyAction::Discard),
            (SendMode::AtOnce, ReadProgress::Unread, MAX_DISCARDED + 1, BodyAction::CloseConnection),
            (SendMode::AtOnce, ReadProgress::Started, MAX_DISCARDED, BodyAction::Discard),
            (SendMode::AtOnce, ReadProgress::Started, u64::MAX, BodyAction::CloseConnection),
            (SendMode::AtOnce, ReadProgress::Complete, 0, BodyAction::Leave),
            (SendMode::AtOnce, ReadProgress::Failed, 0, BodyAction::CloseConnection),
            (SendMode::AfterContinue, ReadProgress::Unread, 1, BodyAction::CloseConnection),
            (SendMode::AfterContinue, ReadProgress::Started, 1, BodyAction::Discard),
            (SendMode::AfterContinue, ReadProgress::Complete, 0, BodyAction::Leave),
            (SendMode::OwnStream, ReadProgress::Unread, u64::MAX, BodyAction::Leave),
            (SendMode::OwnStream, ReadProgress::Started, 1, BodyAction::Leave),
            (SendMode::OwnStream, ReadProgress::Failed, 1, BodyAction::Leave),
        ];
        for (send_mode, progress, min_remaining, expected) in table {
            assert_eq!(
                body_action(send_mode, progress, min_remaining),
                expected,
                "{send_mode:?} {progress:?} {min_remaining}"
            );
        }
    }

    #[test]
    fn the_version_and_the_expectation_say_how_a_client_sends() {
        let table = [
            (Version::HTTP_10, None, SendMode::AtOnce),
            (Version::HTTP_11, None, SendMode::AtOnce),
            (Version::HTTP_11, Some("100-Continue"), SendMode::AfterContinue),
            (Version::HTTP_11, Some("x"), SendMode::AtOnce),
            (Version::HTTP_2, Some("100-continue"), SendMode::OwnStream),
            (Version::HTTP_3, None, SendMode::OwnStream),
        ];
        for (version, expect, expected) in table {
            let request = Request::builder().version(version);
            let request = expect.into_iter().fold(request, |request, expect| request.header("expect", expect));
            assert_eq!(SendMode::of(&request.body(()).unwrap().into_parts().0), expected, "{version:?} {expect:?}");
        }
    }
}
