//! Handles one publish, from its body to its response.

use std::pin::pin;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{
    event::PublishLimits,
    in_flight::InFlight,
    incoming_body::{BoxError, IncomingBody},
    line_numbers::LineNumbers,
    parse::{ParsedBody, parse},
    refuse::{Refuser, SendMode},
    request_head::{ALLOW, RequestHead},
    response::{batch_response, single_response},
};
use crate::{
    body::Body,
    channel::Channel,
    encode::View,
    hub::{Hub, RefusedBy},
    problem::Problem,
    store::Store,
};

/// What the publishes of a service share.
pub(super) struct Publisher<S> {
    pub(super) hub: Hub<S>,
    pub(super) limits: PublishLimits,
    pub(super) in_flight: InFlight,
    pub(super) refuser: Refuser,
}

/// The channel of a publish, and how the client sees its positions.
pub(super) struct PublishTarget {
    pub(super) channel: Channel,
    pub(super) view: View,
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
        // Without a usable content type only an empty body is accepted, to close the channel.
        let max_bytes = if head.content_type.is_ok() { self.limits.max_body } else { 0 };
        let body = match (body.collect(max_bytes).await, &head.content_type) {
            (Err(_), Err(_)) => return Err(head.content_type.err().unwrap_or_else(|| Problem::not_allowed(ALLOW))),
            (body, _) => body?,
        };
        // Boxed, so that a request takes less memory while its body is still arriving, which is where slow clients wait.
        Box::pin(self.append(target, head, body)).await
    }

    async fn append(&self, target: &PublishTarget, head: RequestHead, body: Bytes) -> Result<Response<Body>, Problem> {
        let PublishTarget { channel, view } = target;
        // Only now that the body is complete: otherwise slow clients could hold all permits.
        let permit = self.in_flight.acquire();
        let _permit = permit.inspect_err(|_| self.hub.count_refusal(RefusedBy::MaxInFlight))?;
        match parse(head, body, &self.limits).await? {
            ParsedBody::Single(append) => {
                let appended = self.in_flight.append(&self.hub, channel, append).await;
                Ok(single_response(&appended.map_err(|error| LineNumbers::default().problem(error))?, view))
            }
            ParsedBody::Batch(append, line_numbers) => {
                let appended = self.in_flight.append(&self.hub, channel, append).await;
                Ok(batch_response(&appended.map_err(|error| line_numbers.problem(error))?, view))
            }
        }
    }
}

impl<S> Clone for Publisher<S> {
    fn clone(&self) -> Self {
        let Self { hub, limits, in_flight, refuser } = self;
        let (limits, in_flight, refuser) = (limits.clone(), in_flight.clone(), refuser.clone());
        Self { hub: hub.clone(), limits, in_flight, refuser }
    }
}
