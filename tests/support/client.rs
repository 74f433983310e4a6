//! Requests to a [`Server`] over HTTP/1.1 (by hand) or HTTP/2 (hyper's connection), each on a connection of its own.

use std::{fmt, future::Future, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;

use super::{http1::Http1, server::Server, sse::Sse, within};

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    One,
    Two,
}

/// Both, for `for http in BOTH`.
pub const BOTH: [Http; 2] = [Http::One, Http::Two];

/// What went wrong on the connection itself.
#[derive(Debug)]
pub struct Fault(pub String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request that is being put together.
#[must_use]
pub struct Request<'a> {
    server: &'a Server,
    http: Http,
    method: Method,
    path_and_query: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl<'a> Request<'a> {
    pub(super) fn new(server: &'a Server, method: Method, path_and_query: &str) -> Self {
        let path_and_query = path_and_query.to_owned();
        Self { server, http: Http::One, method, path_and_query, headers: HeaderMap::new(), body: Vec::new() }
    }

    /// The version; HTTP/1.1 when it is not said.
    pub fn over(self, http: Http) -> Self {
        Self { http, ..self }
    }

    /// One more header; the value may be any bytes that HTTP allows.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header value"));
        self
    }

    /// Resumes as EventSource does.
    pub fn last_event_id(self, id: impl AsRef<[u8]>) -> Self {
        self.header("last-event-id", id)
    }

    /// The body.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sends, and reads the whole answer.
    pub async fn send(self) -> Answer {
        let what = format!("{} {} over {:?}", self.method, self.path_and_query, self.http);
        let mut opened = self.open().await;
        let mut body = Vec::new();
        while let Some(chunk) = opened.body.chunk().await.unwrap_or_else(|fault| panic!("{what}: {fault}")) {
            body.extend_from_slice(&chunk);
        }
        Answer { status: opened.status, headers: opened.headers, body }
    }

    /// Sends, reads the head, and leaves the body to come.
    pub async fn open(self) -> Opened {
        let patience = self.server.patience();
        let what = format!("{} {} over {:?}", self.method, self.path_and_query, self.http);
        let opened = async {
            match self.http {
                Http::One => self.open_http1().await,
                Http::Two => self.open_http2().await,
            }
        };
        in_time(patience, &what, opened).await.unwrap_or_else(|fault| panic!("{what}: {fault}"))
    }

    /// Opens an event stream; anything but one is a failed test.
    pub async fn sse(self) -> Sse {
        let asks = self.headers.contains_key("accept");
        let request = if asks { self } else { self.header("accept", "text/event-stream") };
        let what = request.path_and_query.clone();
        let opened = request.open().await;
        let content_type = opened.headers.get("content-type").map(HeaderValue::as_bytes);
        if opened.status != 200 || content_type != Some(b"text/event-stream; charset=utf-8") {
            let (status, headers) = (opened.status, opened.headers.clone());
            let body = opened.rest().await;
            panic!("{what}: no event stream: {status} {headers:?} {}", String::from_utf8_lossy(&body));
        }
        Sse::new(opened)
    }

    async fn open_http1(self) -> Result<Opened, Fault> {
        let mut http1 = Http1::new(self.server.connect().await);
        let mut bytes = format!("{} {} HTTP/1.1\r\nhost: test\r\n", self.method, self.path_and_query).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        if !self.body.is_empty() || self.method == Method::POST {
            bytes.extend(format!("content-length: {}\r\n", self.body.len()).into_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        http1.send(bytes).await;
        let (status, headers) = http1.head(self.method.as_str()).await?;
        let body = BodyStream { patience: self.server.patience(), wire: Wire::One(http1) };
        Ok(Opened { status, headers, body })
    }

    async fn open_http2(self) -> Result<Opened, Fault> {
        let fault = |error: hyper::Error| Fault(format!("{error:?}"));
        let io = TokioIo::new(self.server.connect().await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(fault)?;
        tokio::spawn(connection);
        let uri = format!("http://test{}", self.path_and_query);
        let mut request = http::Request::builder().method(self.method).uri(uri);
        *request.headers_mut().expect("a valid request") = self.headers;
        let request = request.body(Full::new(Bytes::from(self.body))).expect("a valid request");
        let (head, body) = sender.send_request(request).await.map_err(fault)?.into_parts();
        let body = BodyStream { patience: self.server.patience(), wire: Wire::Two(body) };
        Ok(Opened { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// An answer whose body is still to come. Dropping it cuts the connection.
pub struct Opened {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: BodyStream,
}

impl Opened {
    /// All that follows.
    pub async fn rest(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.body.chunk().await {
            body.extend_from_slice(&chunk);
        }
        body
    }
}

/// A body as it comes.
pub struct BodyStream {
    patience: Duration,
    wire: Wire,
}

enum Wire {
    One(Http1),
    Two(Incoming),
}

impl BodyStream {
    /// The next bytes; `None` when the body has ended as it should.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        in_time(self.patience, "the body", self.wire.chunk()).await
    }
}

impl Wire {
    async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::One(http1) => http1.chunk().await.map(|chunk| chunk.map(Bytes::from)),
            Self::Two(body) => loop {
                match body.frame().await {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => return Ok(Some(data)),
                        Err(_trailers) => {}
                    },
                    Some(Err(error)) => return Err(Fault(format!("{error:?}"))),
                    None => return Ok(None),
                }
            },
        }
    }
}

async fn in_time<T>(patience: Duration, what: &str, future: impl Future<Output = T>) -> T {
    within(patience, future).await.unwrap_or_else(|| panic!("{what}: nothing came for {patience:?}"))
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header that comes once; panics when it does not.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.try_header(name).unwrap_or_else(|| panic!("no {name} in {self}"))
    }

    /// The value of a header that comes at most once.
    #[track_caller]
    pub fn try_header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} comes more than once in {self}");
        Some(value.to_str().expect("an ASCII header"))
    }

    /// Panics with the whole answer unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self}");
        self
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }

    /// The data of a long poll's events, in order.
    #[track_caller]
    pub fn data(&self) -> Vec<Value> {
        let Value::Array(events) = self.json() else { panic!("no array: {self}") };
        events.into_iter().map(|mut event| event["data"].take()).collect()
    }

    /// The cursor to go on from.
    #[track_caller]
    pub fn cursor(&self) -> String {
        self.header("last-event-id").to_owned()
    }

    /// Panics unless this is a problem (RFC 9457) with this status that nobody may store; returns its text.
    #[track_caller]
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self}");
        assert_eq!(self.header("cache-control"), "no-store", "{self}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{self}");
        assert!(problem["title"].is_string(), "{self}");
        problem["detail"].as_str().unwrap_or_else(|| panic!("no detail in {self}")).to_owned()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, String::from_utf8_lossy(&self.body))
    }
}
