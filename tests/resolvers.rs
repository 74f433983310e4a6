//! The ways to tell a service which channels a request is for.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::Full;
use tower::{Service, ServiceExt as _};
use tower_events::{
    Body, Channel, Channels, EventService, Grant, Hub, LongPollService, MemoryStore, PublishService, Rejection,
    Resolver, SseService,
};

/// As a type: everybody may access `open`.
struct OnlyOpen;

impl Resolver for OnlyOpen {
    fn resolve(&self, request: &Parts) -> Result<Grant, Rejection> {
        Ok(Channels::from_query(request)?.all_allowed(|channel| channel.as_str() == "open")?.into())
    }
}

fn hub() -> Hub {
    Hub::new(MemoryStore::default())
}

/// The status of the response to a read, or to a publish.
async fn status<S>(service: S, method: &str, uri: &str) -> u16
where
    S: Service<Request<Full<Bytes>>, Response = Response<Body>, Error = Infallible>,
{
    let request = Request::builder().method(method).uri(uri).header("content-type", "text/plain");
    service.oneshot(request.body(Full::from("hello")).unwrap()).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_closure_needs_no_types_and_a_type_is_asked_as_a_closure_is() {
    for (name, expected) in [("open", 200), ("other", 403)] {
        let read = format!("/?channel={name}&wait=0");
        let stream = format!("/?channel={name}&transport=sse");
        let all = [
            status(EventService::new(hub(), |request| OnlyOpen.resolve(request)), "GET", &read).await,
            status(LongPollService::new(hub(), |request| OnlyOpen.resolve(request)), "GET", &read).await,
            status(SseService::new(hub(), |request| OnlyOpen.resolve(request)), "GET", &stream).await,
            status(PublishService::new(hub(), |request| OnlyOpen.resolve(request)), "POST", &read).await,
            status(EventService::with_resolver(hub(), OnlyOpen), "GET", &read).await,
            status(LongPollService::with_resolver(hub(), OnlyOpen), "GET", &read).await,
            status(SseService::with_resolver(hub(), OnlyOpen), "GET", &stream).await,
            status(PublishService::with_resolver(hub(), OnlyOpen), "POST", &read).await,
        ];
        assert_eq!(all, [expected; 8], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn fixed_channels_are_read_and_written_whatever_the_request_names() {
    let (hub, news) = (hub(), Channel::new("news").unwrap());
    let both = Channels::new([Channel::new("old").unwrap(), news.clone()]).unwrap();
    assert_eq!(status(PublishService::fixed(hub.clone(), news.clone()), "POST", "/?channel=other").await, 200);
    assert!(hub.exists(&news).await.unwrap() && !hub.exists(&Channel::new("other").unwrap()).await.unwrap());
    let all = [
        status(EventService::fixed(hub.clone(), &news), "GET", "/?channel=other&last=1").await,
        status(LongPollService::fixed(hub.clone(), both.clone()), "GET", "/?last=1").await,
        status(SseService::fixed(hub.clone(), both), "GET", "/?transport=sse").await,
    ];
    assert_eq!(all, [200; 3]);
}
