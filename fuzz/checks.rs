//! Properties that hold for any input. The fuzz targets call these functions with inputs that cargo-fuzz finds,
//! `tests/properties.rs` with random ones; each panics when something does not hold. They use the public interface only.

#[path = "../tests/support/stream_parser.rs"]
mod stream_parser;

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use tower_events::{
    Channel, Channels, Cursor, Cursors, Event, EventService, Hub, MemoryStore, PublishService, Retention, Store,
    StoreError, Subscription,
    store::{Append, Expect, Limit, Outcome, Reason, Start},
};
use tower_service::Service;

use self::stream_parser::Parser;

/// A browser's parser reads texts and names exactly as they were published, however the stream is split.
pub fn sse_roundtrip(events: &[(String, Option<String>)], cut: usize) {
    block_on(async {
        let (hub, channel) = (Hub::new(MemoryStore::default()), channel());
        let mut expected = Vec::new();
        for (text, name) in events {
            let event = Event::text(text);
            let event = match name.as_ref().map(|name| event.clone().named(name)) {
                None => event,
                Some(Ok(named)) => named,
                Some(Err(_)) => continue,
            };
            let cursor = hub.publish(&channel, event).await.expect("published").cursor;
            let shown = text.replace("\r\n", "\n").replace('\r', "\n");
            expected.push((name.clone().unwrap_or("message".into()), shown, cursor.to_string()));
        }
        hub.close(&channel).await.expect("closed");
        let stream = hub.sse(Subscription::new(channel).start(Start::Earliest)).await.expect("subscribed");
        let bytes = stream.collect().await.expect("infallible").to_bytes();

        let (left, right) = bytes.split_at(cut.min(bytes.len()));
        let mut parser = Parser::default();
        let mut seen = parser.push(left);
        seen.extend(parser.push(right));
        assert_eq!(seen.pop().map(|end| end.name).as_deref(), Some("stream-end"));
        assert_eq!(seen.pop().map(|live| live.name).as_deref(), Some("stream-live"));
        let seen: Vec<_> = seen.into_iter().map(|message| (message.name, message.data, message.id)).collect();
        assert_eq!(seen, expected);
        assert!(parser.unknown_fields.is_empty(), "{:?}", parser.unknown_fields);
    });
}

/// Any bytes either parse as cursors, which stay the same when they are formatted and parsed again, or are an error. The text of
/// a cursor needs no escaping.
pub fn cursor_parse(bytes: &[u8]) {
    if let Ok(cursors) = Cursors::parse(bytes) {
        let text = cursors.to_string();
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'), "{text:?}");
        assert_eq!(Cursors::parse(text.as_bytes()), Ok(cursors));
    }
    if let Some(cursor) = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Cursor>().ok()) {
        assert_eq!(cursor.to_string().as_bytes(), bytes);
    }
}

/// Positions are parsed unchanged from the token that contains them.
pub fn token_roundtrip(positions: &[(String, u64, u64, u32)]) {
    let mut named: Vec<(Channel, Cursor)> = Vec::new();
    for (name, epoch, seq, tag) in positions {
        let Ok(channel) = Channel::new(name) else { continue };
        if named.len() < Channels::MAX && named.iter().all(|(other, _)| *other != channel) {
            named.push((channel, Cursor { epoch: *epoch, seq: *seq, tag: *tag }));
        }
    }
    let token = Cursors::of(named.iter().map(|(channel, cursor)| (channel, *cursor)));
    let read = Cursors::parse(token.to_string().as_bytes()).expect("a token of ours");
    assert_eq!(read, token);
    for (channel, _) in &named {
        assert_eq!(read.position(channel), token.position(channel));
    }
}

/// A request, as far as a client can choose it.
#[derive(Debug, Clone)]
pub struct AnyRequest {
    pub method: String,
    pub query: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// No request is answered with a 500, and every refusal says why.
pub fn request_parse(request: &AnyRequest) {
    let Some(request) = request.build() else { return };
    block_on(async {
        let (hub, channel) = (Hub::new(MemoryStore::default()), channel());
        hub.publish(&channel, Event::text("x")).await.expect("published");
        let read = EventService::new(hub.clone(), Channels::from_query).call(request.clone());
        check(&request, read.await.expect("infallible")).await;
        let publish = PublishService::new(hub, Channels::from_query).call(request.clone());
        check(&request, publish.await.expect("infallible")).await;
    });
}

async fn check(request: &Request<Full<Bytes>>, response: http::Response<tower_events::Body>) {
    let (head, body) = response.into_parts();
    let status = head.status.as_u16();
    assert!(status < 500, "{status} to {request:?}");
    if status >= 400 && request.method() != Method::HEAD {
        let body = body.collect().await.expect("infallible").to_bytes();
        assert_eq!(head.headers["content-type"], "application/problem+json");
        assert!(body.starts_with(b"{") && body.windows(8).any(|eight| eight == b"\"detail\""), "{body:?}");
    }
}

impl AnyRequest {
    fn build(&self) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(self.method.as_str()).uri(format!("/events?{}", self.query));
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().ok()?;
            request = request.header(name, HeaderValue::from_bytes(value).ok()?);
        }
        request.body(Full::from(self.body.clone())).ok()
    }
}

