//! The clients: many reading connections and one that publishes, in one epoll loop.

mod connection;
pub(crate) mod order;
pub(crate) mod parser;
mod request;
mod resume;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

use self::connection::Connection;
pub(crate) use self::resume::{id_of_the_first_event, resume};

/// How clients read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Sse,
    LongPoll,
}

/// When events are published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// At most this many events are in flight; an event is in flight until all readers have it.
    Window(usize),
    /// This many at once, whenever all readers have all earlier ones.
    Bursts(usize),
    /// This many per second, regardless of the readers.
    PerSecond(u32),
}

/// How long a run is: at least this long, and at least this many events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) time: Duration,
    pub(crate) events: u64,
}

impl Span {
    /// The warm-up before the run, which is not measured.
    pub(crate) fn warm(self) -> Self {
        Self { time: self.time / 4, events: self.events / 2 }
    }
}

/// Readers and a publisher.
pub(crate) struct Load {
    poll: Poll,
    readers: Vec<Connection>,
    publisher: Connection,
    transport: Transport,
    buffer: Vec<u8>,
    channels: Vec<Channel>,
    /// The channel of the next event.
    next_channel: usize,
    /// Publish requests sent.
    published: u64,
    /// Events that some readers do not have yet, by channel and number: when they were due, and how many readers have them.
    in_flight: HashMap<(usize, u64), (Instant, usize)>,
    /// Per event, from publishing to the last reader.
    pub(crate) latencies: Vec<Duration>,
}

struct Channel {
    next: u64,
    readers: usize,
}

const PUBLISHER: Token = Token(usize::MAX - 1);
/// Bytes of an event.
pub(crate) const EVENT: usize = 100;
/// How long an expected answer or event may take.
const PATIENCE: Duration = Duration::from_secs(20);

impl Load {
    /// Connects readers, spread evenly over the channels; does not wait for the answers.
    pub(crate) fn connect(addr: SocketAddr, readers: usize, channels: usize, transport: Transport) -> Self {
        let poll = Poll::new().expect("epoll");
        let mut publisher = Connection::open(addr);
        poll.registry().register(&mut publisher.stream, PUBLISHER, Interest::READABLE).expect("registered");
        let mut load = Self {
            poll,
            readers: Vec::with_capacity(readers),
            publisher,
            transport,
            buffer: vec![0; 256 << 10],
            channels: (0..channels).map(|_| Channel { next: 0, readers: 0 }).collect(),
            next_channel: 0,
            published: 0,
            in_flight: HashMap::new(),
            latencies: Vec::new(),
        };
        for at in 0..readers {
            let channel = at % channels;
            let mut reader = Connection::open(addr);
            reader.send(&request::follow(channel, transport));
            load.poll.registry().register(&mut reader.stream, Token(at), Interest::READABLE).expect("registered");
            load.readers.push(reader);
            load.channels[channel].readers += 1;
            if at % 64 == 63 {
                load.turn(Some(Duration::ZERO));
            }
        }
        load
    }

