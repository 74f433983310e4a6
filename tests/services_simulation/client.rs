//! A client that reads by either transport, comes back from its last position, and checks what it gets.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    node::Node,
    support::{Message, Sse},
    world::Counts,
};

pub(crate) struct Client {
    /// The parameters that are the same in all of its requests.
    query: String,
    id: String,
    channels: BTreeMap<&'static str, Seen>,
    stream: Option<Open>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    /// The number of the newest event.
    last: Option<u64>,
    /// A reset came, so that events may be missing before the next one.
    was_reset: bool,
}

struct Open {
    stream: Sse,
    /// How many of its messages were taken.
    taken: usize,
}

impl Client {
    pub(crate) fn new(number: usize, rng: &mut Rng) -> Self {
        let mut names = vec!["a", "b"];
        if rng.bool() {
            names.remove(rng.usize(..2));
        }
        let channels: Vec<_> = names.iter().map(|name| format!("channel={name}")).collect();
        let mut query = channels.join("&") + "&after=earliest";
        if rng.bool() {
            query += &format!("&user=u{}", number % 3);
        }
        if rng.bool() {
            query += &format!("&seconds={}", rng.u64(2..90));
        }
        let channels = names.into_iter().map(|name| (name, Seen::default())).collect();
        Self { query, id: String::new(), channels, stream: None }
    }

    pub(crate) fn has(&self, numbers: &BTreeMap<&'static str, u64>) -> bool {
        self.channels.iter().all(|(channel, seen)| seen.last == Some(numbers[channel]))
    }

    /// Reads for a while, or begins to.
    pub(crate) async fn turn(&mut self, node: &Node, rng: &mut Rng, counts: &mut Counts) {
        match (self.stream.is_some(), rng.u32(..10)) {
            (true, 0) => self.stream = None,
            (true, 1) => self.cut(rng, counts).await,
            (true, 2) => {
                // It takes nothing meanwhile.
                tokio::time::sleep(Duration::from_secs(rng.u64(1..100))).await;
                counts.stalls += 1;
            }
            (true, _) => self.read(Duration::from_millis(rng.u64(..30_000)), counts).await,
            (false, 0..5) => self.poll(node, rng.u64(..30), rng.usize(1..9), counts).await,
            (false, _) => self.open(node, counts).await,
        }
    }

    /// Gives the connection up, as when its node is killed.
    pub(crate) fn disconnect(&mut self) {
        self.stream = None;
    }

    async fn open(&mut self, node: &Node, counts: &mut Counts) {
        let request = node.server.get(&format!("/events?{}&format=json", self.query));
        let request = request.header("accept", "text/event-stream");
        let request = if self.id.is_empty() { request } else { request.last_event_id(&self.id) };
        let stream = request.sse().await;
        self.stream = Some(Open { stream, taken: 0 });
        counts.streams += 1;
    }

    /// Takes what comes within `time`.
    async fn read(&mut self, time: Duration, counts: &mut Counts) {
        let until = tokio::time::Instant::now() + time;
        while let Some(open) = &mut self.stream {
            let more = tokio::time::timeout_at(until, open.stream.read_more()).await;
            if more.is_err() {
                return;
            }
            while let Some(message) = self.stream.as_mut().and_then(|open| open.stream.received()) {
                self.take(&message, counts);
                self.stream.as_mut().unwrap().taken += 1;
            }
            self.id = self.position();
            // The end, or an error of the connection.
            if !matches!(more, Ok(Ok(true))) {
                self.stream = None;
            }
        }
    }

    /// The position as a browser keeps it: what the stream said, or else what was known before.
    fn position(&self) -> String {
        match self.stream.as_ref().map(|open| open.stream.last_event_id()) {
            Some(id) if !id.is_empty() => id.to_owned(),
            _ => self.id.clone(),
        }
    }

    /// Loses the connection after any byte of what comes next.
    async fn cut(&mut self, rng: &mut Rng, counts: &mut Counts) {
        let Some(Open { mut stream, taken }) = self.stream.take() else { return };
        let before = stream.raw().len();
        _ = timeout(Duration::from_secs(5), stream.read_more()).await;
        let bytes = rng.usize(before..=stream.raw().len());
        let (messages, id) = stream.cut_after(bytes).await;
        messages.iter().skip(taken).for_each(|message| self.take(message, counts));
        if !id.is_empty() {
            self.id = id;
        }
        counts.cuts += 1;
    }

    async fn poll(&mut self, node: &Node, wait: u64, limit: usize, counts: &mut Counts) {
        let target = format!("/events?{}&format=page&wait={wait}&limit={limit}", self.query);
        let request = node.server.get(&target).header("accept", "application/json");
        let request = if self.id.is_empty() { request } else { request.last_event_id(&self.id) };
        let answer = request.send().await;
        if answer.status != 200 {
            assert!([401, 503].contains(&answer.status), "{answer}");
            counts.refused += 1;
            return;
        }
        let page = answer.json();
        for reset in page["resets"].as_array().into_iter().flatten() {
            self.reset(reset, counts);
        }
        for event in page["events"].as_array().unwrap() {
            self.event(event, counts);
        }
        self.id = page["cursor"].as_str().unwrap().to_owned();
        counts.polls += 1;
    }

    fn take(&mut self, message: &Message, counts: &mut Counts) {
        let data: Value = serde_json::from_str(&message.data).unwrap();
        match &*message.name {
            "message" => self.event(&data, counts),
            "stream-reset" => self.reset(&data, counts),
            "stream-retry" => counts.retries += 1,
            "stream-ping" | "stream-live" => {}
            other => panic!("unexpected: {other} {data}"),
        }
    }

    fn event(&mut self, event: &Value, counts: &mut Counts) {
        let (channel, number) = (event["channel"].as_str().unwrap(), event["data"].as_u64().unwrap());
        let seen = self.channels.get_mut(channel).expect("a channel that was asked for");
        let follows = match seen.last {
            // What was dropped before the first request is not missed.
            None => true,
            Some(last) if seen.was_reset => number > last,
            Some(last) => number == last + 1,
        };
        assert!(follows, "{number} after {:?} in {channel}, reset: {}", seen.last, seen.was_reset);
        *seen = Seen { last: Some(number), was_reset: false };
        counts.events += 1;
    }

    /// Only what was dropped by retention is ever missing here.
    fn reset(&mut self, reset: &Value, counts: &mut Counts) {
        assert_eq!(reset["reason"], "trimmed", "{reset}");
        let seen = self.channels.get_mut(reset["channel"].as_str().unwrap()).expect("a channel that was asked for");
        seen.was_reset = true;
        counts.resets += 1;
    }
}
