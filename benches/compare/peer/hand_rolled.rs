//! The usual hand-written server in axum: a broadcast channel, a `VecDeque` for resumes, and `axum::response::Sse`. It has one
//! channel, whatever a request asks for.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::TcpListener,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::sse::{Event, KeepAlive, Sse},
    routing::{get, post},
    serve::ListenerExt,
};
use tokio::sync::broadcast;
use tokio_stream::{Stream, StreamExt as _, wrappers::BroadcastStream};

use super::tokio::run;

#[derive(Clone)]
struct App {
    live: broadcast::Sender<(u64, String)>,
    history: Arc<Mutex<VecDeque<(u64, String)>>>,
}

pub(crate) fn serve(listener: TcpListener, workers: usize) {
    let app = App { live: broadcast::Sender::new(4096), history: Arc::default() };
    let router = Router::new().route("/events", get(events)).route("/publish", post(publish)).with_state(app);
    run(listener, workers, async |listener| {
        axum::serve(listener.tap_io(|io| _ = io.set_nodelay(true)), router).await.expect("serves");
    });
}

async fn publish(State(app): State<App>, body: Bytes) -> StatusCode {
    let text = String::from_utf8_lossy(&body).into_owned();
    let mut history = app.history.lock().expect("no panic");
    let id = history.back().map_or(0, |(id, _)| id + 1);
    history.push_back((id, text.clone()));
    if history.len() > 10_000 {
        history.pop_front();
    }
    _ = app.live.send((id, text));
    StatusCode::OK
}

async fn events(State(app): State<App>, headers: HeaderMap) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let last: Option<u64> = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let live = app.live.subscribe();
    let (replay, seen) = {
        let history = app.history.lock().expect("no panic");
        let wanted = |id: &u64| last.is_some_and(|last| *id > last);
        let replay: Vec<_> = history.iter().filter(|(id, _)| wanted(id)).cloned().collect();
        (replay, history.back().map(|(id, _)| *id))
    };
    let live = BroadcastStream::new(live).filter_map(Result::ok).filter(move |(id, _)| Some(*id) > seen);
    let events = tokio_stream::iter(replay).chain(live);
    let events = events.map(|(id, text)| Ok(Event::default().data(text).id(id.to_string())));
    Sse::new(events).keep_alive(KeepAlive::default())
}
