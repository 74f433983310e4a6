//! The least that a server can do: sends the same number of prebuilt bytes, and yields to other tasks after every 64 KiB.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    response::Response,
};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::broadcast::Sender;
use tokio_stream::{StreamExt as _, wrappers::BroadcastStream};

const CHUNK: usize = 64 << 10;

pub(super) async fn answer(State(publish): State<Sender<Bytes>>, RawQuery(query): RawQuery) -> Response {
    if query.is_some_and(|query| query.contains("history")) {
        return Response::new(Body::new(History {
            chunk: vec![b'x'; CHUNK].into(),
            left: super::HISTORY / CHUNK,
            gave: false,
        }));
    }
    let events = BroadcastStream::new(publish.subscribe()).filter_map(Result::ok);
    Response::new(Body::new(StreamBody::new(events.map(|event| Ok::<_, Infallible>(Frame::data(event))))))
}

struct History {
    chunk: Bytes,
    left: usize,
    /// Whether it has sent a chunk since it last yielded.
    gave: bool,
}

impl http_body::Body for History {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.gave = !self.gave;
        if !self.gave {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}
