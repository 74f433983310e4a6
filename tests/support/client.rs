//! Requests to a [`Server`] over HTTP/1.1 (our own client) or HTTP/2 (hyper's), each on its own connection.

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

/// A failure of the connection itself.
#[derive(Debug)]
pub struct ConnectionError(pub String);

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Builds a request.
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

    /// Sets the version. Default HTTP/1.1.
    pub fn over(self, http: Http) -> Self {
        Self { http, ..self }
    }

    /// Appends a header; the value may be any bytes that HTTP allows.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name: HeaderName = name.parse().expect("a header name");
        self.headers.append(name, HeaderValue::from_bytes(value.as_ref()).expect("a header value"));
        self
    }

    /// Resumes as `EventSource` does.
    pub fn last_event_id(self, id: impl AsRef<[u8]>) -> Self {
        self.header("last-event-id", id)
    }

    /// Sets the body.
    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Sends the request and reads the whole answer.
    pub async fn send(self) -> Answer {
        let what = format!("{} {} over {:?}", self.method, self.path_and_query, self.http);
        let mut opened = self.open().await;
        let mut body = Vec::new();
        while let Some(chunk) = opened.body.chunk().await.unwrap_or_else(|error| panic!("{what}: {error}")) {
            body.extend_from_slice(&chunk);
        }
        Answer { status: opened.status, headers: opened.headers, body }
    }

    /// Sends the request and reads only the answer's head.
    pub async fn open(self) -> Opened {
        let patience = self.server.patience();
        let what = format!("{} {} over {:?}", self.method, self.path_and_query, self.http);
        let opened = async {
            match self.http {
                Http::One => self.open_http1().await,
                Http::Two => self.open_http2().await,
            }
        };
        in_time(patience, &what, opened).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Opens an event stream; panics if the answer is anything else.
    pub async fn sse(self) -> Sse {
        let has_accept = self.headers.contains_key("accept");
        let request = if has_accept { self } else { self.header("accept", "text/event-stream") };
        let what = request.path_and_query.clone();
        let opened = request.open().await;
        let content_type = opened.headers.get("content-type").map(HeaderValue::as_bytes);
        if opened.status != 200 || content_type != Some(b"text/event-stream; charset=utf-8") {
            let (status, headers) = (opened.status, opened.headers.clone());
            let body = opened.rest().await;
            panic!("{what}: not an event stream: {status} {headers:?} {}", String::from_utf8_lossy(&body));
        }
        Sse::new(opened)
    }

    async fn open_http1(self) -> Result<Opened, ConnectionError> {
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

    async fn open_http2(self) -> Result<Opened, ConnectionError> {
        let failed = |error: hyper::Error| ConnectionError(format!("{error:?}"));
        let io = TokioIo::new(self.server.connect().await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.map_err(failed)?;
        tokio::spawn(connection);
        let uri = format!("http://test{}", self.path_and_query);
        let mut request = http::Request::builder().method(self.method).uri(uri);
        *request.headers_mut().expect("a valid request") = self.headers;
        let request = request.body(Full::new(Bytes::from(self.body))).expect("a valid request");
        let (head, body) = sender.send_request(request).await.map_err(failed)?.into_parts();
        let body = BodyStream { patience: self.server.patience(), wire: Wire::Two(body) };
        Ok(Opened { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// An answer whose body has not been read yet. Dropping it cuts the connection.
pub struct Opened {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: BodyStream,
}

impl Opened {
    /// The rest of the body.
    pub async fn rest(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = self.body.chunk().await {
            body.extend_from_slice(&chunk);
        }
        body
    }
}

/// A body, read as it arrives.
pub struct BodyStream {
    patience: Duration,
    wire: Wire,
}

enum Wire {
    One(Http1),
    Two(Incoming),
}

impl BodyStream {
    /// The next bytes; `None` when the body has ended properly.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        in_time(self.patience, "the body", self.wire.chunk()).await
    }
}

impl Wire {
    async fn chunk(&mut self) -> Result<Option<Bytes>, ConnectionError> {
        match self {
            Self::One(http1) => http1.chunk().await.map(|chunk| chunk.map(Bytes::from)),
            Self::Two(body) => loop {
                match body.frame().await {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => return Ok(Some(data)),
                        Err(_trailers) => {}
                    },
                    Some(Err(error)) => return Err(ConnectionError(format!("{error:?}"))),
                    None => return Ok(None),
                }
            },
        }
    }
}

async fn in_time<T>(patience: Duration, what: &str, future: impl Future<Output = T>) -> T {
    within(patience, future).await.unwrap_or_else(|| panic!("{what}: nothing arrived for {patience:?}"))
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header that occurs once; panics if it does not.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.try_header(name).unwrap_or_else(|| panic!("no {name} in {self}"))
    }

    /// The value of a header that occurs at most once.
    #[track_caller]
    pub fn try_header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} occurs more than once in {self}");
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
        let Value::Array(events) = self.json() else { panic!("not an array: {self}") };
        events.into_iter().map(|mut event| event["data"].take()).collect()
    }

    /// The cursor to continue from.
    #[track_caller]
    pub fn cursor(&self) -> String {
        self.header("last-event-id").to_owned()
    }

    /// Panics unless this is an uncacheable problem (RFC 9457) with this status; returns its `detail`.
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
