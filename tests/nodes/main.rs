//! The example server as several nodes on one server, as users run it: programs that are started, used over sockets
//! and killed, with real servers that are killed and restarted. `cargo build --examples` with the same features builds
//! the programs.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "a helper's panic is a failed test; the servers are those of the stores' own tests"
)]

mod engine;
#[path = "../nats/server.rs"]
mod nats_server;
#[path = "../postgres/server.rs"]
mod postgres_server;
#[path = "../support/program.rs"]
mod program;
#[path = "../redis/server.rs"]
mod redis_server;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use self::{
    engine::{Engine, File},
    nats_server::Server as Nats,
    postgres_server::Server as Postgres,
    program::{Directory, Example, binary},
    redis_server::Server as Redis,
};

macro_rules! on_each_engine {
    ($($name:ident)*) => {
        mod on_redis { $(#[test] fn $name() { super::engine::redis().into_iter().for_each(super::$name); })* }
        mod on_nats { $(#[test] fn $name() { super::engine::nats().into_iter().for_each(super::$name); })* }
        mod on_postgres { $(#[test] fn $name() { super::engine::postgres().into_iter().for_each(super::$name); })* }
    };
}

on_each_engine! {
    a_client_is_cut_off_one_node_and_goes_on_at_another
    an_engine_that_is_away_shows_in_healthz_and_readers_catch_up_when_it_is_back
}

fn a_client_is_cut_off_one_node_and_goes_on_at_another(engine: impl Engine) {
    let (here, there) = (node(&engine), node(&engine));
    let mut stream = there.stream("/events?channel=a&after=earliest", "text/event-stream");
    let ids: Vec<_> = (0..5).map(|n| publish(&here, n)).collect();
    assert_eq!(numbers(&stream.until(&id_line(&ids[4]))), [0, 1, 2, 3, 4]);
    assert_eq!(read(&there, "after=earliest&wait=0"), [0, 1, 2, 3, 4]);
    let mut poll = there.stream(&format!("/events?channel=a&after={}&wait=50", ids[4]), "application/json");
    there.until_it_has_readers(2);
    let cursor = publish(&here, 5);
    assert_eq!(numbers(&stream.until(&id_line(&cursor))), [5]);
    let answer = poll.rest();
    assert!(answer.contains(&cursor) && answer.ends_with(']'), "{answer}");

    there.kill();
    let missed: Vec<_> = (6..9).map(|n| publish(&here, n)).collect();
    let there = node(&engine);
    for node in [&here, &there] {
        assert_eq!(read(node, &format!("after={cursor}&wait=5")), [6, 7, 8]);
        let mut stream = node.stream_from(&cursor, "/events?channel=a");
        assert_eq!(numbers(&stream.until(&id_line(&missed[2]))), [6, 7, 8]);
    }
    assert_eq!(read(&there, "after=earliest&wait=0"), (0..9).collect::<Vec<_>>());
}

fn an_engine_that_is_away_shows_in_healthz_and_readers_catch_up_when_it_is_back(mut engine: impl Engine) {
    let (here, idle) = (node(&engine), node(&engine));
    let mut stream = here.stream("/events?channel=a", "text/event-stream");
    stream.until("\nid: "); // from here on it misses nothing
    assert_eq!(numbers(&stream.until(&id_line(&publish(&here, 1)))), [1]);
    until_the_store_is(&here, "ready");

    engine.kill();
    // The idle one first, so that its own attempts have ended when the server is started again.
    for node in [&idle, &here, &here] {
        let refused = node.post("/publish?channel=a", "application/json", "2");
        assert!(matches!(refused.status, 503 | 504), "{refused:?}");
        until_the_store_is(node, "unavailable");
    }

    engine.start_again();
    // No calls are made, except for the health.
    until_the_store_is(&idle, "ready");
    let id = publish_until_it_is_taken(&idle, 3);
    let seen = stream.until(&id_line(&id));
    assert_eq!(numbers(&seen).last(), Some(&3), "{seen}");
    assert!(!seen.contains("stream-reset"), "{seen}");
    until_the_store_is(&here, "ready");
}

#[test]
fn a_file_is_always_ready() {
    let file = File::new();
    let node = node(&file);
    publish(&node, 1);
    assert_eq!(node.get("/healthz").json()["store"], "ready");
}

#[test]
fn a_store_that_cannot_be_opened_says_why() {
    let (Some(redis), Some(nats), Some(postgres)) = (engine::redis(), engine::nats_with_password(), engine::postgres())
    else {
        return;
    };
    redis.command(&["ACL", "SETUSER", "ada", "on", ">secret", "+@all", "~*", "&*"]);
    postgres.script(b"create role guest login");
    let (redis, postgres) = (redis.url(), postgres.url());
    let guest = postgres.replace("postgres@", "guest@");
    for (url, text) in [
        ("redis://127.0.0.1:1/", "Connection refused"),
        ("nats://127.0.0.1:1", "Connection refused"),
        ("postgres://postgres@127.0.0.1:1/postgres", "Connection refused"),
        (&redis.replace("//", "//ada:wrong@"), "WRONGPASS"),
        (&nats.url().replace("//", "//ada:wrong@"), "authorization"),
        (&format!("{postgres}x"), "database \"postgresx\" does not exist"),
        (&guest.replace("guest@", "nobody@"), "role \"nobody\" does not exist"),
        (&guest, "permission denied for database"),
        ("postgres://127.0.0.1:port/", "option `port`"),
    ] {
        let said = refusal(url);
        let error = said.lines().find_map(|line| line.strip_prefix("server: cannot open the store: "));
        assert!(error.is_some_and(|error| error.contains(text)), "{url}: {said}");
        assert!(!said.contains(":wrong@"), "{url}: a password in {said}");
    }
    for (url, password) in [(redis, "//ada:secret@"), (nats.url(), "//ada:secret@")] {
        let node = Example::start("server", &["--listen", "127.0.0.1:0", "--store", &url.replace("//", password)]);
        publish(&node, 1);
    }
}

fn node(engine: &impl Engine) -> Example {
    Example::start("server", &["--listen", "127.0.0.1:0", "--store", &engine.url()])
}

/// The error and the log lines of a server that does not start.
fn refusal(url: &str) -> String {
    let output = Command::new(binary("server")).args(["--listen", "127.0.0.1:0", "--store", url]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{url}: {output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Publishes a number, and returns its cursor.
fn publish(node: &Example, number: u32) -> String {
    let answer = node.post("/publish?channel=a", "application/json", &number.to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// As [`publish`], while the node may still be detecting that its server is back.
fn publish_until_it_is_taken(node: &Example, number: u32) -> String {
    let began = Instant::now();
    loop {
        let answer = node.post("/publish?channel=a", "application/json", &number.to_string());
        if answer.status == 200 {
            return answer.json()["id"].as_str().unwrap().to_owned();
        }
        assert!(answer.status == 503 && began.elapsed() < PATIENCE, "{answer:?}");
    }
}

/// The numbers in a long poll's response.
fn read(node: &Example, query: &str) -> Vec<u64> {
    let events = node.get(&format!("/events?channel=a&{query}")).json();
    events.as_array().unwrap().iter().filter_map(|event| event["data"].as_u64()).collect()
}

/// The numbers in a part of a stream.
fn numbers(stream: &str) -> Vec<u64> {
    stream.lines().filter_map(|line| line.strip_prefix("data: ")?.parse().ok()).collect()
}

fn id_line(id: &str) -> String {
    format!("id: {id}\n")
}

fn until_the_store_is(node: &Example, wanted: &str) {
    let began = Instant::now();
    loop {
        let health = node.get("/healthz");
        assert_eq!(health.status, 200, "{health:?}");
        let store: Value = health.json()["store"].clone();
        if store == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the store is {store}, and never {wanted}");
        std::thread::sleep(Duration::from_millis(20)); // nothing announces it
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
