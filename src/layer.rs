//! Mounts the services at paths in front of an existing service, without a router.
//!
//! The inner service gets every other request, with the [`Hub`] in its extensions, so that its handlers can publish.
//!
//! # Examples
//! The default:
//! ```
//! use tower_events::{Channels, EventService, EventsLayer, Hub, MemoryStore};
//! use tower_layer::Layer as _;
//!
//! # let inner = ();
//! let hub = Hub::new(MemoryStore::default());
//! let events = EventService::new(hub.clone(), Channels::from_query); // anyone may read any channel
//! let service = EventsLayer::new(hub).route("/events", events).layer(inner);
//! # drop(service);
//! ```
//! Customised, with a second path that publishes:
//! ```
//! use tower_events::{Channel, EventsLayer, Hub, MemoryStore, PublishService, SseService};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let news = Channel::new("news")?;
//! let layer = EventsLayer::new(hub.clone())
//!     .route("/news", SseService::fixed(hub.clone(), &news))
//!     .route("/news/publish", PublishService::fixed(hub, news).max_body(4096));
//! # drop(layer);
//! # Ok::<(), tower_events::InvalidChannel>(())
//! ```

mod body;
mod future;
mod route;

use std::{
    error::Error,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use self::route::MountedService;
pub use self::{body::EventsBody, future::LayerFuture, route::Route};
use crate::{
    hub::Hub,
    store::{AnyStore, Store},
};

/// Mounts services at paths, and inserts the hub into the extensions of all other requests. See the [module docs](self).
pub struct EventsLayer<S = AnyStore> {
    hub: Hub<S>,
    routes: Arc<[(Box<str>, MountedService<S>)]>,
}

impl<S: Store> EventsLayer<S> {
    /// Mounts nothing yet: only inserts `hub` into the extensions.
    pub fn new(hub: Hub<S>) -> Self {
        Self { hub, routes: Arc::new([]) }
    }

    /// Mounts `service` at exactly this path, such as `/events`. The first of several at the same path is used.
    #[must_use]
    pub fn route(self, path: &str, service: impl Into<Route<S>>) -> Self {
        let mounted = (Box::from(path), service.into().into_service());
        Self { routes: self.routes.iter().cloned().chain([mounted]).collect(), hub: self.hub }
    }
}

impl<S, I> Layer<I> for EventsLayer<S> {
    type Service = WithEvents<I, S>;

    fn layer(&self, inner: I) -> WithEvents<I, S> {
        WithEvents { inner, layer: self.clone() }
    }
}

impl<S> Clone for EventsLayer<S> {
    fn clone(&self) -> Self {
        Self { hub: self.hub.clone(), routes: self.routes.clone() }
    }
}

impl<S> fmt::Debug for EventsLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.routes.iter().map(|(path, _)| path).collect();
        f.debug_struct("EventsLayer").field("paths", &paths).finish_non_exhaustive()
    }
}

/// A service wrapped by an [`EventsLayer`]: its errors and readiness are the inner service's.
pub struct WithEvents<I, S = AnyStore> {
    inner: I,
    layer: EventsLayer<S>,
}

impl<I, S, B, C> Service<Request<B>> for WithEvents<I, S>
where
    I: Service<Request<B>, Response = Response<C>>,
    S: Store,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Response<EventsBody<C>>;
    type Error = I::Error;
    type Future = LayerFuture<I::Future>;

    /// Ready when the inner service is, because the path of the next request is not known yet.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), I::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> LayerFuture<I::Future> {
        let path = request.uri().path();
        let mounted = self.layer.routes.iter().find(|(route, _)| **route == *path);
        if let Some((_, service)) = mounted {
            return LayerFuture::mounted(service.call(request));
        }
        request.extensions_mut().insert(self.layer.hub.clone());
        // Not a clone: only the service that `poll_ready` was called on is ready.
        LayerFuture::inner(self.inner.call(request))
    }
}

impl<I: Clone, S> Clone for WithEvents<I, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<I: fmt::Debug, S> fmt::Debug for WithEvents<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithEvents").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}
