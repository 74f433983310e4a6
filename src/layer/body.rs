//! The response body of a wrapped service: a mounted service's, or the inner service's.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use super::mounted_body::{BoxError, MountedBody};

pin_project! {
    /// The response body of a service wrapped by an [`EventsLayer`](crate::EventsLayer); `B` is the inner service's. A stream
    /// of this crate's services is not boxed again.
    pub struct EventsBody<B> {
        #[pin]
        repr: Repr<B>,
    }
}

pin_project! {
    #[project = Projected]
    enum Repr<B> {
        Mounted { body: MountedBody },
        Inner { #[pin] body: B },
    }
}

impl<B> EventsBody<B> {
    pub(super) fn mounted(body: MountedBody) -> Self {
        Self { repr: Repr::Mounted { body } }
    }

    pub(super) fn inner(body: B) -> Self {
        Self { repr: Repr::Inner { body } }
    }
}

impl<B> http_body::Body for EventsBody<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().repr.project() {
            Projected::Mounted { body } => Pin::new(body).poll_frame(cx),
            Projected::Inner { body } => body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.repr {
            Repr::Mounted { body } => body.is_end_stream(),
            Repr::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.repr {
            Repr::Mounted { body } => body.size_hint(),
            Repr::Inner { body } => body.size_hint(),
        }
    }
}

impl<B: Default> Default for EventsBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B: fmt::Debug> fmt::Debug for EventsBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repr {
            Repr::Mounted { body } => body.fmt(f),
            Repr::Inner { body } => body.fmt(f),
        }
    }
}
