//! The physical floor: one thread, one epoll, ready-made frames, a `write` per socket. No library could send with less.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use crate::peer::announce;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writes {
    /// One write per event and socket.
    EachEvent,
    /// Everything that is pending at once.
    AllPending,
}

const LISTENER: Token = Token(usize::MAX - 1);

pub(crate) fn serve(writes: Writes) {
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    announce(listener.local_addr().expect("an address"));
    let mut poll = Poll::new().expect("epoll");
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
    let mut server = Server {
        connections: HashMap::new(),
        subscribers: Vec::new(),
        parked: Vec::new(),
        log: Log::default(),
        writes,
    };
    let mut events = Events::with_capacity(4096);
    let mut token = 0;
    loop {
        poll.poll(&mut events, None).expect("epoll");
        for event in &events {
            if event.token() != LISTENER {
                server.read(event.token());
                continue;
            }
            while let Ok((mut stream, _)) = listener.accept() {
                stream.set_nodelay(true).expect("TCP_NODELAY");
                poll.registry().register(&mut stream, Token(token), Interest::READABLE).expect("registered");
                server.connections.insert(Token(token), Peer { stream, input: Vec::new(), position: 0 });
                token += 1;
            }
        }
        server.flush();
    }
}

/// All events, as they are sent.
#[derive(Default)]
struct Log {
    /// Chunks of a stream, one per event, without a gap.
    stream: Vec<u8>,
    /// Where event `n` begins in `stream`.
    begins: Vec<usize>,
    /// Objects of a long poll.
    objects: Vec<String>,
}

impl Log {
    fn push(&mut self, text: &str) {
        let id = self.begins.len();
        self.begins.push(self.stream.len());
        let frame = format!("data: {text}\nid: {id}\n\n");
        self.stream.extend(format!("{:x}\r\n{frame}\r\n", frame.len()).bytes());
        self.objects.push(format!("{{\"id\":\"{id}\",\"channel\":\"a\",\"time\":1732094400123,\"data\":\"{text}\"}}"));
    }

    fn after(&self, position: usize) -> &[u8] {
        self.begins.get(position).map_or(&[], |begin| &self.stream[*begin..])
    }

    fn answer(&self, position: usize) -> Vec<u8> {
        let body = format!("[{}]", self.objects[position..].join(","));
        let last = self.objects.len() - 1;
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLast-Event-ID: {last}\r\nContent-Length: {length}\r\n\r\n{body}")
            .into_bytes()
    }
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    /// The next event that it gets.
    position: usize,
}

struct Server {
    connections: HashMap<Token, Peer>,
    subscribers: Vec<Token>,
    parked: Vec<Token>,
    log: Log,
    writes: Writes,
}

impl Server {
    fn read(&mut self, token: Token) {
        let Some(peer) = self.connections.get_mut(&token) else { return };
        let mut buffer = [0; 16 << 10];
        loop {
            match peer.stream.read(&mut buffer) {
                Ok(0) => return self.close(token),
                Ok(count) => peer.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.close(token),
            }
        }
        let input = std::mem::take(&mut peer.input);
        let mut rest = input.as_slice();
        while let Some((head, body)) = split_head(rest) {
            let length = field(head, "Content-Length: ").and_then(|length| length.parse().ok()).unwrap_or(0);
            if body.len() < length {
                break;
            }
            let (body, after) = body.split_at(length);
            self.request(token, head, body);
            rest = after;
        }
        let rest = rest.to_vec();
        if let Some(peer) = self.connections.get_mut(&token) {
            peer.input = rest;
        }
    }

    fn request(&mut self, token: Token, head: &str, body: &[u8]) {
        if head.starts_with("POST") {
            self.log.push(std::str::from_utf8(body).expect("text"));
            self.write(token, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            if self.writes == Writes::EachEvent {
                self.flush();
            }
            return;
        }
        let last =
            field(head, "Last-Event-ID: ").or_else(|| field(head, "after=")).and_then(|id| id.parse::<usize>().ok());
        let start = match last {
            Some(id) => id + 1,
            None if head.contains("after=earliest") => 0,
            None => self.log.begins.len(),
        };
        let Some(peer) = self.connections.get_mut(&token) else { return };
        peer.position = start;
        if head.contains("text/event-stream") {
            let mut out =
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            out.extend_from_slice(self.log.after(start));
            peer.position = self.log.begins.len();
            self.write(token, &out);
            self.subscribers.push(token);
        } else {
            self.parked.push(token);
        }
    }

    /// Sends to everybody what they have not got.
    fn flush(&mut self) {
        let head = self.log.begins.len();
        let mut gone = Vec::new();
        for token in &self.subscribers {
            let Some(peer) = self.connections.get_mut(token) else { continue };
            if peer.position < head && write(&mut peer.stream, self.log.after(peer.position)).is_err() {
                gone.push(*token);
            }
            peer.position = head;
        }
        gone.into_iter().for_each(|token| self.close(token));
        let (due, parked) = std::mem::take(&mut self.parked)
            .into_iter()
            .partition(|token| self.connections.get(token).is_some_and(|peer| peer.position < head));
        self.parked = parked;
        let due: Vec<Token> = due;
        // All who wait at one position get the same bytes.
        let mut ready: Option<(usize, Vec<u8>)> = None;
        for token in due {
            let Some(peer) = self.connections.get_mut(&token) else { continue };
            if ready.as_ref().is_none_or(|(position, _)| *position != peer.position) {
                ready = Some((peer.position, self.log.answer(peer.position)));
            }
            if let Some((_, answer)) = &ready {
                _ = write(&mut peer.stream, answer);
            }
        }
    }

    fn write(&mut self, token: Token, bytes: &[u8]) {
        let Some(peer) = self.connections.get_mut(&token) else { return };
        if write(&mut peer.stream, bytes).is_err() {
            self.close(token);
        }
    }

    fn close(&mut self, token: Token) {
        self.connections.remove(&token);
        self.subscribers.retain(|other| *other != token);
        self.parked.retain(|other| *other != token);
    }
}

/// A client that does not keep up would need a buffer; here it is waited for.
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
    let end = input.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&input[..end]).ok()?, &input[end + 4..]))
}

/// What follows `name`, up to a space or line end.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let at = head.find(name)? + name.len();
    head[at..].split(['\r', ' ', '&']).next()
}
