//! One publish from its body to its answer.

use std::pin::pin;

use bytes::Bytes;
use http::Response;

use super::{
    answer::{one, several},
    body::{BoxError, Incoming},
    event::Limits,
    in_flight::InFlight,
    line_numbers::LineNumbers,
    parse::{ParsedBody, parse},
    refuse::{Refusals, Sending},
    request_head::{ALLOW, RequestHead},
};
use crate::{body::Body, channel::Channel, hub::Hub, problem::Problem, store::Store};

/// What the publishes of a service share.
pub(super) struct Publisher<S> {
    pub(super) hub: Hub<S>,
    pub(super) limits: Limits,
    pub(super) in_flight: InFlight,
    pub(super) refusals: Refusals,
}

impl<S: Store> Publisher<S> {
    /// The answer to a request of which all but the body was decided.
    pub(super) async fn answer<B>(
        self,
        decided: Result<(Channel, RequestHead), Problem>,
        sending: Sending,
        body: B,
    ) -> Response<Body>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        let body = pin!(body);
        let mut body = Incoming::new(body);
        let published = match decided {
            Ok((channel, head)) => self.publish(&channel, head, &mut body).await,
            Err(problem) => Err(problem),
        };
        match published {
            Ok(response) => response,
            Err(problem) => self.refusals.answer(problem, sending, &mut body).await,
        }
    }

    async fn publish<B>(
        &self,
        channel: &Channel,
        head: RequestHead,
        body: &mut Incoming<'_, B>,
    ) -> Result<Response<Body>, Problem>
    where
        B: http_body::Body,
        B::Error: Into<BoxError>,
    {
        // A body that cannot be used may be there only to be empty.
        let most = if head.content_type.is_ok() { self.limits.body } else { 0 };
        let body = match (body.collect(most).await, &head.content_type) {
            (Err(_), Err(_)) => return Err(head.content_type.err().unwrap_or_else(|| Problem::not_allowed(ALLOW))),
            (body, _) => body?,
        };
        // Boxed, so that a request takes less room while its body is still coming, which is where slow clients wait.
        Box::pin(self.append(channel, head, body)).await
    }

    async fn append(&self, channel: &Channel, head: RequestHead, body: Bytes) -> Result<Response<Body>, Problem> {
        // Not before the body is there: slow clients would keep others out.
        let _place = self.in_flight.enter()?;
        match parse(head, body, &self.limits).await? {
            ParsedBody::Single(append) => {
                let appended = self.in_flight.append(&self.hub, channel, append).await;
                Ok(one(&appended.map_err(|error| LineNumbers::default().problem(error))?))
            }
            ParsedBody::Batch(append, lines) => {
                let appended = self.in_flight.append(&self.hub, channel, append).await;
                Ok(several(&appended.map_err(|error| lines.problem(error))?))
            }
        }
    }
}

impl<S> Clone for Publisher<S> {
    fn clone(&self) -> Self {
        let Self { hub, limits, in_flight, refusals } = self;
        let (limits, in_flight, refusals) = (limits.clone(), in_flight.clone(), refusals.clone());
        Self { hub: hub.clone(), limits, in_flight, refusals }
    }
}
