//! Clients of every kind that come back when they are sent away, and check that they get every event once and in order.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    returns::Returns,
    support::{Answer, Http1, Parser, eventually},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    /// A stream that is read more slowly than it could be.
    SlowStream,
    /// A stream that the client ends after some events, and resumes.
    DroppingStream,
    /// Long polls of one channel, on one connection.
    Poll,
    /// Long polls of several channels, on one connection.
    PagePoll,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Stream, Self::SlowStream, Self::DroppingStream, Self::Poll, Self::PagePoll];

    fn is_poll(self) -> bool {
        matches!(self, Self::Poll | Self::PagePoll)
    }
}

/// Running clients; dropping them ends them.
pub(crate) struct Clients {
    tasks: JoinSet<()>,
    received: Arc<AtomicU64>,
    followed: Vec<usize>,
}

impl Clients {
    /// Starts `count` clients, as many of each kind, which read from the beginning.
    pub(crate) fn start(server: SocketAddr, count: usize, channels: usize, returns: &Arc<Returns>) -> Self {
        let (mut tasks, received, mut followed) = (JoinSet::new(), Arc::new(AtomicU64::new(0)), Vec::new());
        for number in 0..count {
            let kind = Kind::ALL[number % Kind::ALL.len()];
            let several = kind == Kind::PagePoll || number % 4 == 0;
            let own: Vec<_> = (0..if several { 3 } else { 1 }).map(|more| (number + more * 7) % channels).collect();
            followed.extend(&own);
            tasks.spawn(Client::new(server, kind, &own, received.clone(), returns.clone()).run());
        }
        Self { tasks, received, followed }
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Waits until every client has received every event; `counts` are those of the channels. Panics when one got an event
    /// twice, out of order, or not at all.
    pub(crate) async fn until_all_received(&mut self, counts: &[u64]) {
        let all: u64 = self.followed.iter().map(|channel| counts[*channel]).sum();
        let received = self.received.clone();
        eventually("every client has every event", || {
            self.check();
            received.load(Relaxed) >= all
        })
        .await;
        assert_eq!(received.load(Relaxed), all);
    }

    /// Panics if a client did.
    pub(crate) fn check(&mut self) {
        if let Some(ended) = self.tasks.try_join_next() {
            ended.unwrap();
            panic!("a client ended by itself");
        }
    }
}

struct Client {
    server: SocketAddr,
    kind: Kind,
    query: String,
    position: String,
    /// The number of the next event of each channel.
    next: HashMap<String, u64>,
    received: Arc<AtomicU64>,
    returns: Arc<Returns>,
    /// Whether the server has told this client when to come back, since it was told to stop, and for the first time since.
    was_told: bool,
    has_returned: bool,
}

impl Client {
    fn new(
        server: SocketAddr,
        kind: Kind,
        channels: &[usize],
        received: Arc<AtomicU64>,
        returns: Arc<Returns>,
    ) -> Self {
        let next: HashMap<_, _> = channels.iter().map(|channel| (format!("c{channel}"), 0)).collect();
        let query = next.keys().map(|name| format!("channel={name}&")).collect();
        Self {
            server,
            kind,
            query,
            position: String::new(),
            next,
            received,
            returns,
            was_told: false,
            has_returned: false,
        }
    }

    async fn run(mut self) {
        loop {
            if let Ok(mut http1) = Http1::connect(self.server).await {
                if std::mem::take(&mut self.was_told) {
                    self.returns.told_client();
                    self.has_returned = true;
                }
                let pause = match self.kind {
                    kind if kind.is_poll() => self.poll(&mut http1).await,
                    _ => self.stream(&mut http1).await,
                };
                drop(http1);
                sleep(pause.unwrap_or_else(usual_pause)).await;
            } else {
                sleep(usual_pause()).await;
            }
        }
    }

    /// Reads a stream to its end. Returns when to come back, if the server said so.
    async fn stream(&mut self, http1: &mut Http1) -> Option<Duration> {
        http1.send(self.request("format=json", "text/event-stream")).await;
        let (status, headers) = http1.head("GET").await.ok()?;
        assert_eq!(status, 200, "{headers:?}");
        let (mut parser, mut events) = (Parser::default(), 0);
        while let Ok(Some(chunk)) = http1.chunk().await {
            for message in parser.push(&chunk) {
                self.position.clone_from(&message.id);
                match message.name.as_str() {
                    "message" => {
                        self.event(&serde_json::from_str(&message.data).unwrap());
                        events += 1;
                    }
                    "stream-live" => {}
                    "stream-retry" => self.is_told(),
                    other => panic!("{other}: {}", message.data),
                }
            }
            match self.kind {
                Kind::SlowStream => sleep(Duration::from_millis(50)).await,
                Kind::DroppingStream if events >= 5 => return Some(Duration::from_millis(fastrand::u64(..200))),
                _ => {}
            }
        }
        parser.retry.map(Duration::from_millis)
    }

    /// Polls until it is sent away. Returns when to come back, if the server said so.
    async fn poll(&mut self, http1: &mut Http1) -> Option<Duration> {
        let format = if self.kind == Kind::PagePoll { "format=page" } else { "wait=20" };
        loop {
            http1.send(self.request(format, "application/json")).await;
            let answer = http1.answer_to("GET").await.ok()?;
            assert!(matches!(answer.status, 200 | 503), "{answer}");
            let pause = if answer.status == 503 { retry_after(&answer) } else { self.answer(&answer) };
            if pause.is_some() {
                self.is_told();
                return pause;
            }
        }
    }

    fn is_told(&mut self) {
        self.was_told = self.returns.has_started() && !self.has_returned;
    }

    fn answer(&mut self, answer: &Answer) -> Option<Duration> {
        let body = answer.json();
        if self.kind == Kind::PagePoll {
            body["events"].as_array().unwrap().iter().for_each(|event| self.event(event));
            assert_eq!(body["resets"].as_array().map_or(0, Vec::len), 0, "{body}");
            body["cursor"].as_str().unwrap().clone_into(&mut self.position);
            return body["retry_ms"].as_u64().map(Duration::from_millis);
        }
        body.as_array().unwrap().iter().for_each(|event| self.event(event));
        assert_eq!(answer.try_header("events-reset"), None, "{answer}");
        self.position = answer.cursor();
        retry_after(answer)
    }

    fn event(&mut self, event: &Value) {
        let next = self.next.get_mut(event["channel"].as_str().unwrap()).expect("a channel that it asked for");
        assert_eq!(event["data"], *next, "{:?}: {event}", self.kind);
        *next += 1;
        self.received.fetch_add(1, Relaxed);
    }

    fn request(&self, parameters: &str, accept: &str) -> String {
        let start = match self.position.as_str() {
            "" => "after=earliest".to_owned(),
            position => format!("after={position}"),
        };
        let query = format!("{}{parameters}&{start}", self.query);
        format!("GET /events?{query} HTTP/1.1\r\nhost: test\r\naccept: {accept}\r\n\r\n")
    }
}

fn retry_after(answer: &Answer) -> Option<Duration> {
    answer.try_header("retry-after").map(|seconds| Duration::from_secs(seconds.parse().unwrap()))
}

/// As long as the library's clients wait when nothing was said: 2 s, plus or minus half of it.
fn usual_pause() -> Duration {
    Duration::from_millis(fastrand::u64(1_000..3_000))
}
