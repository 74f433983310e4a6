//! The response body of any mounted service.

use std::{
    any::Any,
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};

use crate::body::Body;

/// Any error.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

pub(super) enum MountedBody {
    /// Of one of this crate's services; a stream is boxed already.
    Ours(Body),
    Other(UnsyncBoxBody<Bytes, BoxError>),
}

impl MountedBody {
    pub(super) fn new<B>(mut body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match (&mut body as &mut dyn Any).downcast_mut::<Body>() {
            Some(ours) => Self::Ours(std::mem::take(ours)),
            None => Self::Other(body.map_err(Into::into).boxed_unsync()),
        }
    }
}

impl http_body::Body for MountedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Ours(body) => {
                let frame = Pin::new(body).poll_frame(cx);
                frame.map(|frame| frame.map(|frame| frame.map_err(|never| match never {})))
            }
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Ours(body) => body.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Ours(body) => body.size_hint(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for MountedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(body) => body.fmt(f),
            Self::Other(body) => body.fmt(f),
        }
    }
}
