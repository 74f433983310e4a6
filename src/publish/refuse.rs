//! Refuses a request so that its client learns of it. Over HTTP/1 most clients write all of their body before they read the
//! answer; a server that answers and closes while bytes are still on the way resets the connection, and the client sees a
//! broken pipe (a proxy: a 502) instead of the answer. So what is left of the body is read and thrown away first, within
//! bounds. Knows nothing of why a request is refused.

use std::{sync::Arc, time::Duration};

use bytes::Buf as _;
use http::{HeaderValue, Response, Version, header, request::Parts};
use tokio::{sync::Semaphore, time::timeout};

use super::body::{BoxError, Incoming, Progress};
use crate::{body::Body, problem::Problem};

/// Most bytes that are thrown away of one body.
const MOST: u64 = 4 << 20;
/// How long they are waited for.
const LONGEST: Duration = Duration::from_secs(2);
/// How many bodies one service throws away at once.
const AT_ONCE: usize = 64;

/// How a client sends its request: as much of it as a refusal depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// HTTP/1: whatever is not read ends the connection.
    All,
    /// HTTP/1, and the body follows only when it is asked for (`Expect: 100-continue`).
    WhenAsked,
    /// HTTP/2 and later: a stream of its own, which a refusal stops without harm (RFC 9113, section 8.1).
    Stream,
}

impl Sending {
    pub(super) fn of(request: &Parts) -> Self {
        let asks = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        match request.version {
            version if version > Version::HTTP_11 => Self::Stream,
            _ if request.headers.get_all(header::EXPECT).iter().any(asks) => Self::WhenAsked,
            _ => Self::All,
        }
    }
}

/// What is done with the rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Nothing is left, or it may stay.
    Leave,
    Discard,
    /// It is too much: the connection ends.
    Close,
}

fn rest(sending: Sending, progress: Progress, announced: u64) -> Rest {
    match (sending, progress) {
        (_, Progress::Ended) | (Sending::Stream, _) => Rest::Leave,
        // To read would be to ask for it.
        (Sending::WhenAsked, Progress::Untouched) | (_, Progress::Broken) => Rest::Close,
        _ if announced > MOST => Rest::Close,
        _ => Rest::Discard,
    }
}

/// Refuses for all clones of a service.
#[derive(Clone, Debug)]
pub(super) struct Refusals(Arc<Semaphore>);

impl Refusals {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// The answer, once the client will read it.
    pub(super) async fn answer<B>(
        &self,
        problem: Problem,
        sending: Sending,
        body: &mut Incoming<'_, B>,
    ) -> Response<Body>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let goes_on = match rest(sending, body.progress(), body.announced()) {
            Rest::Leave => true,
            Rest::Discard => self.discard(body).await,
            Rest::Close => false,
        };
        let mut response = problem.into_response();
        if !goes_on {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Whether the end of the body was reached.
    async fn discard<B>(&self, body: &mut Incoming<'_, B>) -> bool
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let Ok(_turn) = self.0.try_acquire() else { return false };
        let read = async {
            let mut left = MOST;
            while let Some(Ok(data)) = body.next().await {
                match left.checked_sub(data.remaining() as u64) {
                    Some(less) => left = less,
                    None => return,
                }
            }
        };
        _ = timeout(LONGEST, read).await;
        body.progress() == Progress::Ended
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn what_is_left_of_a_body_is_discarded_within_bounds() {
        let table = [
            (Sending::All, Progress::Untouched, 0, Rest::Discard),
            (Sending::All, Progress::Untouched, MOST, Rest::Discard),
            (Sending::All, Progress::Untouched, MOST + 1, Rest::Close),
            (Sending::All, Progress::Begun, MOST, Rest::Discard),
            (Sending::All, Progress::Begun, u64::MAX, Rest::Close),
            (Sending::All, Progress::Ended, 0, Rest::Leave),
            (Sending::All, Progress::Broken, 0, Rest::Close),
            (Sending::WhenAsked, Progress::Untouched, 1, Rest::Close),
            (Sending::WhenAsked, Progress::Begun, 1, Rest::Discard),
            (Sending::WhenAsked, Progress::Ended, 0, Rest::Leave),
            (Sending::Stream, Progress::Untouched, u64::MAX, Rest::Leave),
            (Sending::Stream, Progress::Begun, 1, Rest::Leave),
            (Sending::Stream, Progress::Broken, 1, Rest::Leave),
        ];
        for (sending, progress, announced, expected) in table {
            assert_eq!(rest(sending, progress, announced), expected, "{sending:?} {progress:?} {announced}");
        }
    }

    #[test]
    fn the_version_and_the_expectation_say_how_a_client_sends() {
        let table = [
            (Version::HTTP_10, None, Sending::All),
            (Version::HTTP_11, None, Sending::All),
            (Version::HTTP_11, Some("100-Continue"), Sending::WhenAsked),
            (Version::HTTP_11, Some("x"), Sending::All),
            (Version::HTTP_2, Some("100-continue"), Sending::Stream),
            (Version::HTTP_3, None, Sending::Stream),
        ];
        for (version, expect, expected) in table {
            let request = Request::builder().version(version);
            let request = expect.into_iter().fold(request, |request, expect| request.header("expect", expect));
            assert_eq!(Sending::of(&request.body(()).unwrap().into_parts().0), expected, "{version:?} {expect:?}");
        }
    }
}