    /// Publishes until each reader has received an event, so that all are known to be subscribed, then discards the figures.
    pub(crate) fn settle(&mut self) {
        if self.transport == Transport::Sse {
            self.wait_for_heads();
        }
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE * 2, "some readers get nothing");
            let mut waiting: Vec<_> = (0..self.readers.len()).filter(|at| self.readers[*at].events == 0).collect();
            if waiting.is_empty() {
                break;
            }
            waiting.iter_mut().for_each(|at| *at %= self.channels.len());
            waiting.sort_unstable();
            waiting.dedup();
            waiting.into_iter().for_each(|channel| self.publish(channel, EVENT));
            self.read_on();
        }
        let behind = |load: &Self| {
            let last = |at: usize| load.channels[at % load.channels.len()].next;
            load.readers.iter().enumerate().any(|(at, reader)| !reader.order.is_at(last(at)))
        };
        while behind(self) {
            assert!(start.elapsed() < PATIENCE * 2, "some readers lag for ever");
            self.turn(Some(Duration::from_millis(5)));
        }
        self.in_flight.clear();
        self.latencies.clear();
    }

    /// Publishes at this pace, waits until all readers have all events, and returns the number of events.
    pub(crate) fn run(&mut self, pace: Pace, span: Span) -> u64 {
        let (start, first) = (Instant::now(), self.published);
        self.latencies.clear();
        let mut moved = Instant::now();
        loop {
            let sent = self.published - first;
            let over = start.elapsed() >= span.time && sent >= span.events;
            if over && self.in_flight.is_empty() {
                return sent;
            }
            let due = if over { 0 } else { self.due(pace, start, sent) };
            if due > 0 {
                self.publish_some(due, start, pace, sent);
            }
            let before = self.latencies.len();
            self.turn(Some(Duration::from_millis(1)));
            if due > 0 || self.latencies.len() > before {
                moved = Instant::now();
            }
            assert!(moved.elapsed() < PATIENCE, "events are lost: {:?}", self.in_flight.keys().min());
        }
    }

    /// Publishes `count` large events that some clients do not read, and waits until the server has accepted them.
    pub(crate) fn fill(&mut self, count: usize, size: usize) {
        for _ in 0..count {
            self.publish(0, size);
            let start = Instant::now();
            while self.publisher.answers < self.published || !self.in_flight.is_empty() {
                assert!(start.elapsed() < PATIENCE, "the server takes nothing");
                self.turn(Some(Duration::from_millis(5)));
            }
        }
    }

    /// Publishes without readers for `span`, with at most `window` requests in flight.
    pub(crate) fn publish_only(&mut self, window: u64, span: Span) -> u64 {
        let (start, first) = (Instant::now(), self.published);
        loop {
            let over = start.elapsed() >= span.time && self.published - first >= span.events;
            if over && self.publisher.answers == self.published {
                return self.published - first;
            }
            while !over && self.published - self.publisher.answers < window {
                self.publish(0, EVENT);
            }
            self.in_flight.clear();
            let answers = self.publisher.answers;
            self.turn(Some(PATIENCE));
            assert!(self.publisher.answers > answers, "a publish hangs");
        }
    }

    /// Publishes `count` events without readers, beginning with event `first`.
    pub(crate) fn publish_from(&mut self, first: u64, count: u64) {
        self.channels[0].next = first;
        while self.publisher.answers < count {
            if self.published < count && self.published - self.publisher.answers < 16 {
                self.publish(0, EVENT);
            } else {
                self.turn(Some(PATIENCE));
            }
        }
        self.in_flight.clear();
    }

    /// The number of readers per channel.
    pub(crate) fn readers_of_each(&self) -> u64 {
        (self.readers.len() / self.channels.len()) as u64
    }

    /// Reads for `time`.
    pub(crate) fn turn_for(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.turn(Some(Duration::from_millis(5)));
        }
    }

    /// Waits until the head of every stream has arrived, or until every poll has been answered once.
    pub(crate) fn wait_for_heads(&mut self) {
        let start = Instant::now();
        while self.readers.iter().any(|reader| reader.heads == 0) {
            assert!(start.elapsed() < PATIENCE, "some readers are not answered");
            match self.transport {
                Transport::Sse => self.turn(Some(Duration::from_millis(5))),
                Transport::LongPoll => {
                    self.publish(0, EVENT);
                    self.read_on();
                }
            }
        }
    }

    /// Reads for a while, and until the server has accepted what was published: publishing more would keep it from accepting
    /// readers.
    fn read_on(&mut self) {
        self.turn_for(Duration::from_millis(100));
        let start = Instant::now();
        while self.publisher.answers < self.published {
            assert!(start.elapsed() < PATIENCE, "a publish hangs");
            self.turn(Some(Duration::from_millis(5)));
        }
    }

    pub(crate) fn publish(&mut self, channel: usize, size: usize) {
        let number = self.enqueue(channel, Instant::now());
        self.publisher.send(&request::publish(channel, number, size));
    }

    /// How many events to publish now.
    fn due(&self, pace: Pace, start: Instant, sent: u64) -> usize {
        match pace {
            Pace::Window(most) => most.saturating_sub(self.in_flight.len()),
            Pace::Bursts(count) => {
                if self.in_flight.is_empty() {
                    count
                } else {
                    0
                }
            }
            Pace::PerSecond(rate) => {
                let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64 + 1;
                due.saturating_sub(sent) as usize
            }
        }
    }

    /// Publishes `count` events in one write.
    fn publish_some(&mut self, count: usize, start: Instant, pace: Pace, sent: u64) {
        let mut requests = String::new();
        for at in 0..count as u64 {
            let channel = self.next_channel;
            self.next_channel = (channel + 1) % self.channels.len();
            let due = match pace {
                Pace::PerSecond(rate) => start + Duration::from_secs(1) * (sent + at) as u32 / rate,
                _ => Instant::now(),
            };
            let number = self.enqueue(channel, due);
            requests += &request::publish(channel, number, EVENT);
        }
        self.publisher.send(&requests);
    }

    fn enqueue(&mut self, channel: usize, due: Instant) -> u64 {
        let number = self.channels[channel].next;
        self.channels[channel].next += 1;
        self.in_flight.insert((channel, number), (due, 0));
        self.published += 1;
        number
    }

    fn turn(&mut self, timeout: Option<Duration>) {
        let mut events = Events::with_capacity(4096);
        self.poll.poll(&mut events, timeout).expect("epoll");
        let Self { channels, in_flight, latencies, buffer, .. } = self;
        for event in &events {
            let at = event.token().0;
            let Some(reader) = self.readers.get_mut(at) else {
                self.publisher.read(buffer, |_| {});
                continue;
            };
            let (channel, answers) = (at % channels.len(), reader.answers);
            let all = channels[channel].readers;
            reader.read(buffer, |number| {
                let Some((due, have)) = in_flight.get_mut(&(channel, number)) else { return };
                *have += 1;
                if *have == all {
                    latencies.push(due.elapsed());
                    in_flight.remove(&(channel, number));
                }
            });
            if self.transport == Transport::LongPoll && reader.answers > answers {
                reader.poll_again(channel);
            }
        }
    }
}

/// Connections to the first channel's stream that are never read.
pub(crate) struct Unread {
    poll: Poll,
    streams: Vec<Connection>,
}

impl Unread {
    pub(crate) fn connect(addr: SocketAddr, count: usize) -> Self {
        let poll = Poll::new().expect("epoll");
        let streams = (0..count).map(|at| {
            let mut reader = Connection::open(addr);
            reader.send(&request::follow(0, Transport::Sse));
            poll.registry().register(&mut reader.stream, Token(at), Interest::READABLE).expect("registered");
            reader
        });
        let streams = streams.collect();
        Self { poll, streams }
    }

    /// Waits until the server has answered all of them, and leaves the answers unread.
    pub(crate) fn wait_for_heads(&mut self) {
        let mut events = Events::with_capacity(1024);
        let mut silent: HashSet<_> = (0..self.streams.len()).map(Token).collect();
        while !silent.is_empty() {
            self.poll.poll(&mut events, Some(PATIENCE)).expect("epoll");
            assert!(!events.is_empty(), "some streams do not begin");
            events.iter().for_each(|event| _ = silent.remove(&event.token()));
        }
    }
}
