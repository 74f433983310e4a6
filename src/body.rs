//! The body and the future of the services' responses, as opaque types.
//!
//! # Examples
//! What layers need to know of it:
//! ```
//! use http_body::Body as _;
//! use tower_events::Body;
//!
//! let nothing = Body::default();
//! assert!(nothing.is_end_stream());
//! ```
//! A stream in a custom response:
//! ```
//! use http::Response;
//! use tower_events::{Body, SseBody};
//!
//! fn stream(events: SseBody) -> Response<Body> {
//!     let mut response = events.into_response();
//!     response.headers_mut().insert("x-served-by", http::HeaderValue::from_static("a"));
//!     response
//! }
//! ```

mod attached;
mod future;

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

pub use self::future::{HandlerFuture, ResponseFuture};
pub(crate) use self::{attached::Attached, future::Answer};

/// The body of the services' responses: empty, some bytes, or a stream of events. Never fails: a stream that cannot continue
/// ends.
///
/// Dropping it is the normal end of a stream, and frees everything that the reader held.
#[derive(Default)]
pub struct Body(Repr);

#[derive(Default)]
enum Repr {
    #[default]
    Empty,
    Full(Bytes, Attached),
    // Boxed, because a body is moved through many layers and most bodies are not streams.
    Stream(Pin<Box<dyn Stream>>),
}

/// A stream; what it sends is not known here.
pub(crate) trait Stream: http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync {
    /// Attaches what ends it and what it holds, before it is first polled.
    fn attach(self: Pin<&mut Self>, attached: Attached);
}

impl Body {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self(Repr::Full(bytes.into(), Attached::default()))
    }

    pub(crate) fn stream(stream: impl Stream + 'static) -> Self {
        Self(Repr::Stream(Box::pin(stream)))
    }

    /// Attaches what ends it and what it holds. A body that has ended already holds nothing.
    fn attach(&mut self, attached: Attached) {
        match &mut self.0 {
            Repr::Empty => {}
            Repr::Full(_, known) => *known = attached,
            Repr::Stream(stream) => stream.as_mut().attach(attached),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let repr = &mut self.get_mut().0;
        match repr {
            Repr::Empty => Poll::Ready(None),
            Repr::Full(bytes, attached) => {
                // With fewer bytes than it promised the response fails: better than to be read by who may no longer.
                let bytes = if attached.is_over() { Bytes::new() } else { std::mem::take(bytes) };
                *repr = Repr::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Repr::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Repr::Empty => true,
            Repr::Full(bytes, _) => bytes.is_empty(),
            Repr::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Repr::Empty => SizeHint::with_exact(0),
            Repr::Full(bytes, _) => SizeHint::with_exact(bytes.len() as u64),
            Repr::Stream(stream) => stream.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Repr::Empty => "Body::Empty",
            Repr::Full(..) => "Body::Full",
            Repr::Stream(_) => "Body::Stream",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_full_body_knows_its_length_until_it_is_read() {
        let mut body = Body::full("abc");
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none());
        assert!(Body::full("").frame().await.is_none());
    }

    #[tokio::test]
    async fn a_body_that_is_no_stream_holds_its_guards_until_it_is_read() {
        let guard = Arc::new(());
        let attached = || {
            let mut attached = Attached::default();
            attached.add_guard(guard.clone());
            attached
        };
        let mut body = Body::full("abc");
        body.attach(attached());
        assert_eq!(Arc::strong_count(&guard), 2);
        body.frame().await.unwrap().unwrap();
        assert_eq!(Arc::strong_count(&guard), 1);
        let mut ended = Body::default();
        ended.attach(attached());
        assert_eq!(Arc::strong_count(&guard), 1);
    }
}
