//! Clients that resume, read what they missed, and disconnect.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};

use super::{EVENT, PATIENCE, Span, connection::Connection, order::Order, request};

/// Publishes the first event of the first channel, and returns its id as a reader sees it.
pub(crate) fn id_of_the_first_event(addr: SocketAddr) -> String {
    let (mut publisher, mut reader) = (Connection::open(addr), Connection::open(addr));
    let mut buffer = vec![0; 4096];
    let start = Instant::now();
    reader.send(&request::follow(0, super::Transport::Sse));
    while reader.heads == 0 {
        reader.read(&mut buffer, |_| {});
        assert!(start.elapsed() < PATIENCE, "no stream");
    }
    let before = reader.id.clone();
    publisher.send(&request::publish(0, 0, EVENT));
    while reader.events == 0 || reader.id == before || publisher.answers == 0 {
        reader.read(&mut buffer, |_| {});
        publisher.read(&mut buffer, |_| {});
        assert!(start.elapsed() < PATIENCE, "no event");
    }
    reader.id
}

/// Repeatedly connects, resumes after `id`, which is event 0's, reads `count` events and disconnects, with `at_once` clients at
/// a time. Returns how many clients were served.
pub(crate) fn resume(addr: SocketAddr, id: &str, count: u64, at_once: usize, span: Span) -> u64 {
    let mut poll = Poll::new().expect("epoll");
    let mut buffer = vec![0; 256 << 10];
    let request = request::resume(id);
    let mut open: HashMap<Token, Connection> = HashMap::new();
    let (mut started, mut done) = (0, 0);
    let mut events = Events::with_capacity(256);
    let start = Instant::now();
    loop {
        let over = start.elapsed() >= span.time && done >= span.events;
        if over && open.is_empty() {
            return done;
        }
        while !over && open.len() < at_once {
            let mut connection = Connection::open(addr);
            connection.order = Order::from(1);
            connection.send(&request);
            let token = Token(started);
            poll.registry().register(&mut connection.stream, token, Interest::READABLE).expect("registered");
            open.insert(token, connection);
            started += 1;
        }
        poll.poll(&mut events, Some(Duration::from_secs(20))).expect("epoll");
        assert!(!events.is_empty(), "a resume hangs");
        for event in &events {
            let Some(connection) = open.get_mut(&event.token()) else { continue };
            connection.read(&mut buffer, |_| {});
            if connection.events >= count {
                assert_eq!(connection.events, count, "more than was published");
                open.remove(&event.token());
                done += 1;
            }
        }
    }
}
