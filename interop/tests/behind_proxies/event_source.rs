//! A client that does exactly what the WHATWG HTML standard says about `EventSource` (section 9.2): it reconnects after an
//! end or a network error, from its last event id, after the last `retry`; any status but 200 and any other content type
//! closes it for good.

use std::{
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::StreamExt as _;
use reqwest::{Client, Response, header::CONTENT_TYPE};

use crate::{publisher::Published, stream_parser::Parser};

/// The delay that the standard leaves to the browser: "probably in the region of a few seconds".
const RETRY: Duration = Duration::from_secs(3);

/// What a client observed until the last event, or until it was closed for good.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    pub(crate) numbers: Vec<u64>,
    /// From just before publishing until the client's handler is called.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) connections: usize,
    pub(crate) resets: usize,
    pub(crate) closed: Option<String>,
}

/// Counts over all clients.
#[derive(Default)]
pub(crate) struct Counters {
    /// Streams that contained only a `stream-retry`, from a proxy or from a node that is stopping.
    pub(crate) sent_away: AtomicUsize,
    /// Clients that were closed for good.
    pub(crate) closed: AtomicUsize,
}

/// Follows until the last event.
pub(crate) async fn follow(client: Client, url: String, counters: Arc<Counters>) -> Observed {
    let (mut observed, mut id, mut retry) = (Observed::default(), String::new(), RETRY);
    loop {
        observed.connections += 1;
        let mut parser = Parser::default();
        if let Ok(response) = open(&client, &url, &id).await {
            if let Err(refused) = check(&response) {
                observed.closed = Some(refused);
                counters.closed.fetch_add(1, Ordering::Relaxed);
                return observed;
            }
            let ended = observed.read(response, &mut parser, &counters.sent_away).await;
            if ended.is_break() {
                return observed;
            }
        }
        // Every stream starts with an empty id buffer; the end of a block makes its content the last event id.
        if parser.blocks > 0 {
            id.clone_from(&parser.last_event_id);
        }
        retry = parser.retry.map_or(retry, Duration::from_millis);
        tokio::time::sleep(retry).await;
    }
}

async fn open(client: &Client, url: &str, id: &str) -> reqwest::Result<Response> {
    let request = client.get(url).header("accept", "text/event-stream").header("cache-control", "no-cache");
    match id {
        "" => request.send().await,
        id => request.header("last-event-id", id).send().await,
    }
}

fn check(response: &Response) -> Result<(), String> {
    let kind = response.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    match response.status().as_u16() {
        200 if essence == "text/event-stream" => Ok(()),
        status => Err(format!("status {status}, content type {kind:?}")),
    }
}

impl Observed {
    /// Reads a stream to its end, or to the last event.
    async fn read(&mut self, response: Response, parser: &mut Parser, sent_away: &AtomicUsize) -> ControlFlow<()> {
        let mut body = response.bytes_stream();
        while let Some(Ok(bytes)) = body.next().await {
            for message in parser.push(&bytes) {
                match &*message.name {
                    "message" => self.record(&serde_json::from_str(&message.data).expect("what was published"))?,
                    "stream-reset" => self.resets += 1,
                    "stream-retry" if parser.blocks == 1 => _ = sent_away.fetch_add(1, Ordering::Relaxed),
                    _ => {}
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Records an event; breaks after the last.
    pub(crate) fn record(&mut self, event: &Published) -> ControlFlow<()> {
        self.numbers.push(event.number);
        self.latencies.push(Duration::from_micros(now().saturating_sub(event.sent)));
        if event.last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Microseconds since 1970. Only compared within this process.
pub(crate) fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64
}