/// Any batch is appended as a whole, and a reader gets the data of its lines; or nothing of it is, and the answer says why.
pub fn publish_lines(body: &[u8]) {
    block_on(async {
        let hub = Hub::new(MemoryStore::default());
        let request = Request::post("/publish").header("content-type", "application/x-ndjson");
        let request = request.body(Full::from(Bytes::copy_from_slice(body))).expect("a request");
        let response = PublishService::fixed(hub.clone(), channel()).call(request.clone()).await.expect("infallible");
        let appended = response.status() == 200;
        check(&request, response).await;
        let read = hub.listen(Subscription::new(channel()).start(Start::Earliest)).await.expect("a page");
        let entries = read.entries();
        if !appended {
            assert!(entries.is_empty(), "a refused batch was appended in part");
            return;
        }
        let lines: Vec<&[u8]> =
            body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).collect();
        // Only the newest of many are returned, and a key that is repeated appends nothing twice.
        assert!(entries.is_empty() == lines.is_empty() && entries.len() <= lines.len());
        if entries.len() == lines.len() {
            for (entry, line) in entries.iter().zip(lines) {
                let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
                let line: serde_json::Value = serde_json::from_slice(line).expect("a line that was accepted");
                let data: serde_json::Value = serde_json::from_slice(&entry.data.to_json()).expect("JSON");
                assert_eq!(line["data"], data);
            }
        }
    });
}

/// One step against a store.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Appends this many events.
    Append(u8),
    /// Appends one event under one of a few keys.
    Keyed(u8),
    /// Resumes from one of the cursors that were seen, or from the start.
    Resume(u8),
    Close,
    Init(u8),
    Delete,
    /// Appends one event only if the head is the newest cursor that was seen.
    Expecting,
}

/// A memory store agrees with a plain list, and never continues a resume wrongly.
pub fn store_ops(steps: &[Step], keep: u8) {
    let keep = usize::from(keep.max(1));
    block_on(async {
        let store = MemoryStore::new(Retention::default().events(keep as u64));
        let mut model = Model { keep, ..Model::default() };
        for step in steps {
            model.step(&store, *step).await;
        }
    });
}

/// What one channel must hold: everything since the last init or delete, and whether it is closed.
#[derive(Default)]
struct Model {
    keep: usize,
    history: Vec<(Cursor, String)>,
    keys: VecDeque<(u8, Cursor, String)>,
    closed: bool,
    seen: Vec<Cursor>,
    appended: usize,
}

impl Model {
    async fn step(&mut self, store: &MemoryStore, step: Step) {
        let channel = channel();
        match step {
            Step::Append(count) => {
                let texts: Vec<_> = (0..count).map(|_| self.text()).collect();
                self.append(store, Append::new(texts.iter().map(Event::text)), texts.clone()).await;
            }
            Step::Expecting => {
                let Some(&expected) = self.seen.last() else { return };
                let (head, text) =
                    (store.heads(std::slice::from_ref(&channel)).await.expect("heads")[0].cursor, self.text());
                if head == expected {
                    self.append(store, Append::new([Event::text(&text)]).expecting(Expect::At(head)), vec![text]).await;
                } else {
                    let append = Append::new([Event::text(&text)]).expecting(Expect::At(expected));
                    let refused = store.append(&channel, append).await;
                    assert!(
                        matches!(refused, Err(StoreError::Conflict { .. } | StoreError::Closed { .. })),
                        "{refused:?}"
                    );
                }
            }
            Step::Keyed(key) => self.keyed(store, key % 4).await,
            Step::Resume(which) => self.resume(store, usize::from(which)).await,
            Step::Close => {
                store.append(&channel, Append::new([]).closing()).await.expect("closing is repeatable");
                self.closed = true;
            }
            Step::Init(count) => {
                let texts: Vec<_> = (0..count).map(|_| self.text()).collect();
                let events = texts.iter().map(Event::text).collect();
                store.init(&channel, events, Expect::Any).await.expect("initialised");
                let page = read(store, Start::Earliest).await;
                let skipped = texts.len() - page.len();
                assert!(page.len() >= texts.len().min(self.keep));
                assert!(page.iter().map(|(_, text)| text).eq(&texts[skipped..]));
                self.forget();
                self.history = page;
            }
            Step::Delete => {
                store.delete(&channel).await.expect("deleted");
                self.forget();
            }
        }
        self.agrees(store).await;
    }

