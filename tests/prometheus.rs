//! The server example watched by a real Prometheus, with the configuration, the rules and the dashboard that come with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]
#![cfg(unix)]

#[path = "support/program.rs"]
#[allow(dead_code, reason = "every test file uses its own part")]
mod program;

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use program::{Directory, Example, Stream};
use serde_json::Value;

const ALERTS: &str = include_str!("../examples/server/alerts.yml");
const DASHBOARD: &str = include_str!("../examples/server/grafana.json");

#[test]
fn prometheus_scrapes_the_server_and_evaluates_its_rules() {
    if !is_installed() {
        return;
    }
    let server = Example::start("server", &["--listen", "127.0.0.1:0"]);
    assert_eq!(server.post("/publish?channel=a", "text/plain", "hello").status, 200);
    let directory = Directory::new("prometheus");
    let prometheus = Prometheus::start(&directory.0, server.address());
    let published = prometheus.until("tower_events_published_events_total");
    assert_eq!(published[0]["value"][1], "1", "{published:?}");
    assert_eq!(prometheus.until("up")[0]["value"][1], "1");
    let rules = prometheus.get("/api/v1/rules");
    let rules: Vec<_> = rules["data"]["groups"][0]["rules"].as_array().unwrap().iter().collect();
    assert!(rules.len() > 8);
    let bad: Vec<_> = rules.iter().filter(|rule| rule["health"] == "err" || rule["state"] == "firing").collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn the_rules_and_the_dashboard_use_documented_metrics() {
    let documented = names(include_str!("../docs/metrics.md"));
    for text in [ALERTS, DASHBOARD] {
        let used = names(text);
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(used.len() > 5 && unknown.is_empty(), "{unknown:?}");
    }
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() > 15);
}

/// The metrics that are named, without the suffixes of a histogram's series.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let names = words.filter(|word| word.starts_with("tower_events_") && *word != "tower_events_");
    names.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

/// Without Prometheus the test is skipped; in CI that is a failure.
fn is_installed() -> bool {
    let found =
        ["prometheus", "promtool"].iter().all(|program| Command::new(program).arg("--version").output().is_ok());
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "Prometheus is not installed");
        eprintln!("=== SKIPPED: Prometheus is not installed ===");
    }
    found
}

/// A running Prometheus; killed when it is dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
}

impl Prometheus {
    /// Watches `target` every 100 ms.
    fn start(directory: &Path, target: SocketAddr) -> Self {
        let config = include_str!("../examples/server/prometheus.yml");
        let config = config.replace("127.0.0.1:3000", &target.to_string()).replace("interval: 5s", "interval: 100ms");
        assert!(config.contains("100ms") && config.contains(&target.to_string()));
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        fs::write(directory.join("alerts.yml"), ALERTS).unwrap();
        let checked = Command::new("promtool").args(["check", "config"]).arg(&file).output().unwrap();
        assert!(checked.status.success(), "{checked:?}");
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address }
    }

    /// What this query returns, once that is anything.
    fn until(&self, query: &str) -> Vec<Value> {
        let start = Instant::now();
        loop {
            if TcpStream::connect(self.address).is_ok() {
                let found = self.get(&format!("/api/v1/query?query={query}"));
                if let Some(found) = found["data"]["result"].as_array().filter(|found| !found.is_empty()) {
                    return found.clone();
                }
            }
            assert!(start.elapsed() < program::PATIENCE, "Prometheus never has {query}");
            std::thread::sleep(Duration::from_millis(20)); // another process, which nothing announces
        }
    }

    fn get(&self, target: &str) -> Value {
        let answer = Stream::open(self.address, &format!("GET {target} HTTP/1.0\r\n\r\n")).rest();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        serde_json::from_str(body).unwrap_or(Value::Null)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
