//! Servers that do nothing: what is under ours, to be subtracted. Publishing takes the body and answers; a stream sends its
//! head and nothing ever; a poll is never answered.

use std::{
    convert::Infallible,
    future::pending,
    net::TcpListener,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Router,
    http::{HeaderMap, Response, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
    serve::ListenerExt,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, combinators::BoxBody};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

use super::tokio::run;

pub(crate) fn serve_in_axum(listener: TcpListener, workers: usize) {
    let publish = post(async |body: String| {
        std::hint::black_box(body);
        StatusCode::OK
    });
    let events = get(async |headers: HeaderMap| {
        let wanted = Wanted::by(&headers);
        drop(headers);
        wanted.answer().await.map(axum::body::Body::new).into_response()
    });
    let router = Router::new().route("/publish", publish).route("/events", events);
    run(listener, workers, async |listener| {
        axum::serve(listener.tap_io(|io| _ = io.set_nodelay(true)), router).await.expect("serves");
    });
}

/// With the settings of ours.
pub(crate) fn serve_on_hyper(listener: TcpListener, workers: usize) {
    run(listener, workers, async |listener| {
        let mut http = http1::Builder::new();
        http.writev(false).max_buf_size(16 << 10);
        loop {
            let (io, _) = listener.accept().await.expect("a connection");
            io.set_nodelay(true).expect("TCP_NODELAY");
            let connection = http.serve_connection(TokioIo::new(io), service_fn(|request| Box::pin(answer(request))));
            tokio::spawn(async move { _ = connection.await });
        }
    });
}

async fn answer(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    if request.uri().path() == "/publish" {
        std::hint::black_box(request.into_body().collect().await.expect("a body"));
        return Ok(Response::new(BoxBody::default()));
    }
    let wanted = Wanted::by(request.headers());
    drop(request);
    Ok(wanted.answer().await.map(BoxBody::new))
}

/// Known before the request is dropped, whose parts would keep the connection's read buffer.
enum Wanted {
    Stream,
    Poll,
}

impl Wanted {
    fn by(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT);
        if accept.is_some_and(|accept| accept == "text/event-stream") { Self::Stream } else { Self::Poll }
    }

    async fn answer(self) -> Response<Silence> {
        if matches!(self, Self::Poll) {
            pending::<()>().await;
        }
        let mut response = Response::new(Silence);
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
        response
    }
}

struct Silence;

impl http_body::Body for Silence {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}
