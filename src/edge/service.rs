//! What the reading services share; they differ in their [`Responder`].

use std::sync::Arc;

use http::{Request, Response, request::Parts};

use super::{
    decision::{ALLOW, Decision, Refusal, decide},
    response::{finish, options_response},
    target::ReadTarget,
};
use crate::{
    body::{Body, HandlerFuture, ResponseFuture},
    channel::Channels,
    compaction::Compaction,
    grant::Grant,
    hub::{Asked, Denied, Hub},
    request::{Offer, ReadMethod, ReadRequest, ReadSettings, Rejection, SharedResolver},
    snapshot::Snapshots,
    store::{Start, Store},
};

/// Responds on the transports of a service.
pub(crate) trait Responder {
    /// The transports to negotiate between.
    const OFFER: Offer;

    /// Serves `request`, which says where `target` starts.
    fn answer<S: Store>(&self, hub: &Hub<S>, target: ReadTarget, request: ReadRequest) -> HandlerFuture;

    /// Refuses a request in the way of its transport.
    fn refuse<S: Store>(&self, hub: &Hub<S>, refusal: Refusal) -> Response<Body>;
}

/// A service that reads, with what its clones share.
pub(crate) struct ReadService<S, R>(Arc<Shared<S, R>>);

struct Shared<S, R> {
    hub: Hub<S>,
    resolver: SharedResolver,
    settings: ReadSettings,
    snapshots: Option<Snapshots>,
    responder: R,
}

