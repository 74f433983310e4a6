//! The clients: many connections in one epoll loop, and one that publishes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

use crate::connection::{Connection, payload};

/// How clients read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Sse,
    LongPoll,
}

/// N connected readers and a publisher.
pub(crate) struct Load {
    poll: Poll,
    readers: Vec<Connection>,
    publisher: Connection,
    transport: Transport,
    buffer: Vec<u8>,
    next: u64,
    /// Events that not everybody has, by number: when they were published, and how many have them.
    in_flight: HashMap<u64, (Instant, usize)>,
    /// From publish to the last reader, of each event.
    pub(crate) latencies: Vec<Duration>,
}

const PUBLISHER: Token = Token(usize::MAX - 1);

impl Load {
    /// Connects `readers`, and publishes until each has had an event, so that all are known to be there.
    pub(crate) fn connect(addr: SocketAddr, readers: usize, transport: Transport) -> Self {
        let poll = Poll::new().expect("epoll");
        let mut publisher = Connection::open(addr);
        poll.registry().register(&mut publisher.stream, PUBLISHER, Interest::READABLE).expect("registered");
        let mut load = Self {
            poll,
            readers: Vec::with_capacity(readers),
            publisher,
            transport,
            buffer: vec![0; 256 << 10],
            next: 0,
            in_flight: HashMap::new(),
            latencies: Vec::new(),
        };
        // Something to start after.
        load.publish();
        load.wait_for_publisher(1);
        load.in_flight.clear();
        for at in 0..readers {
            let mut reader = Connection::open(addr);
            reader.send(&first_request(transport));
            load.poll.registry().register(&mut reader.stream, Token(at), Interest::READABLE).expect("registered");
            load.readers.push(reader);
            if at % 64 == 63 {
                load.turn(Some(Duration::ZERO));
            }
        }
        load
    }

    /// Publishes until all have had an event, then forgets the figures.
    pub(crate) fn settle(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.readers.iter().any(|reader| reader.events == 0) {
            assert!(Instant::now() < deadline, "some readers get nothing");
            self.publish();
            let until = Instant::now() + Duration::from_millis(200);
            while Instant::now() < until && self.readers.iter().any(|reader| reader.events == 0) {
                self.turn(Some(Duration::from_millis(20)));
            }
        }
        while self.readers.iter().any(|reader| reader.expected != Some(self.next)) {
            assert!(Instant::now() < deadline, "some readers lag for ever");
            self.turn(Some(Duration::from_millis(20)));
        }
        self.in_flight.clear();
        self.latencies.clear();
    }

    /// Publishes `events`, at most `window` of them in flight: an event is in flight until everybody has it.
    pub(crate) fn run(&mut self, events: u64, window: usize) {
        let last = self.next + events;
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.next < last || !self.in_flight.is_empty() {
            assert!(Instant::now() < deadline, "events are lost: {:?}", self.in_flight.keys().min());
            while self.next < last && self.in_flight.len() < window {
                self.publish();
            }
            self.turn(Some(Duration::from_millis(100)));
        }
    }

    pub(crate) fn readers(&self) -> usize {
        self.readers.len()
    }

    fn publish(&mut self) {
        self.publisher.send(&publish_request(self.next));
        self.in_flight.insert(self.next, (Instant::now(), 0));
        self.next += 1;
    }

    fn wait_for_publisher(&mut self, answers: usize) {
        let mut seen = 0;
        while seen < answers {
            seen += self.publisher.read(&mut self.buffer, |_| {});
            std::thread::yield_now();
        }
    }

