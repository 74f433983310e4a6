//! Runs the examples as programs: started on a free port, used over sockets, stopped by signals. `cargo test` builds them.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// A running example; killed when it is dropped.
pub(crate) struct Example {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Example {
    /// Starts it, and waits until it has printed its address.
    pub(crate) fn start(name: &'static str, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary(name));
        command.args(arguments);
        Self::run(name, command)
    }

    /// The same, with its standard error going to `log`.
    pub(crate) fn start_logging(name: &'static str, arguments: &[&str], log: Stdio) -> Self {
        let mut command = Command::new(binary(name));
        command.args(arguments).stderr(log);
        Self::run(name, command)
    }

    /// The same, by a command of the caller's.
    pub(crate) fn run(name: &'static str, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.split_once("http://").and_then(|(_, rest)| rest.split([' ', '/', '\n']).next()?.parse().ok());
        let Some(address) = address else {
            _ = child.kill();
            panic!("{name} did not print its address, but {line:?}");
        };
        Self { name, child, address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.get_as(("Accept", "application/json"), target)
    }

    pub(crate) fn get_as(&self, header: (&str, &str), target: &str) -> Answer {
        self.send(&format!("GET {target} HTTP/1.0\r\n{}: {}\r\n\r\n", header.0, header.1))
    }

    pub(crate) fn post(&self, target: &str, kind: &str, body: &str) -> Answer {
        let length = body.len();
        self.send(&format!("POST {target} HTTP/1.0\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"))
    }

    pub(crate) fn send(&self, request: &str) -> Answer {
        let answer = Stream::open(self.address, request).rest();
        let (head, body) =
            answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{}: no head: {answer:?}", self.name));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// Opens a response that is read while it arrives. HTTP/1.0, so that the body has no framing.
    pub(crate) fn stream(&self, target: &str, accept: &str) -> Stream {
        Stream::open(self.address, &format!("GET {target} HTTP/1.0\r\nAccept: {accept}\r\n\r\n"))
    }

    /// Opens a stream that resumes after `cursor`, as `EventSource` does.
    pub(crate) fn stream_from(&self, cursor: &str, target: &str) -> Stream {
        let accept = "Accept: text/event-stream";
        Stream::open(self.address, &format!("GET {target} HTTP/1.0\r\n{accept}\r\nLast-Event-ID: {cursor}\r\n\r\n"))
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the event server has `wanted` open streams and waiting polls.
    pub(crate) fn until_it_has_readers(&self, wanted: u64) {
        let start = Instant::now();
        while self.get("/healthz").json()["readers"] != wanted {
            assert!(start.elapsed() < PATIENCE, "the server never has {wanted} readers");
        }
    }

    /// The contents of the chat's messages.
    pub(crate) fn contents(&self) -> Vec<String> {
        let events = self.get("/events?after=earliest&wait=0").json();
        let content = |event: &Value| event["data"]["content"].as_str().unwrap().to_owned();
        events.as_array().unwrap().iter().map(content).collect()
    }

    /// Stops it as a user or a service manager does: it must exit by itself, with success.
    pub(crate) fn stop(mut self, signal: &str) {
        self.signal(signal);
        let status = self.exit();
        assert!(status.success(), "{} ended with {status} after SIG{signal}", self.name);
    }

    pub(crate) fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    pub(crate) fn exit(&mut self) -> ExitStatus {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(5)); // the standard library has no timeout for waiting for a child
        }
        panic!("{} did not stop within {PATIENCE:?}", self.name);
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A response, read as it arrives.
pub(crate) struct Stream(TcpStream);

impl Stream {
    pub(crate) fn open(address: SocketAddr, request: &str) -> Self {
        let mut io = TcpStream::connect(address).unwrap();
        io.set_read_timeout(Some(PATIENCE)).unwrap();
        io.write_all(request.as_bytes()).unwrap();
        Self(io)
    }

    /// Reads until `wanted` has arrived, and returns everything read.
    pub(crate) fn until(&mut self, wanted: &str) -> String {
        let mut seen = Vec::new();
        let mut part = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            if text.contains(wanted) {
                return text;
            }
            match self.0.read(&mut part) {
                Ok(0) => panic!("the stream ended before {wanted:?}: {text}"),
                Ok(length) => seen.extend_from_slice(&part[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error} before {wanted:?}: {text}"),
            }
        }
    }

    /// Some of what arrives within `time`, if anything does.
    pub(crate) fn within(&mut self, time: Duration) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(time)).unwrap();
        let mut part = [0; 4096];
        let read = self.0.read(&mut part);
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        read.ok().map(|length| part[..length].to_vec())
    }

    /// Reads until the end.
    pub(crate) fn rest(&mut self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    /// The same, if it is no text.
    pub(crate) fn bytes(&mut self) -> Vec<u8> {
        let mut seen = Vec::new();
        self.0.read_to_end(&mut seen).unwrap();
        seen
    }
}

/// A directory for one test; removed when dropped.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

/// The path of an example's binary: cargo puts examples next to the directory of the test binaries.
pub(crate) fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} does not exist: build it with `cargo test` or `cargo build --examples`", path.display());
    path
}

pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