impl<S: Store, R: Responder + Clone + Send + Sync + 'static> ReadService<S, R> {
    pub(crate) fn new(hub: Hub<S>, resolver: SharedResolver, responder: R) -> Self {
        Self(Arc::new(Shared { hub, resolver, settings: ReadSettings::default(), snapshots: None, responder }))
    }

    pub(crate) fn with_responder(self, change: impl FnOnce(&mut R)) -> Self {
        self.with(|shared| change(&mut shared.responder))
    }

    pub(crate) fn max_channels(self, max_channels: usize) -> Self {
        self.with(|shared| shared.settings.max_channels = max_channels.clamp(1, Channels::MAX))
    }

    pub(crate) fn start(self, start: Start) -> Self {
        self.with(|shared| shared.settings.start = start)
    }

    pub(crate) fn snapshots(self, snapshots: Snapshots) -> Self {
        self.with(|shared| shared.snapshots = Some(snapshots))
    }

    pub(crate) fn keep_parameters<N: Into<Box<str>>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.with(|shared| shared.settings.kept_parameters = names.into_iter().map(Into::into).collect())
    }

    pub(crate) fn compaction(self, compaction: Compaction) -> Self {
        self.with(|shared| shared.settings.compaction = Some(compaction))
    }

    pub(crate) fn max_behind(self, events: u64) -> Self {
        self.with(|shared| shared.settings.max_behind = Some(events))
    }

    fn with(self, change: impl FnOnce(&mut Shared<S, R>)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.0);
        change(&mut shared);
        Self(Arc::new(shared))
    }

    /// Answers `request`; the resolver says what it may read, unless a layer in front did.
    pub(crate) fn call<B>(&self, request: Request<B>) -> ResponseFuture {
        // The body is dropped here, so that the future needs no bounds on its type.
        let (parts, _) = request.into_parts();
        ResponseFuture(match SharedResolver::decided(&parts) {
            Some(grant) => self.respond(&parts, grant),
            None => self.ask(parts),
        })
    }

    /// Answers `request` with what `grant` allows, without the resolver.
    pub(crate) fn respond(&self, request: &Parts, grant: Grant) -> HandlerFuture {
        self.respond_with(request, Asked::BEFORE, || Ok(grant)).unwrap_or_else(|unserved| {
            self.when_following(unserved, |service, Unserved { grant, read }| service.serve(grant, read, Asked::BEFORE))
        })
    }

    /// Refuses `request`.
    pub(crate) fn refuse(&self, request: &Parts, rejection: Rejection) -> HandlerFuture {
        let refused = self.respond_with(request, Asked::BEFORE, || Err(rejection));
        refused.unwrap_or_else(|unserved| self.refuse_read(unserved.read, Denied::NotFollowing))
    }

    /// Answers `request` with what the resolver allows. It may have decided before a revocation that the hub does not know yet:
    /// then it is asked again once the hub does.
    fn ask(&self, request: Parts) -> HandlerFuture {
        self.ask_now(&request)
            .unwrap_or_else(|unserved| self.when_following(unserved, move |service, _| service.ask_now(&request)))
    }

    fn ask_now(&self, request: &Parts) -> Result<HandlerFuture, Box<Unserved>> {
        let asked = self.0.hub.asked();
        self.respond_with(request, asked, || self.0.resolver.ask(request))
    }

    /// The future keeps what was decided and not the request's headers, so that a waiting poll takes little memory.
    fn respond_with(
        &self,
        request: &Parts,
        asked: Asked,
        grant: impl FnOnce() -> Result<Grant, Rejection>,
    ) -> Result<HandlerFuture, Box<Unserved>> {
        let Shared { hub, settings, responder, .. } = &*self.0;
        let response = match decide(request, R::OFFER, settings, grant) {
            Decision::Options => options_response(ALLOW),
            Decision::Refuse(problem) => problem.into_response(),
            Decision::RefuseOn(refusal) => responder.refuse(hub, refusal),
            Decision::Serve(grant, read) => return self.serve(grant, read, asked),
        };
        Ok(HandlerFuture::ready(finish(ReadMethod::of(&request.method), response)))
    }

    /// Serves a request, unless it has to wait until the hub knows all revocations.
    fn serve(&self, mut grant: Grant, read: ReadRequest, asked: Asked) -> Result<HandlerFuture, Box<Unserved>> {
        let Shared { hub, settings, snapshots, responder, .. } = &*self.0;
        let Some(terms) = grant.terms.take() else {
            return Ok(responder.answer(hub, ReadTarget::new(grant, settings, snapshots.as_ref()), read));
        };
        let admitted = match read.method {
            ReadMethod::Get => hub.admit(&terms, asked).map(Some),
            ReadMethod::Head => hub.check(&terms, asked).map(|()| None),
        };
        match admitted {
            Ok(access) => {
                let target = ReadTarget::new(grant, settings, snapshots.as_ref());
                Ok(responder.answer(hub, target, read).under(access))
            }
            Err(Denied::NotFollowing) => {
                grant.terms = Some(terms);
                Err(Box::new(Unserved { grant, read }))
            }
            Err(denied) => Ok(self.refuse_read(read, denied)),
        }
    }

    /// Serves a request as `serve` does, once the hub knows all revocations.
    fn when_following(
        &self,
        unserved: Box<Unserved>,
        serve: impl FnOnce(&Self, Unserved) -> Result<HandlerFuture, Box<Unserved>> + Send + 'static,
    ) -> HandlerFuture {
        let service = self.clone();
        HandlerFuture::after(self.0.hub.following(), move |following| {
            let served = if following.is_ok() { serve(&service, *unserved) } else { Err(unserved) };
            served.unwrap_or_else(|unserved| service.refuse_read(unserved.read, Denied::NotFollowing))
        })
    }

    fn refuse_read(&self, read: ReadRequest, denied: Denied) -> HandlerFuture {
        let method = read.method;
        let response = self.0.responder.refuse(&self.0.hub, Refusal::of(read, denied.into()));
        HandlerFuture::ready(finish(method, response))
    }
}

/// A request that has to wait until the hub knows all revocations.
struct Unserved {
    grant: Grant,
    read: ReadRequest,
}

impl<S, R> ReadService<S, R> {
    pub(crate) fn responder(&self) -> &R {
        &self.0.responder
    }
}