    fn turn(&mut self, timeout: Option<Duration>) {
        let mut events = Events::with_capacity(4096);
        self.poll.poll(&mut events, timeout).expect("epoll");
        let (all, in_flight, latencies) = (self.readers.len(), &mut self.in_flight, &mut self.latencies);
        for event in &events {
            if event.token() == PUBLISHER {
                self.publisher.read(&mut self.buffer, |_| {});
                continue;
            }
            let Some(reader) = self.readers.get_mut(event.token().0) else { continue };
            let completed = reader.read(&mut self.buffer, |number| {
                let Some((published, have)) = in_flight.get_mut(&number) else { return };
                *have += 1;
                if *have == all {
                    latencies.push(published.elapsed());
                    in_flight.remove(&number);
                }
            });
            if self.transport == Transport::LongPoll && completed > 0 {
                let request = poll_request(&reader.last_id);
                reader.send(&request);
            }
        }
    }
}

/// Connects, resumes after `id`, takes `count` events and leaves; `at_once` of them at a time, `times` in all.
pub(crate) fn resume(addr: SocketAddr, id: &str, first: u64, count: u64, at_once: usize, times: usize) {
    let mut poll = Poll::new().expect("epoll");
    let mut buffer = vec![0; 256 << 10];
    let request = format!(
        "GET /events?channel=a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nLast-Event-ID: {id}\r\n\r\n"
    );
    let mut open: HashMap<Token, Connection> = HashMap::new();
    let (mut started, mut done) = (0, 0);
    let mut events = Events::with_capacity(256);
    while done < times {
        while open.len() < at_once && started < times {
            let mut connection = Connection::open(addr);
            connection.expected = Some(first);
            connection.send(request.as_bytes());
            let token = Token(started);
            poll.registry().register(&mut connection.stream, token, Interest::READABLE).expect("registered");
            open.insert(token, connection);
            started += 1;
        }
        poll.poll(&mut events, Some(Duration::from_secs(30))).expect("epoll");
        assert!(!events.is_empty(), "a resume hangs");
        for event in &events {
            let Some(connection) = open.get_mut(&event.token()) else { continue };
            connection.read(&mut buffer, |_| {});
            if connection.events >= count {
                open.remove(&event.token());
                done += 1;
            }
        }
    }
}

/// Publishes `count` events over one connection, `window` requests in flight.
pub(crate) fn publish(addr: SocketAddr, first: u64, count: u64, window: u64) {
    let mut publisher = Connection::open(addr);
    let mut poll = Poll::new().expect("epoll");
    poll.registry().register(&mut publisher.stream, Token(0), Interest::READABLE).expect("registered");
    let mut buffer = vec![0; 64 << 10];
    let (mut sent, mut answered) = (0, 0);
    let mut events = Events::with_capacity(4);
    while answered < count {
        while sent < count && sent - answered < window {
            publisher.send(&publish_request(first + sent));
            sent += 1;
        }
        poll.poll(&mut events, Some(Duration::from_secs(10))).expect("epoll");
        assert!(!events.is_empty(), "a publish hangs");
        answered += publisher.read(&mut buffer, |_| {}) as u64;
    }
}

/// Where a reader stands that has seen the first event of a history of one.
pub(crate) fn id_of_the_only_event(addr: SocketAddr) -> String {
    let mut connection = Connection::open(addr);
    let request = "GET /events?channel=a&after=earliest HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
    connection.send(request.as_bytes());
    let mut buffer = vec![0; 4096];
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut before = String::new();
    while connection.events < 1 || connection.last_id == before {
        assert!(Instant::now() < deadline, "no history");
        if connection.events < 1 {
            before.clone_from(&connection.last_id);
        }
        connection.read(&mut buffer, |_| {});
    }
    connection.last_id
}

fn first_request(transport: Transport) -> Vec<u8> {
    match transport {
        Transport::Sse => b"GET /events?channel=a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n".to_vec(),
        Transport::LongPoll => {
            b"GET /events?channel=a&wait=55 HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n".to_vec()
        }
    }
}

fn poll_request(after: &str) -> Vec<u8> {
    format!("GET /events?channel=a&wait=55&after={after} HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
        .into_bytes()
}

fn publish_request(number: u64) -> Vec<u8> {
    let body = payload(number);
    let length = body.len();
    format!(
        "POST /publish?channel=a HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
