//! Mounts the services at paths in front of an existing service, without a router.
//!
//! The inner service gets every other request, with the hub in its extensions, so that its handlers can publish:
//! `request.extensions().get::<Hub>()` finds it whatever its store is.
//!
//! An axum `Router` takes the layer with `Router::layer`, after its last route: then the paths are served whether or not the
//! router has such routes, and the result is still a `Router`, which `axum::serve` accepts.
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
//! Behind a layer of its own, which the inner service does not have:
//! ```
//! use http::{HeaderValue, Response, header::SERVER};
//! use tower::ServiceBuilder;
//! use tower_events::{Body, Channel, EventService, EventsLayer, Hub, MemoryStore};
//!
//! let hub = Hub::new(MemoryStore::default());
//! let events = ServiceBuilder::new()
//!     .map_response(|mut response: Response<Body>| {
//!         response.headers_mut().insert(SERVER, HeaderValue::from_static("events"));
//!         response
//!     })
//!     .service(EventService::fixed(hub.clone(), Channel::new("news")?));
//! let layer = EventsLayer::new(hub).route("/events", events);
//! # drop(layer);
//! # Ok::<(), tower_events::InvalidChannel>(())
//! ```
//!
//! # Costs
//! A request to a mounted service of this crate takes the allocations that the service takes, and one more if it has a body.
//! Any other mounted service takes one for its future, and one for the body of its response unless that is a
//! [`Body`](crate::Body).

mod body;
mod future;
mod mounted_body;
mod mounted_future;
mod request_body;
mod route;

use std::{
    any::TypeId,
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

pub use self::{body::EventsBody, future::LayerFuture, request_body::RequestBody};
use self::{mounted_body::BoxError, route::Route};
use crate::{
    hub::Hub,
    store::{AnyStore, Store},
};

/// Mounts services at paths, and inserts the hub into the extensions of all other requests. See the [module docs](self).
pub struct EventsLayer<S = AnyStore> {
    hub: Hub<S>,
    /// The same hub for handlers that do not know `S`, unless `hub` is for them already.
    erased: Option<Hub>,
    routes: Arc<[Route]>,
}

impl<S: Store> EventsLayer<S> {
    /// Mounts nothing yet: only inserts `hub` into the extensions, as a `Hub<S>` and as a `Hub` ([`Hub::erase`]).
    pub fn new(hub: Hub<S>) -> Self {
        let erased = (TypeId::of::<S>() != TypeId::of::<AnyStore>()).then(|| hub.erase());
        Self { hub, erased, routes: Arc::new([]) }
    }

    /// Mounts `service` at exactly this path, such as `/events`. The first of several at the same path is used.
    ///
    /// It is one of this crate's services, alone or behind layers, or any other that never fails, such as an axum router. Each
    /// request is served by a clone of it, as soon as that is ready.
    #[must_use]
    pub fn route<T, B>(self, path: &str, service: T) -> Self
    where
        T: Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
        T::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let route = Route::new(path, service);
        Self { routes: self.routes.iter().cloned().chain([route]).collect(), ..self }
    }
}

impl<S, I> Layer<I> for EventsLayer<S> {
    type Service = Events<I, S>;

    fn layer(&self, inner: I) -> Events<I, S> {
        Events { inner, layer: self.clone() }
    }
}

impl<S> Clone for EventsLayer<S> {
    fn clone(&self) -> Self {
        Self { hub: self.hub.clone(), erased: self.erased.clone(), routes: self.routes.clone() }
    }
}

impl<S> fmt::Debug for EventsLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<_> = self.routes.iter().map(Route::path).collect();
        f.debug_struct("EventsLayer").field("paths", &paths).finish_non_exhaustive()
    }
}

/// A service wrapped by an [`EventsLayer`]: its errors and readiness are the inner service's.
pub struct Events<I, S = AnyStore> {
    inner: I,
    layer: EventsLayer<S>,
}

impl<I, S, B, C> Service<Request<B>> for Events<I, S>
where
    I: Service<Request<B>, Response = Response<C>>,
    S: Store,
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
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
        if let Some(route) = self.layer.routes.iter().find(|route| route.path() == path) {
            return LayerFuture::mounted(route.respond(request.map(RequestBody::new)));
        }
        let EventsLayer { hub, erased, .. } = &self.layer;
        request.extensions_mut().insert(hub.clone());
        if let Some(erased) = erased {
            request.extensions_mut().insert(erased.clone());
        }
        // Not a clone: only the service that `poll_ready` was called on is ready.
        LayerFuture::inner(self.inner.call(request))
    }
}

impl<I: Clone, S> Clone for Events<I, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<I: fmt::Debug, S> fmt::Debug for Events<I, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("inner", &self.inner).field("layer", &self.layer).finish()
    }
}
