//! The services that can be mounted, as one type.

use std::{error::Error, fmt};

use http::Request;
use tower_service::Service;

use crate::{
    body::ResponseFuture,
    event_service::EventService,
    longpoll::LongPollService,
    publish::PublishService,
    sse::SseService,
    store::{AnyStore, Store},
};

/// A service to mount; converts from [`EventService`], [`SseService`], [`LongPollService`] and [`PublishService`].
pub struct Route<S = AnyStore>(MountedService<S>);

impl<S> Route<S> {
    pub(super) fn into_service(self) -> MountedService<S> {
        self.0
    }
}

pub(super) enum MountedService<S> {
    Events(EventService<S>),
    Sse(SseService<S>),
    LongPoll(LongPollService<S>),
    Publish(PublishService<S>),
}

impl<S: Store> MountedService<S> {
    /// The services are always ready.
    pub(super) fn call<B>(&self, request: Request<B>) -> ResponseFuture
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        match self {
            Self::Events(service) => service.clone().call(request),
            Self::Sse(service) => service.clone().call(request),
            Self::LongPoll(service) => service.clone().call(request),
            Self::Publish(service) => service.clone().call(request),
        }
    }
}

impl<S> Clone for MountedService<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Events(service) => Self::Events(service.clone()),
            Self::Sse(service) => Self::Sse(service.clone()),
            Self::LongPoll(service) => Self::LongPoll(service.clone()),
            Self::Publish(service) => Self::Publish(service.clone()),
        }
    }
}

impl<S> From<EventService<S>> for Route<S> {
    fn from(service: EventService<S>) -> Self {
        Self(MountedService::Events(service))
    }
}

impl<S> From<SseService<S>> for Route<S> {
    fn from(service: SseService<S>) -> Self {
        Self(MountedService::Sse(service))
    }
}

impl<S> From<LongPollService<S>> for Route<S> {
    fn from(service: LongPollService<S>) -> Self {
        Self(MountedService::LongPoll(service))
    }
}

impl<S> From<PublishService<S>> for Route<S> {
    fn from(service: PublishService<S>) -> Self {
        Self(MountedService::Publish(service))
    }
}

impl<S> fmt::Debug for Route<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            MountedService::Events(service) => service.fmt(f),
            MountedService::Sse(service) => service.fmt(f),
            MountedService::LongPoll(service) => service.fmt(f),
            MountedService::Publish(service) => service.fmt(f),
        }
    }
}
