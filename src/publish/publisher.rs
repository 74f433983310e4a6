//! Handles one publish, from its body to its response.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::{
    body_memory::BodyMemory,
    event::PublishLimits,
    in_flight::{InFlight, in_time},
    incoming_body::{BoxError, IncomingBody},
    line_numbers::LineNumbers,
    parse::{ParsedBody, parse},
    rate_limit::RateLimit,
    refuse::{Refuser, SendMode},
    request_head::{ALLOW, RequestHead},
    response::{batch_response, single_response},
};
use crate::{
    body::Body,
    channel::Channel,
    encode::View,
    hub::{Asked, Denied, Hub, RefusedBy, Terms},
    problem::Problem,
    request::Rejection,
    retry::Retry,
    store::Store,
};

/// What the publishes of a service share.
pub(super) struct Publisher<S> {
    pub(super) hub: Hub<S>,
    pub(super) limits: PublishLimits,
    pub(super) body_timeout: Duration,
    pub(super) body_memory: BodyMemory,
    pub(super) rate_limit: Option<Arc<RateLimit>>,
    pub(super) in_flight: InFlight,
    pub(super) refuser: Refuser,
}

/// The channel of a publish, and how the client sees its positions.
pub(super) struct PublishTarget {
    pub(super) channel: Channel,
    pub(super) view: View,
    /// The terms that are checked before anything is read.
    pub(super) unconfirmed: Option<Box<Terms>>,
}

impl<S: Store> Publisher<S> {
    /// The response to a request about which everything but the body is decided.
    pub(super) async fn respond<B>(
        self,
        decided: Result<(PublishTarget, RequestHead), Problem>,
        send_mode: SendMode,
        body: B,
    ) -> Response<Body>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let body = pin!(body);
        let mut body = IncomingBody::new(body);
        let published = match decided {
            Ok((target, head)) => self.publish(&target, head, &mut body).await,
            Err(problem) => Err(problem),
        };
        match published {
            Ok(response) => response,
            Err(problem) => {
                if problem.status() == StatusCode::PAYLOAD_TOO_LARGE {
                    self.hub.count_refusal(RefusedBy::PublishSize);
                }
                self.refuser.respond(problem, send_mode, &mut body).await
            }
        }
    }

    /// Counts the publish, and checks its grant; returns what cannot be checked before the hub knows all revocations.
    pub(super) fn check_terms(&self, terms: Box<Terms>, asked: Asked) -> Result<Option<Box<Terms>>, Problem> {
        if let Some(subject) = &terms.subject {
            self.hub.take_publish(subject).map_err(Rejection::too_many)?;
        }
        match self.hub.check(&terms, asked) {
            Ok(()) => Ok(None),
            Err(Denied::NotFollowing) => Ok(Some(terms)),
            Err(denied) => Err(denied.into()),
        }
    }

    /// Checks a grant once the hub knows all revocations.
    async fn confirm(&self, terms: &Terms) -> Result<(), Problem> {
        self.hub.following().await.map_err(|_| Denied::NotFollowing)?;
        Ok(self.hub.check(terms, Asked::BEFORE)?)
    }

    async fn publish<B>(
        &self,
        target: &PublishTarget,
        head: RequestHead,
        body: &mut IncomingBody<'_, B>,
    ) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        if let Some(terms) = &target.unconfirmed {
            // Boxed, because it is rare and should take little room.
            Box::pin(self.confirm(terms)).await?;
        }
        // Without a usable content type only an empty body is accepted, to close the channel.
        let max_bytes = if head.content_type.is_ok() { self.limits.max_body } else { 0 };
        let mut reserved = self.body_memory.reserve();
        let collected = in_time(self.body_timeout, pin!(body.collect(max_bytes, &mut reserved))).await;
        let collected = collected.unwrap_or_else(|| Err(body.give_up(self.body_timeout)));
        if reserved.was_refused {
            self.hub.count_refusal(RefusedBy::BodyMemory);
        }
        let body = match (collected, &head.content_type) {
            (Err(_), Err(_)) => return Err(head.content_type.err().unwrap_or_else(|| Problem::not_allowed(ALLOW))),
            (body, _) => body?,
        };
        // Boxed, so that a request takes less memory while its body is still arriving, which is where slow clients wait.
        Box::pin(self.append(target, head, body)).await
    }

    fn accept_rate(&self, events: usize) -> Result<(), Problem> {
        let accepted = self.rate_limit.as_ref().map_or(Ok(()), |limit| limit.accept(events, Instant::now()));
        accepted.inspect_err(|_| self.hub.count_refusal(RefusedBy::PublishRate)).map_err(too_fast)
    }

    async fn append(&self, target: &PublishTarget, head: RequestHead, body: Bytes) -> Result<Response<Body>, Problem> {
        let PublishTarget { channel, view, .. } = target;
        // Only now that the body is complete: otherwise slow clients could hold all permits.
        let permit = self.in_flight.acquire();
        let _permit = permit.inspect_err(|_| self.hub.count_refusal(RefusedBy::MaxInFlight))?;
        match parse(head, body, &self.limits).await? {
            ParsedBody::Single(append) => {
                self.accept_rate(1)?;
                let appended = self.in_flight.append(&self.hub, channel, append).await;
                Ok(single_response(&appended.map_err(|error| LineNumbers::default().problem(error))?, view))
            }
            ParsedBody::Batch(append, line_numbers) => {
                self.accept_rate(append.events.len())?;
                let appended = self.in_flight.append(&self.hub, channel, append).await;
                Ok(batch_response(&appended.map_err(|error| line_numbers.problem(error))?, view))
            }
        }
    }
}

impl<S> Clone for Publisher<S> {
    fn clone(&self) -> Self {
        Self {
            hub: self.hub.clone(),
            limits: self.limits.clone(),
            body_timeout: self.body_timeout,
            body_memory: self.body_memory.clone(),
            rate_limit: self.rate_limit.clone(),
            in_flight: self.in_flight.clone(),
            refuser: self.refuser.clone(),
        }
    }
}

/// The problem of clients that together publish too much: it is nobody's own fault, so it is no 429.
fn too_fast(retry: Duration) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "events are published faster than this service accepts; try again later",
    )
    .kind("too-many-publishes")
    .temporary(Retry::After(retry.mul_f64(1.0 + fastrand::f64() / 2.0)))
}