    fn forget(&mut self) {
        self.history.clear();
        self.keys.clear();
        self.closed = false;
    }

    fn text(&mut self) -> String {
        self.appended += 1;
        self.appended.to_string()
    }

    async fn append(&mut self, store: &MemoryStore, append: Append, texts: Vec<String>) {
        match store.append(&channel(), append).await {
            Ok(appended) => {
                assert!(!self.closed || texts.is_empty(), "appended after the close");
                assert!(texts.len() <= self.most_at_once(), "more than half of what is kept");
                let cursors = appended.receipts.iter().map(|receipt| receipt.cursor);
                self.seen.extend(cursors.clone());
                self.history.extend(cursors.zip(texts));
            }
            Err(StoreError::Closed { .. }) => assert!(self.closed && !texts.is_empty()),
            Err(StoreError::TooLarge { .. }) => assert!(texts.len() > self.most_at_once()),
            Err(error) => panic!("{error}"),
        }
    }

    fn most_at_once(&self) -> usize {
        (self.keep / 2).max(1)
    }

    async fn keyed(&mut self, store: &MemoryStore, key: u8) {
        // A key identifies one event, so that event is repeated unchanged.
        let known = self.keys.iter().find(|(known, ..)| *known == key).cloned();
        let (known, text) = known.map_or_else(|| (None, self.text()), |(_, cursor, text)| (Some(cursor), text));
        let event = Event::text(&text).keyed(format!("k{key}")).expect("a key");
        match (store.append(&channel(), Append::new([event])).await, known) {
            (Ok(appended), Some(cursor)) => {
                let receipt = appended.receipts[0];
                assert!(receipt.duplicate && receipt.cursor == cursor && appended.entries.is_empty());
            }
            (Ok(appended), None) => {
                let cursor = appended.receipts[0].cursor;
                assert!(!self.closed && !appended.receipts[0].duplicate);
                self.keys.push_back((key, cursor, text.clone()));
                self.seen.push(cursor);
                self.history.push((cursor, text));
            }
            (Err(StoreError::Closed { .. }), None) => assert!(self.closed),
            (Err(error), _) => panic!("{error}"),
        }
    }

    /// A resume continues with exactly the entries that follow, or is reset and returns all retained entries.
    async fn resume(&mut self, store: &MemoryStore, which: usize) {
        let Some(&from) = self.seen.get(which % self.seen.len().max(1)) else { return };
        let page = store.read(&channel(), Start::After(from), EVERYTHING).await.expect("a page");
        let texts: Vec<_> = page.entries.iter().filter_map(|entry| entry.data.as_text()).map(str::to_owned).collect();
        let at = self.history.iter().position(|(cursor, _)| *cursor == from);
        match (page.outcome, at) {
            (Outcome::Continued, Some(at)) => {
                assert!(self.history[at + 1..].iter().map(|(_, text)| text).eq(&texts), "lost or repeated");
            }
            (Outcome::Continued, None) => panic!("continued from a cursor of a history that is gone"),
            (Outcome::Reset(Reason::Trimmed), Some(at)) => {
                assert!(self.history.len() - at > self.keep, "trimmed too early");
            }
            (Outcome::Reset(_), None) => {}
            (Outcome::Reset(reason), Some(_)) => panic!("reset for {reason:?} though the history is the same"),
        }
    }

    async fn agrees(&self, store: &MemoryStore) {
        let page = read(store, Start::Earliest).await;
        let least = self.history.len().min(self.keep);
        assert!((least..=self.history.len()).contains(&page.len()) && page.len() <= 2 * self.keep.max(least));
        assert_eq!(page, self.history[self.history.len() - page.len()..]);
        assert!(page.windows(2).all(|two| two[1].0.seq == two[0].0.seq + 1), "not dense");
        let head = store.heads(&[channel()]).await.expect("heads")[0];
        assert_eq!(head.closed, self.closed);
        assert!(page.last().is_none_or(|(cursor, _)| *cursor == head.cursor));
    }
}

async fn read(store: &MemoryStore, start: Start) -> Vec<(Cursor, String)> {
    let page = store.read(&channel(), start, EVERYTHING).await.expect("a page");
    page.entries.into_iter().map(|entry| (entry.cursor, entry.data.as_text().unwrap_or_default().to_owned())).collect()
}

const EVERYTHING: Limit = Limit::new(usize::MAX, usize::MAX);

fn channel() -> Channel {
    Channel::new("a").expect("a channel")
}

/// Time is paused, so that waiting takes no real time.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}
