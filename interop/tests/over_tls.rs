//! The `tls` example with curl: streams, polls and publishes over TLS, with HTTP/2 and HTTP/1.1.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper's panic is a failed test")]

#[path = "../../tests/support/program.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod program;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use self::program::{Directory, binary};

/// The running example.
struct Tls {
    child: Child,
    port: String,
    directory: Directory,
}

impl Tls {
    fn start(name: &str) -> Self {
        let directory = Directory::new(name);
        let mut command = Command::new(binary("tls"));
        let mut child =
            command.arg("127.0.0.1:0").arg(directory.0.join("ca.pem")).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(':').unwrap().1.to_owned();
        Self { child, port, directory }
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sSN", "--max-time", "20", "--cacert"]).arg(self.directory.0.join("ca.pem")).args(arguments);
        curl.arg(format!("https://localhost:{}{path}", self.port));
        curl
    }

    /// What curl prints, and the version and the status of the response.
    fn request(&self, path: &str, arguments: &[&str]) -> String {
        let format = [&["-w", "\n%{http_version} %{http_code}"], arguments].concat();
        let Output { status, stdout, stderr } = self.curl(path, &format).output().unwrap();
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Reads from a stream until it has received `wanted`.
fn until(stream: &mut ChildStdout, wanted: &str) {
    let (mut seen, mut part) = (Vec::new(), [0; 1024]);
    while !String::from_utf8_lossy(&seen).contains(wanted) {
        let length = stream.read(&mut part).unwrap();
        assert!(length > 0, "the stream ended after {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&part[..length]);
    }
}

#[test]
fn events_are_published_and_read_over_tls() {
    let tls = Tls::start("tls");
    // A client that never begins the handshake delays nobody.
    let silent = TcpStream::connect(format!("127.0.0.1:{}", tls.port)).unwrap();
    for (version, shown) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let accept = [version, "-H", "Accept: text/event-stream"];
        let mut reader = tls.curl("/events?channel=a", &accept).stdout(Stdio::piped()).spawn().unwrap();
        let mut stream = reader.stdout.take().unwrap();
        until(&mut stream, "stream-live");

        let text = format!("sent over {shown}");
        let body = ["-d", &text, "-H", "Content-Type: text/plain", version];
        let own = format!("Origin: https://localhost:{}", tls.port);
        let answer = tls.request("/publish?channel=a", &[&body[..], &["-H", &own]].concat());
        assert!(answer.ends_with(&format!("\n{shown} 200")), "{answer}");
        let foreign = ["-H", "Origin: https://evil.example"];
        let answer = tls.request("/publish?channel=a", &[&body[..], &foreign].concat());
        assert!(answer.ends_with(&format!("\n{shown} 403")), "{answer}");

        until(&mut stream, &format!("data: {text}\n"));
        let polled = tls.request("/events?channel=a&last=1", &[version]);
        assert!(polled.contains(&text) && polled.ends_with(&format!("\n{shown} 200")), "{polled}");
        reader.kill().unwrap();
        reader.wait().unwrap();
    }
    drop(silent);
}

#[test]
fn a_client_that_does_not_know_the_certificate_refuses_it() {
    let tls = Tls::start("unknown-tls");
    let url = format!("https://localhost:{}/events?channel=a&wait=0", tls.port);
    let status = Command::new("curl").args(["-s", "--max-time", "20", &url]).status().unwrap();
    assert_eq!(status.code(), Some(60));
}
