//! A hand-written HTTP/1.1 client: sends any bytes, reads heads and bodies as they arrive, and can be cut off after any byte by
//! dropping it.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    client::{Answer, ConnectionError},
    server::Connection,
};

/// One connection.
pub struct Http1 {
    io: Connection,
    /// Read from the socket, but not parsed yet.
    read: Vec<u8>,
    framing: Framing,
}

/// What is left of the current body.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Ended,
    Exactly(usize),
    /// Inside a chunk with this many bytes left.
    Chunk(usize),
    BetweenChunks,
    /// Before the line that ends a chunk.
    ChunkEnd,
    UntilClose,
}

impl Http1 {
    pub(super) fn new(io: Connection) -> Self {
        Self { io, read: Vec::new(), framing: Framing::Ended }
    }

    /// Connects to a server that may be away.
    pub async fn connect(addr: SocketAddr) -> Result<Self, ConnectionError> {
        let io = TcpStream::connect(addr).await.map_err(|error| ConnectionError(format!("cannot connect: {error}")))?;
        _ = io.set_nodelay(true);
        Ok(Self::new(Box::new(io)))
    }

    /// Sends these bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A server may answer and close before it has read everything; its answer says more than this error would.
        _ = self.io.write_all(bytes.as_ref()).await;
        _ = self.io.flush().await;
    }

    /// Reads the head of the answer to a request with this method; skips `1xx` heads.
    pub async fn head(&mut self, method: &str) -> Result<(u16, HeaderMap), ConnectionError> {
        loop {
            let end = loop {
                match self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                    Some(at) => break at,
                    None if self.fill().await? => {}
                    None => return Err(ConnectionError("closed before the head was complete".into())),
                }
            };
            let head: Vec<u8> = self.read.drain(..end + 4).collect();
            let (status, headers) = parse_head(&head[..end])?;
            if status >= 200 {
                self.framing = framing(status, &headers, method)?;
                return Ok((status, headers));
            }
        }
    }

    /// The next bytes of the body; `None` when it has ended properly.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ConnectionError> {
        loop {
            let closed = match self.framing {
                Framing::Ended | Framing::BetweenChunks | Framing::ChunkEnd => false,
                _ => self.read.is_empty() && !self.fill().await?,
            };
            match self.framing {
                Framing::Ended => return Ok(None),
                Framing::UntilClose if closed => self.framing = Framing::Ended,
                _ if closed => return Err(ConnectionError("closed inside the body".into())),
                Framing::UntilClose => return Ok(Some(std::mem::take(&mut self.read))),
                Framing::BetweenChunks => self.chunk_header().await?,
                Framing::ChunkEnd => {
                    self.line().await?;
                    self.framing = Framing::BetweenChunks;
                }
                Framing::Exactly(left) => {
                    let taken = self.take(left);
                    let left = left - taken.len();
                    self.framing = if left == 0 { Framing::Ended } else { Framing::Exactly(left) };
                    return Ok(Some(taken));
                }
                Framing::Chunk(left) => {
                    let taken = self.take(left);
                    let left = left - taken.len();
                    // Its end is read by the next call: what was taken would be lost if this one were dropped.
                    self.framing = if left == 0 { Framing::ChunkEnd } else { Framing::Chunk(left) };
                    return Ok(Some(taken));
                }
            }
        }
    }

    /// Reads the whole answer to a request with this method.
    pub async fn answer_to(&mut self, method: &str) -> Result<Answer, ConnectionError> {
        let (status, headers) = self.head(method).await?;
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend(chunk);
        }
        Ok(Answer { status, headers, body })
    }

    async fn chunk_header(&mut self) -> Result<(), ConnectionError> {
        let line = self.line().await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).map_err(|_| ConnectionError(format!("not a chunk size: {line:?}")))?;
        self.framing = Framing::Chunk(size);
        if size == 0 {
            while !self.line().await?.is_empty() {}
            self.framing = Framing::Ended;
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String, ConnectionError> {
        loop {
            if let Some(at) = self.read.windows(2).position(|two| two == b"\r\n") {
                let line = self.take(at);
                self.take(2);
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if !self.fill().await? {
                return Err(ConnectionError("closed inside a line".into()));
            }
        }
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let most = most.min(self.read.len());
        self.read.drain(..most).collect()
    }

    async fn fill(&mut self) -> Result<bool, ConnectionError> {
        self.read.reserve(16 << 10); // or a large body would be read in many small parts
        let read = self.io.read_buf(&mut self.read).await;
        read.map(|count| count > 0).map_err(|error| ConnectionError(format!("read failed: {error}")))
    }
}

fn parse_head(head: &[u8]) -> Result<(u16, HeaderMap), ConnectionError> {
    let wrong = || ConnectionError(format!("not a head: {:?}", String::from_utf8_lossy(head)));
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let status = lines.next().and_then(|line| line.strip_prefix(b"HTTP/1.1 ")).ok_or_else(wrong)?;
    let status = std::str::from_utf8(&status[..3]).ok().and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| wrong())?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|_| wrong())?;
        headers.append(name, value);
    }
    Ok((status, headers))
}

/// RFC 9112, section 6.3.
fn framing(status: u16, headers: &HeaderMap, method: &str) -> Result<Framing, ConnectionError> {
    let text = |name| headers.get(name).map(|value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()));
    if method == "HEAD" || matches!(status, 204 | 304) {
        return Ok(Framing::Ended);
    }
    match (text("transfer-encoding"), text("content-length")) {
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::BetweenChunks),
        (Some(_), _) => Err(ConnectionError(format!("wrong framing: {headers:?}"))),
        (None, Some(length)) => match length.parse() {
            Ok(0) => Ok(Framing::Ended),
            Ok(length) => Ok(Framing::Exactly(length)),
            Err(_) => Err(ConnectionError(format!("not a length: {length}"))),
        },
        (None, None) => Ok(Framing::UntilClose),
    }
}
