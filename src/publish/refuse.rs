//! Refuses a request in such a way that its client sees the response. Over HTTP/1 most clients send their whole body before
//! they read the response; a server that responds and closes the connection while data is still arriving resets it, and the
//! client sees a broken pipe (or, through a proxy, a 502) instead of the response. So what is left of the body is read and
//! discarded first, within bounds. Knows nothing of why a request is refused.

use std::{sync::Arc, time::Duration};

use bytes::Buf as _;
use http::{HeaderValue, Response, Version, header, request::Parts};
use tokio::{sync::Semaphore, time::timeout};

use super::incoming_body::{BoxError, IncomingBody, ReadProgress};
use crate::{body::Body, problem::Problem};

/// Maximum bytes of a body that are discarded.
const MAX_DISCARDED: u64 = 4 << 20;
/// How long discarding a body may take.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of bodies that a service discards at once.
const MAX_DISCARDS: usize = 64;

/// How a client sends its body, as far as a refusal depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendMode {
    /// HTTP/1: the connection cannot be reused unless the body is read.
    AtOnce,
    /// HTTP/1, and the client waits for a `100 Continue` before it sends the body (`Expect: 100-continue`).
    AfterContinue,
    /// HTTP/2 and later: a stream of its own, which a refusal can end without harm (RFC 9113, section 8.1).
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

/// What to do with the rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyAction {
    /// Nothing is left, or it does no harm.
    Leave,
    Discard,
    /// It is too much, or cannot be read.
    CloseConnection,
}

fn body_action(send_mode: SendMode, progress: ReadProgress, min_remaining: u64) -> BodyAction {
    match (send_mode, progress) {
        (_, ReadProgress::Complete) | (SendMode::OwnStream, _) => BodyAction::Leave,
        // Reading it would send the `100 Continue`.
        (SendMode::AfterContinue, ReadProgress::Unread) | (_, ReadProgress::Failed) => BodyAction::CloseConnection,
        _ if min_remaining > MAX_DISCARDED => BodyAction::CloseConnection,
        _ => BodyAction::Discard,
    }
}

/// Refuses requests for all clones of a service; holds the permits to discard a body.
#[derive(Clone, Debug)]
pub(super) struct Refuser(Arc<Semaphore>);

impl Refuser {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_DISCARDS)))
    }

    /// The response, once the client will read it.
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

    /// Discards the rest of the body, and returns whether its end was reached.
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
    fn the_version_and_the_expect_header_say_how_a_client_sends() {
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
