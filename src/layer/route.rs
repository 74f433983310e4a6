//! A service that is mounted at a path, type-erased.

use std::{
    convert::Infallible,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use tower_service::Service;

use super::{mounted_body::BoxError, mounted_future::MountedFuture, request_body::RequestBody};

/// A path, and the service that is mounted there.
#[derive(Clone)]
pub(super) struct Route {
    path: Box<str>,
    service: Arc<dyn Mounted>,
}

impl Route {
    pub(super) fn new<T, B>(path: &str, service: T) -> Self
    where
        T: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        T::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self { path: path.into(), service: Arc::new(service) }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn respond(&self, request: Request<RequestBody>) -> MountedFuture {
        self.service.respond(request)
    }
}

/// The counterpart of a service to mount that can be a trait object.
trait Mounted: Send + Sync {
    fn respond(&self, request: Request<RequestBody>) -> MountedFuture;
}

impl<T, B> Mounted for T
where
    T: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    T::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// A clone serves the request, because only the service that `poll_ready` was called on is ready.
    fn respond(&self, request: Request<RequestBody>) -> MountedFuture {
        let mut service = self.clone();
        // Most services are always ready, and then the future that waits is only their own. One that is not is polled again by
        // the request's task: of several wakers only the last is woken.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => MountedFuture::new(service.call(request)),
            Poll::Pending => MountedFuture::new(respond_when_ready(service, request)),
        }
    }
}

async fn respond_when_ready<T, R>(mut service: T, request: R) -> Result<T::Response, Infallible>
where
    T: Service<R, Error = Infallible>,
{
    poll_fn(|cx| service.poll_ready(cx)).await?;
    let response = service.call(request);
    // It may hold more than the response needs.
    drop(service);
    response.await
}
