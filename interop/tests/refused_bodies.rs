//! Refused bodies, sent by a popular client and through a popular proxy: the refusal arrives every time.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a helper that panics is a failed test")]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use support::App;

/// How often each body is sent.
const TIMES: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fetch_in_node_gets_every_refusal() {
    let app = App::start().await;
    for (content_type, bytes, status) in
        [("text/plain", 3 << 20, 413), ("image/png", 60_000, 415), ("a/b", 3 << 20, 415)]
    {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/node/refused.mjs");
        let (bytes, times) = (bytes.to_string(), TIMES.to_string());
        let mut node = tokio::process::Command::new("node");
        node.args([script, &app.url("/publish?channel=a"), content_type, &bytes, &times]).stdin(Stdio::null());
        let output = node.kill_on_drop(true).output().await.expect("node");
        let seen: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("a list of refused.mjs");
        assert_eq!(seen, vec![serde_json::Value::from(status); TIMES], "{content_type}, {bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_forwards_every_refusal() {
    let app = App::start().await;
    let Some(nginx) = Nginx::start("refused-bodies", app.addr()) else { return };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (content_type, bytes, status) in
        [("image/png", 60_000, 415), ("image/png", 1 << 20, 415), ("text/plain", 3 << 20, 413)]
    {
        let mut seen = Vec::new();
        for _ in 0..TIMES {
            let request = client.post(nginx.url("/publish?channel=a")).header("content-type", content_type);
            seen.push(request.body(vec![b'x'; bytes]).send().await.map(|answer| answer.status().as_u16()).unwrap());
        }
        assert_eq!(seen, [status; TIMES], "{content_type}, {bytes} bytes\n{}", nginx.errors());
    }
}

/// A running nginx in front of a server, with its defaults except for the maximum body size; killed when dropped.
struct Nginx {
    folder: PathBuf,
    address: SocketAddr,
    child: Child,
}

impl Nginx {
    /// `None` if nginx is not installed; panics in CI.
    fn start(name: &str, upstream: SocketAddr) -> Option<Self> {
        let program = ["nginx", "/usr/sbin/nginx"].into_iter().find(|program| {
            let mut ask = Command::new(program);
            ask.arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
        });
        let Some(program) = program else {
            assert!(std::env::var_os("CI").is_none(), "no nginx: install Debian's package of that name");
            eprintln!("SKIPPED, because nginx is not installed: install Debian's package of that name");
            return None;
        };
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("nginx-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        fs::write(folder.join("nginx.conf"), config(address, upstream)).unwrap();
        let mut nginx = Command::new(program);
        nginx.args(["-e", "error.log", "-c", "nginx.conf", "-p"]).arg(&folder).stdin(Stdio::null());
        let started = Self { child: nginx.spawn().unwrap(), folder, address };
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "nginx does not listen: {}", started.errors());
            std::thread::sleep(Duration::from_millis(5)); // nothing announces when it listens
        }
        Some(started)
    }

    fn url(&self, path_and_query: &str) -> String {
        format!("http://{}{path_and_query}", self.address)
    }

    /// The contents of its error log.
    fn errors(&self) -> String {
        fs::read_to_string(self.folder.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// A configuration with a single process, the child itself, that writes only into its own folder.
fn config(address: SocketAddr, upstream: SocketAddr) -> String {
    let temp_paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {name};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\nevents {{}}\n\
         http {{\n  access_log off;\n{temp_paths}  client_max_body_size 8m;\n  server {{\n    listen {address};\n    \
         location / {{ proxy_pass http://{upstream}; }}\n  }}\n}}\n"
    )
}
