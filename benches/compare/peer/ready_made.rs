//! hyper and axum alone: the cost of a long poll without this crate. Only the position of a request is read, and the answer is
//! prebuilt. One event at a time only, because there is no history.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Future, pending},
    net::TcpListener,
    pin::Pin,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, Request, Response},
    serve::ListenerExt,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use tokio::sync::Notify;
use tower::service_fn;

use super::{ours, tokio::run};

pub(crate) fn serve_on_hyper(listener: TcpListener, workers: usize) {
    let service = service_fn(|request: Request<Incoming>| match request.uri().path() {
        "/publish" => publish(request),
        _ => poll(request),
    });
    run(listener, workers, |listener| {
        ours::hyper::run(listener, service, ours::connections::ConnectionLimits::default(), pending())
    });
}

pub(crate) fn serve_in_axum(listener: TcpListener, workers: usize) {
    let router = Router::new()
        .route_service("/publish", service_fn(publish::<axum::body::Body>))
        .route_service("/events", service_fn(poll::<axum::body::Body>));
    run(listener, workers, async |listener| {
        let listener = listener.tap_io(|io| _ = io.set_nodelay(true));
        axum::serve(listener, router).with_graceful_shutdown(pending()).await.expect("serves");
    });
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// The newest event, as the prebuilt answer to polls.
struct Newest {
    number: u64,
    headers: HeaderMap,
    array: Bytes,
}

static NEWEST: Mutex<Option<Arc<Newest>>> = Mutex::new(None);
static PUBLISHED: Notify = Notify::const_new();

fn publish<B: Body<Data: Send, Error: Debug> + Send + 'static>(request: Request<B>) -> Answering {
    Box::pin(async {
        let text = request.into_body().collect().await.expect("a body").to_bytes();
        {
            let mut newest = NEWEST.lock().unwrap();
            let number = newest.as_ref().map_or(1, |newest| newest.number + 1);
            *newest = Some(Arc::new(Newest::new(number, std::str::from_utf8(&text).expect("UTF-8"))));
        }
        PUBLISHED.notify_waiters();
        Ok(Response::default())
    })
}

/// Drops the request at once, because its parts would keep the connection's read buffer alive.
fn poll<B>(request: Request<B>) -> Answering {
    let newest = || NEWEST.lock().unwrap().clone();
    let after = position(request.uri().query().unwrap_or_default());
    let after = after.or_else(|| Some(newest()?.number)).unwrap_or(0);
    Box::pin(async move {
        loop {
            let published = PUBLISHED.notified();
            if let Some(newest) = newest().filter(|newest| newest.number > after) {
                let mut response = Response::new(Full::from(newest.array.clone()));
                *response.headers_mut() = newest.headers.clone();
                return Ok(response);
            }
            published.await;
        }
    })
}

fn position(query: &str) -> Option<u64> {
    query.split_once("after=")?.1.parse().ok()
}

impl Newest {
    /// As large as ours.
    fn new(number: u64, text: &str) -> Self {
        let id = format!("{number:028}");
        let array = format!(r#"[{{"id":"{id}","channel":"c0","time":1732094400123,"data":"{text}"}}]"#);
        let headers = [
            ("content-type", "application/json".into()),
            ("cache-control", "no-store".into()),
            ("vary", "Accept".into()),
            ("link", format!(r#"<?channel=c0&wait=55&after={id}>; rel="next""#)),
            ("last-event-id", id),
        ];
        let headers = headers.map(|(name, value): (_, String)| {
            (HeaderName::from_static(name), HeaderValue::try_from(value).expect("a value"))
        });
        Self { number, headers: headers.into_iter().collect(), array: array.into() }
    }
}