impl<S, R> Clone for ReadService<S, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S, R: Clone> Clone for Shared<S, R> {
    fn clone(&self) -> Self {
        let Self { hub, resolver, settings, snapshots, responder } = self;
        let (resolver, settings, snapshots) = (resolver.clone(), settings.clone(), snapshots.clone());
        Self { hub: hub.clone(), resolver, settings, snapshots, responder: responder.clone() }
    }
}

/// Implements what the public services that wrap a [`ReadService`] have in common: constructors, settings, `Service` and `Clone`.
macro_rules! read_service {
    ($service:ident, $responder:ty) => {
        /// With default settings.
        impl<S: $crate::store::Store> $service<S> {
            /// Serves what `resolver` says that each request may read. An asynchronous check belongs in a handler instead: see
            /// [`Resolver`](crate::request::Resolver).
            pub fn new<G: Into<$crate::grant::Grant>>(
                hub: $crate::hub::Hub<S>,
                resolver: impl Fn(&::http::request::Parts) -> Result<G, $crate::request::Rejection> + Send + Sync + 'static,
            ) -> Self {
                let resolver = $crate::request::SharedResolver::new(resolver);
                Self($crate::edge::ReadService::new(hub, resolver, <$responder>::default()))
            }

            /// Serves these channels to everyone. As with [`new`](Self::new), a `Channels` value in the request's extensions is
            /// used instead.
            pub fn fixed(hub: $crate::hub::Hub<S>, channels: impl Into<$crate::channel::Channels>) -> Self {
                let channels = channels.into();
                Self::new(hub, move |_| Ok(channels.clone()))
            }

            /// As [`new`](Self::new), for a type that resolves requests.
            pub fn with_resolver(hub: $crate::hub::Hub<S>, resolver: impl $crate::request::Resolver) -> Self {
                Self::new(hub, move |request| resolver.resolve(request))
            }
        }

        /// What to read.
        impl<S: $crate::store::Store> $service<S> {
            /// Sets where a request starts if neither its query nor `Last-Event-ID` says so. Default
            /// [`Start::Latest`](crate::store::Start::Latest).
            #[must_use]
            pub fn start(self, start: $crate::store::Start) -> Self {
                Self(self.0.start(start))
            }

            /// Lets readers that catch up receive less than was published. See [`compaction`](crate::compaction). Default: they
            /// receive every event.
            #[must_use]
            pub fn compaction(self, compaction: $crate::compaction::Compaction) -> Self {
                Self(self.0.compaction(compaction))
            }

            /// Resets a reader that is more than `events` behind the head of a channel, with the reason `behind`, and goes on from
            /// the head. See [`Subscription::max_behind`](crate::Subscription::max_behind). Default: readers catch up from
            /// wherever they are.
            #[must_use]
            pub fn max_behind(self, events: u64) -> Self {
                Self(self.0.max_behind(events))
            }

            /// Asks `snapshots` for the state of a channel for each request that names neither a start nor a position, which then
            /// does not start as [`start`](Self::start) says, and after every reset, which is then never refused: see
            /// [`snapshot`](crate::snapshot). Default: none.
            #[must_use]
            pub fn snapshots(self, snapshots: $crate::snapshot::Snapshots) -> Self {
                Self(self.0.snapshots(snapshots))
            }
        }

        impl<S: $crate::store::Store, B> ::tower_service::Service<::http::Request<B>> for $service<S> {
            type Response = ::http::Response<$crate::body::Body>;
            type Error = ::std::convert::Infallible;
            type Future = $crate::body::ResponseFuture;

            fn poll_ready(
                &mut self,
                _: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Result<(), ::std::convert::Infallible>> {
                ::std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: ::http::Request<B>) -> $crate::body::ResponseFuture {
                self.0.call(request)
            }
        }

        impl<S> Clone for $service<S> {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }
    };
}
pub(crate) use read_service;
