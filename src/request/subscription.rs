//! The subscription that a request asks for, for handlers that read from the hub themselves.

use http::request::Parts;

use super::{
    accept::Transport,
    read::{ReadMethod, ReadRequest, ReadSettings},
    resolver::Rejection,
};
use crate::{channel::Channels, hub::Subscription};

impl Subscription {
    /// Follows `channels` from where `request` says, as the services read it: the `Last-Event-ID` header, or the query's
    /// `last_event_id`, `after`, `time` or `last` (see [`http_contract`](crate::http_contract)). A request that says nothing starts
    /// at [`Start::Latest`](crate::store::Start::Latest), and one whose position is not a cursor of this crate is reset with
    /// [`Reason::Unknown`](crate::store::Reason::Unknown).
    ///
    /// The request may have any method. Its channels, and whether it may read them, are for the caller to decide.
    ///
    /// ```
    /// use http::{Response, request::Parts};
    /// use tower_events::{Body, Channel, Hub, Subscription};
    ///
    /// async fn news(hub: Hub, request: Parts) -> Result<Response<Body>, Response<Body>> {
    ///     let subscription = Subscription::from_request(&request, Channel::new("news")?)?;
    ///     Ok(hub.sse(subscription).await?.into_response())
    /// }
    /// # drop(news);
    /// ```
    ///
    /// # Errors
    /// A [`Rejection`] with 400 when a parameter of the services is malformed or contradicts another, whether or not it is one that
    /// a subscription uses.
    pub fn from_request(request: &Parts, channels: impl Into<Channels>) -> Result<Self, Rejection> {
        let method = ReadMethod::of(&request.method);
        let read = ReadRequest::parse(request, method, Transport::Sse, &ReadSettings::default())?;
        Ok(Self::new(channels).starting(read.begin))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::{channel::Channel, cursor::Cursor, hub::SubscriptionStart, request::LAST_EVENT_ID, store::Start};

    const ONE: Cursor = Cursor { epoch: 1, seq: 2, tag: 3 };

    fn news() -> Channel {
        Channel::new("news").unwrap()
    }

    fn asked(query: &str, id: &str) -> Result<Subscription, Rejection> {
        let request = Request::post(format!("/?{query}")).header(LAST_EVENT_ID, id).body(()).unwrap();
        Subscription::from_request(&request.into_parts().0, news())
    }

    #[test]
    fn a_subscription_starts_where_its_request_says() {
        let (one, other) = (ONE.to_string(), Subscription::new(news()));
        let resumed = other.clone().resume(&ONE.into());
        let table = [
            ("", "", other.clone()),
            ("channel=b&wait=5&limit=1", "", other.clone()),
            ("", &one, resumed.clone()),
            (&format!("after={one}"), "", resumed.clone()),
            ("after=earliest", &one, resumed),
            ("last=3", "", other.clone().start(Start::Last(3))),
            ("time=17", "nonsense", other.starting(SubscriptionStart::Unknown)),
        ];
        for (query, id, expected) in table {
            assert_eq!(asked(query, id).unwrap(), expected, "{query} {id}");
        }
    }

    #[test]
    fn a_malformed_request_is_rejected_by_the_name_of_its_parameter() {
        for (query, text) in [("after=x", "`after`: "), ("limit=0", "`limit`: "), ("since=17", "`since`: ")] {
            let rejection = asked(query, "").unwrap_err();
            assert_eq!(rejection.status(), 400);
            assert!(rejection.to_string().starts_with(text), "{rejection}");
        }
    }
}
