//! One client connection, which checks the numbers of the events that it receives.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
};

use mio::net::TcpStream;

use super::{
    order::Order,
    parser::{Parser, Seen},
    request,
};

pub(crate) struct Connection {
    pub(super) stream: TcpStream,
    parser: Parser,
    pub(super) order: Order,
    /// Events received.
    pub(super) events: u64,
    /// Answers whose head has arrived.
    pub(super) heads: u64,
    /// Answers that are complete.
    pub(super) answers: u64,
    /// The position to continue from.
    pub(super) id: String,
    etag: String,
    modified: String,
}

impl Connection {
    pub(super) fn open(addr: SocketAddr) -> Self {
        let stream = std::net::TcpStream::connect(addr).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_nonblocking(true).expect("non-blocking");
        Self {
            stream: TcpStream::from_std(stream),
            parser: Parser::default(),
            order: Order::default(),
            events: 0,
            heads: 0,
            answers: 0,
            id: String::new(),
            etag: String::new(),
            modified: String::new(),
        }
    }

    /// Busy-waits if the socket's buffer is full, because requests are small.
    pub(super) fn send(&mut self, request: &str) {
        let mut rest = request.as_bytes();
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => panic!("the server is gone: {error}"),
            }
        }
    }

    /// Polls from where the last answer ended.
    pub(super) fn poll_again(&mut self, channel: usize) {
        let request = match self.etag.as_str() {
            "" => request::poll_after(channel, &self.id),
            etag => request::poll_since(channel, &self.modified, etag),
        };
        self.send(&request);
    }

    /// Reads everything available; calls `on_event` with each event's number.
    pub(super) fn read(&mut self, buffer: &mut [u8], mut on_event: impl FnMut(u64)) {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => panic!("the server ended a connection after {} events", self.events),
                Ok(count) => {
                    self.take(&buffer[..count], &mut on_event);
                    if count < buffer.len() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("the connection broke: {error}"),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], on_event: &mut impl FnMut(u64)) {
        let Self { parser, order, events, heads, answers, id, etag, modified, .. } = self;
        parser.push(bytes, &mut |seen| match seen {
            Seen::Event(number) => {
                if let Err(wrong) = order.take(number) {
                    panic!("lost, repeated or out of order: {wrong:?}");
                }
                *events += 1;
                on_event(number);
            }
            Seen::Id(new) => new.clone_into(id),
            Seen::Etag(new) => new.clone_into(etag),
            Seen::Modified(new) => new.clone_into(modified),
            Seen::Head => *heads += 1,
            Seen::End => *answers += 1,
        });
    }
}
