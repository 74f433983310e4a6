//! Hyper with nothing on it: what a long poll costs below ours. Of a request only the position is read, and what answers is
//! made once for all. One event at a time only: there is no history.

use std::{
    convert::Infallible,
    future::{Future, pending},
    net::TcpListener,
    pin::Pin,
    sync::{Arc, Mutex},
};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tower::service_fn;

use super::{ours, tokio::run};

pub(crate) fn serve(listener: TcpListener, workers: usize) {
    let service = service_fn(|request: Request<Incoming>| -> Answering {
        match request.uri().path() {
            "/publish" => Box::pin(publish(request.into_body())),
            _ => Box::pin(poll(position(request.uri().query().unwrap_or_default()))),
        }
    });
    run(listener, workers, |listener| ours::hyper::run(listener, service, pending()));
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

/// The newest event as polls are answered with it.
struct Newest {
    number: u64,
    headers: HeaderMap,
    array: Bytes,
}

static NEWEST: Mutex<Option<Arc<Newest>>> = Mutex::new(None);
static PUBLISHED: Notify = Notify::const_new();

async fn publish(body: Incoming) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = body.collect().await.expect("a body").to_bytes();
    {
        let mut newest = NEWEST.lock().unwrap();
        let number = newest.as_ref().map_or(1, |newest| newest.number + 1);
        *newest = Some(Arc::new(Newest::new(number, std::str::from_utf8(&text).expect("UTF-8"))));
    }
    PUBLISHED.notify_waiters();
    Ok(Response::default())
}

async fn poll(after: Option<u64>) -> Result<Response<Full<Bytes>>, Infallible> {
    let newest = || NEWEST.lock().unwrap().clone();
    let after = after.or_else(|| Some(newest()?.number)).unwrap_or(0);
    loop {
        let published = PUBLISHED.notified();
        if let Some(newest) = newest().filter(|newest| newest.number > after) {
            let mut response = Response::new(Full::from(newest.array.clone()));
            *response.headers_mut() = newest.headers.clone();
            return Ok(response);
        }
        published.await;
    }
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
