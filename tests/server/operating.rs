//! What an operator asks of the server besides events: whether it is ready, and its logs.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    program::{Answer, Directory, Example, PATIENCE, binary},
    support,
};

#[test]
fn readiness_says_draining_before_connections_are_refused() {
    support::arm_deadline();
    for frontend in ["axum", "hyper"] {
        let mut server = Example::start("server", &["--listen=127.0.0.1:0", "--frontend", frontend, "--grace=1"]);
        let ready = server.get("/readyz");
        assert_eq!((ready.status, &ready.json()["status"]), (200, &Value::from("ready")), "{ready:?}");
        server.signal("TERM");
        // Panics if a connection is refused first.
        let draining = until(&server, "/readyz", |answer| answer.status == 503);
        assert_eq!(draining.json()["status"], "draining", "{draining:?}");
        assert_eq!(server.get("/healthz").status, 200, "it is alive");
        assert!(server.exit().success());
    }
}

#[test]
fn readiness_says_when_the_store_is_away_and_back() {
    support::arm_deadline();
    let directory = Directory::new("readiness");
    let (file, away) = (directory.0.join("events.db"), directory.0.join("away.db"));
    let server = Example::start("server", &["--listen=127.0.0.1:0", "--store", &format!("file:{}", file.display())]);
    assert_eq!(server.post("/publish?channel=a", "text/plain", "x").status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    fs::rename(&file, &away).unwrap();
    let answer = until(&server, "/readyz", |answer| answer.status == 503);
    assert_eq!(answer.json()["status"], "store-unavailable", "{answer:?}");
    let alive = server.get("/healthz");
    assert_eq!((alive.status, &alive.json()["store"]), (200, &Value::from("unavailable")));
    fs::rename(&away, &file).unwrap();
    until(&server, "/readyz", |answer| answer.status == 200);
    assert_eq!(server.post("/publish?channel=a", "text/plain", "x").status, 200);
    server.stop("TERM");
}

#[test]
fn logs_are_text_or_json_objects_and_as_detailed_as_asked_for() {
    support::arm_deadline();
    let json: Vec<Value> =
        logs(&["--log-format=json"], None).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<_> = json.iter().map(|line| line["fields"]["message"].as_str().unwrap()).collect();
    assert_eq!(messages.first().copied(), Some("listening"), "{json:#?}");
    assert_eq!(messages.last().copied(), Some("stopped"), "{json:#?}");
    let failed: Vec<_> = json.iter().filter(|line| line["fields"]["calls"] == "appends").collect();
    assert_eq!(failed.len(), 1, "{json:#?}");
    assert_eq!(failed[0]["level"], "WARN");
    assert!(failed[0]["target"].as_str().unwrap().starts_with("tower_events::hub"), "{failed:?}");
    assert!(failed[0]["timestamp"].is_string() && failed[0]["fields"]["error"].is_string(), "{failed:?}");

    let text = logs(&["--log-format=text"], None);
    assert!(
        text.contains(" INFO server: listening address=127.0.0.1:") && text.contains(" WARN tower_events::hub"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text}");
    assert_eq!(logs(&[], None).lines().count(), text.lines().count(), "text is the default");
    assert_eq!(logs(&[], Some("error")), "");
    assert!(logs(&[], Some("warn,tower_events=debug")).contains(" DEBUG tower_events::"));

    let refused = Command::new(binary("server")).args(["--log-format=xml"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}

/// What the server logs while its store goes away, and it is stopped.
fn logs(arguments: &[&str], filter: Option<&str>) -> String {
    let directory = Directory::new("logs");
    let (file, log) = (directory.0.join("events.db"), directory.0.join("log"));
    let mut command = Command::new(binary("server"));
    command.args(["--listen=127.0.0.1:0", "--grace=0", "--store", &format!("file:{}", file.display())]).args(arguments);
    command
        .env_remove("RUST_LOG")
        .envs(filter.map(|filter| ("RUST_LOG", filter)))
        .stderr(fs::File::create(&log).unwrap());
    let server = Example::run("server", command);
    fs::remove_file(&file).unwrap();
    for _ in 0..3 {
        assert_eq!(server.post("/publish?channel=a", "text/plain", "secret data").status, 503);
    }
    server.stop("TERM");
    let text = fs::read_to_string(log).unwrap();
    assert!(!text.contains("secret data"), "{text}");
    text
}

/// The first answer that is as wanted.
fn until(server: &Example, target: &str, is_wanted: impl Fn(&Answer) -> bool) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = server.get(target);
        if is_wanted(&answer) {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer:?}");
        std::thread::sleep(Duration::from_millis(5)); // the server cannot be subscribed to for this
    }
}
