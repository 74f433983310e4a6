//! The response future of any mounted service.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;

use super::mounted_body::{BoxError, MountedBody};
use crate::body::ResponseFuture;

pub(super) enum MountedFuture {
    /// Of one of this crate's services; boxed already.
    Ours(ResponseFuture),
    Other(Pin<Box<dyn Future<Output = Response<MountedBody>> + Send>>),
}

impl MountedFuture {
    pub(super) fn new<F, B>(mut future: F) -> Self
    where
        F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        match (&mut future as &mut dyn Any).downcast_mut::<ResponseFuture>() {
            Some(ours) => Self::Ours(ours.take()),
            None => Self::Other(Box::pin(async move {
                let Ok(response) = future.await;
                response.map(MountedBody::new)
            })),
        }
    }
}

impl Future for MountedFuture {
    type Output = Response<MountedBody>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<MountedBody>> {
        match self.get_mut() {
            Self::Ours(future) => Pin::new(future).poll(cx).map(|Ok(response)| response.map(MountedBody::new)),
            Self::Other(future) => future.as_mut().poll(cx),
        }
    }
}
