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
    grant::Grant,
    hub::Hub,
    request::{Offer, ReadMethod, ReadRequest, ReadSettings, Rejection, SharedResolver},
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
    responder: R,
}

impl<S: Store, R: Responder + Clone> ReadService<S, R> {
    pub(crate) fn new(hub: Hub<S>, resolver: SharedResolver, responder: R) -> Self {
        Self(Arc::new(Shared { hub, resolver, settings: ReadSettings::default(), responder }))
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

    pub(crate) fn keep_parameters<N: Into<Box<str>>>(self, names: impl IntoIterator<Item = N>) -> Self {
        self.with(|shared| shared.settings.kept_parameters = names.into_iter().map(Into::into).collect())
    }

    fn with(self, change: impl FnOnce(&mut Shared<S, R>)) -> Self {
        let mut shared = Arc::unwrap_or_clone(self.0);
        change(&mut shared);
        Self(Arc::new(shared))
    }

    /// Answers `request`; the resolver says what it may read.
    pub(crate) fn call<B>(&self, request: Request<B>) -> ResponseFuture {
        // The body is dropped here, so that the future needs no bounds on its type.
        let (parts, _) = request.into_parts();
        ResponseFuture(self.respond_with(&parts, || self.0.resolver.grant(&parts)))
    }

    /// Answers `request` with what `grant` allows, without the resolver.
    pub(crate) fn respond(&self, request: &Parts, grant: Grant) -> HandlerFuture {
        self.respond_with(request, || Ok(grant))
    }

    /// Refuses `request`.
    pub(crate) fn refuse(&self, request: &Parts, rejection: Rejection) -> HandlerFuture {
        self.respond_with(request, || Err(rejection))
    }

    /// The future keeps what was decided and not the request's headers, so that a waiting poll takes little memory.
    fn respond_with(&self, request: &Parts, grant: impl FnOnce() -> Result<Grant, Rejection>) -> HandlerFuture {
        let Shared { hub, settings, responder, .. } = &*self.0;
        let response = match decide(request, R::OFFER, settings, grant) {
            Decision::Options => options_response(ALLOW),
            Decision::Refuse(problem) => problem.into_response(),
            Decision::RefuseOn(refusal) => responder.refuse(hub, refusal),
            Decision::Serve(grant, read) => return responder.answer(hub, ReadTarget::new(grant), read),
        };
        HandlerFuture::ready(finish(ReadMethod::of(&request.method), response))
    }
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
        let Self { hub, resolver, settings, responder } = self;
        let (resolver, settings) = (resolver.clone(), settings.clone());
        Self { hub: hub.clone(), resolver, settings, responder: responder.clone() }
    }
}

/// Implements `Service` and `Clone` for a public service that wraps a [`ReadService`].
macro_rules! read_service {
    ($service:ident) => {
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
