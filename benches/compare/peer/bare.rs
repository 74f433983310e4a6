//! Servers that do nothing: the baseline to subtract from ours. Publishing reads the body, answers, and wakes all waiting polls; a
//! stream sends its head and a first block, and nothing more. Heads and bodies are as large as ours, so that a connection has
//! read and written the same amount, and the difference is what ours keeps.

use std::{
    convert::Infallible,
    future::{Future, pending},
    net::TcpListener,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    http::{HeaderValue, Request, Response, StatusCode, header},
    routing::post,
    serve::ListenerExt,
};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tower::service_fn;

use super::{ours, tokio::run};

/// Uses the same connection code as ours.
pub(crate) fn serve_on_hyper(listener: TcpListener, workers: usize) {
    let service = service_fn(|request: Request<Incoming>| -> Answering {
        match request.uri().path() {
            "/publish" => Box::pin(publish(request.into_body())),
            _ => events(request),
        }
    });
    run(listener, workers, |listener| {
        ours::hyper::run(listener, service, ours::connections::ConnectionLimits::default(), pending())
    });
}

pub(crate) fn serve_in_axum(listener: TcpListener, workers: usize) {
    let publish = post(async |body: String| {
        std::hint::black_box(body);
        PUBLISHED.notify_waiters();
        StatusCode::OK
    });
    let router = Router::new().route("/publish", publish).route_service("/events", service_fn(events));
    run(listener, workers, async |listener| {
        let listener = listener.tap_io(|io| _ = io.set_nodelay(true));
        axum::serve(listener, router).with_graceful_shutdown(pending()).await.expect("serves");
    });
}

/// Wakes waiting polls.
static PUBLISHED: Notify = Notify::const_new();

type Reply = Response<Either<Full<Bytes>, First>>;
type Answering = Pin<Box<dyn Future<Output = Result<Reply, Infallible>> + Send>>;

async fn publish(body: Incoming) -> Result<Reply, Infallible> {
    std::hint::black_box(body.collect().await.expect("a body"));
    PUBLISHED.notify_waiters();
    Ok(Response::new(Either::Left(Full::default())))
}

/// Drops the request at once, because its parts would keep the connection's read buffer alive.
fn events<B>(request: Request<B>) -> Answering {
    let accept = request.headers().get(header::ACCEPT);
    if accept.is_some_and(|accept| accept == "text/event-stream") {
        return Box::pin(async { Ok(answer(Either::Right(First(Some(Bytes::from_static(FIRST_BLOCK)))), &STREAM)) });
    }
    Box::pin(async {
        PUBLISHED.notified().await;
        Ok(answer(Either::Left(Full::from(ARRAY)), &POLL))
    })
}

/// As large as our answers, so that hyper keeps as much of it.
fn answer(body: Either<Full<Bytes>, First>, headers: &[(&'static str, &'static str)]) -> Reply {
    let mut response = Response::new(body);
    for (name, value) in headers {
        response.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    response
}

const FIRST_BLOCK: &[u8] = b"retry: 2000\nevent: stream-live\ndata: {}\nid: AQAAAAAAAAAAAAAAAAAAAAAAAAAA\n\n";
const STREAM: [(&str, &str); 4] = [
    ("content-type", "text/event-stream; charset=utf-8"),
    ("cache-control", "no-cache, no-transform"),
    ("x-accel-buffering", "no"),
    ("vary", "Accept"),
];
const POLL: [(&str, &str); 5] = [
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("last-event-id", "AQAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ("link", r#"<?channel=c0&wait=55&after=AQAAAAAAAAAAAAAAAAAAAAAAAAAA>; rel="next""#),
    ("vary", "Accept"),
];
const ARRAY: Bytes = Bytes::from_static(&[b' '; 195]);

/// The first block of a stream, then nothing.
struct First(Option<Bytes>);

impl http_body::Body for First {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(block) => Poll::Ready(Some(Ok(Frame::data(block)))),
            None => Poll::Pending,
        }
    }
}
