//! The body of a request to a mounted service: the request's own, type-erased.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use pin_project_lite::pin_project;

use super::mounted_body::BoxError;

/// The body of a request to a service that is mounted by an [`EventsLayer`](crate::EventsLayer): the request's own, whatever
/// its type. A request without a body allocates nothing for it.
#[derive(Default)]
pub struct RequestBody(UnsyncBoxBody<Bytes, BoxError>);

impl RequestBody {
    pub(super) fn new<B>(mut body: B) -> Self
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Self::default();
        }
        // The request of a mounted service that has such a layer itself.
        match (&mut body as &mut dyn Any).downcast_mut::<Self>() {
            Some(erased) => std::mem::take(erased),
            None => Self(UnsyncBoxBody::new(Erased { body })),
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}

pin_project! {
    // A body with the data and the error of a `RequestBody`. The combinators of `http_body_util` that convert data forget how
    // long the body is, by which a publish that is too large is refused before it is read.
    struct Erased<B> {
        #[pin]
        body: B,
    }
}

impl<B> http_body::Body for Erased<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // Copies nothing if the data are `Bytes`.
        let owned = |frame: Frame<B::Data>| frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        self.project().body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map(owned).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
