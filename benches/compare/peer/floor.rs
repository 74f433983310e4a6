//! The lower bound: one thread, one epoll loop, prebuilt bytes, one `write` per socket. No library can send for less.

mod log;

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::TcpListener,
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use self::log::Log;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// One write per event and socket.
    EachEvent,
    /// One write for all events that arrived in one iteration of the loop.
    Joined,
}

const LISTENER: Token = Token(usize::MAX - 1);

pub(crate) fn serve(listener: TcpListener, writes: Writes) {
    listener.set_nonblocking(true).expect("non-blocking");
    let mut listener = mio::net::TcpListener::from_std(listener);
    let mut poll = Poll::new().expect("epoll");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
    let mut server = Server { clients: Vec::new(), topics: Vec::new(), names: HashMap::new(), fed: Vec::new(), writes };
    let mut events = Events::with_capacity(4096);
    loop {
        poll.poll(&mut events, None).expect("epoll");
        for event in &events {
            if event.token() != LISTENER {
                server.read(event.token().0);
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true).expect("TCP_NODELAY");
                let token = Token(server.clients.len());
                poll.registry().register(&mut stream, token, Interest::READABLE).expect("registered");
                server.clients.push(Some(Client { stream, input: Vec::new(), position: 0 }));
            }
        }
        server.flush();
    }
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    /// The next event to send to it.
    position: usize,
}

/// A channel: its events, and its readers as indices into `Server::clients`.
#[derive(Default)]
struct Topic {
    log: Log,
    streams: Vec<usize>,
    parked: Vec<usize>,
}

struct Server {
    clients: Vec<Option<Client>>,
    topics: Vec<Topic>,
    /// Indices into `topics`.
    names: HashMap<String, usize>,
    /// Topics with events that have not been sent.
    fed: Vec<usize>,
    writes: Writes,
}

impl Server {
    fn read(&mut self, at: usize) {
        let Some(client) = &mut self.clients[at] else { return };
        let mut buffer = [0; 16 << 10];
        loop {
            match client.stream.read(&mut buffer) {
                Ok(0) => return self.clients[at] = None,
                Ok(count) => client.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.clients[at] = None,
            }
        }
        let input = std::mem::take(&mut client.input);
        let mut rest = input.as_slice();
        while let Some((head, body)) = split_head(rest) {
            let length = field(head, "Content-Length: ").and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() < length {
                break;
            }
            let (body, after) = body.split_at(length);
            self.request(at, head, body);
            rest = after;
        }
        if let Some(client) = &mut self.clients[at] {
            client.input.extend_from_slice(rest);
        }
    }

    fn request(&mut self, at: usize, head: &str, body: &[u8]) {
        let topic = self.topic(field(head, "channel=").expect("a channel"));
        if head.starts_with("POST") {
            self.topics[topic].log.push(std::str::from_utf8(body).expect("text"));
            self.fed.push(topic);
            self.write(at, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            if self.writes == Writes::EachEvent {
                self.flush();
            }
            return;
        }
        let log = &self.topics[topic].log;
        let id = field(head, "Last-Event-ID: ").or_else(|| field(head, "after=")).and_then(|id| id.parse().ok());
        let position = match id {
            Some(id) => usize::saturating_add(id, 1),
            None if head.contains("after=earliest") => 0,
            None => log.len(),
        };
        if head.contains("text/event-stream") {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            let out = [head, log.after(position)].concat();
            self.place(at, log.len());
            self.write(at, &out);
            self.topics[topic].streams.push(at);
        } else {
            self.place(at, position);
            self.topics[topic].parked.push(at);
            self.fed.push(topic);
        }
    }

    fn topic(&mut self, name: &str) -> usize {
        if let Some(at) = self.names.get(name) {
            return *at;
        }
        self.names.insert(name.to_owned(), self.topics.len());
        self.topics.push(Topic::default());
        self.topics.len() - 1
    }

    fn place(&mut self, at: usize, position: usize) {
        if let Some(client) = &mut self.clients[at] {
            client.position = position;
        }
    }

    /// Sends to all readers what they do not have yet.
    fn flush(&mut self) {
        for topic in std::mem::take(&mut self.fed) {
            let Topic { log, streams, parked } = &mut self.topics[topic];
            let clients = &mut self.clients;
            streams.retain(|at| {
                let Some(client) = &mut clients[*at] else { return false };
                let bytes = log.after(client.position);
                client.position = log.len();
                let sent = bytes.is_empty() || write(&mut client.stream, bytes).is_ok();
                if !sent {
                    clients[*at] = None;
                }
                sent
            });
            // All polls that wait at one position get the same bytes.
            let mut ready: Option<(usize, Vec<u8>)> = None;
            parked.retain(|at| {
                let Some(client) = &mut clients[*at] else { return false };
                if client.position >= log.len() {
                    return true;
                }
                if ready.as_ref().is_none_or(|(position, _)| *position != client.position) {
                    ready = Some((client.position, log.answer(client.position)));
                }
                ready.as_ref().is_some_and(|(_, answer)| write(&mut client.stream, answer).is_err())
            });
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.clients[at].as_mut().is_some_and(|client| write(&mut client.stream, bytes).is_err()) {
            self.clients[at] = None;
        }
    }
}

/// Busy-waits for a client that does not keep up, instead of buffering for it.
fn write(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn split_head(input: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memmem::find(input, b"\r\n\r\n")?;
    Some((std::str::from_utf8(&input[..end]).ok()?, &input[end + 4..]))
}

/// What follows `name`, up to a space, `&` or line end.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let at = head.find(name)? + name.len();
    head[at..].split(['\r', ' ', '&']).next()
}
