//! The `notifications` example as its users run it: tokens in every place, the unread count as a snapshot, and streams that end with
//! their token and by a sign-out at another process.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper's panic is a failed test")]

#[path = "support/deadline.rs"]
mod deadline;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "support/program.rs"]
mod program;

use std::{
    collections::BTreeSet,
    fs::{self, File},
};

use serde_json::{Value, json};

use self::program::{Answer, Directory, Example, FORM, Stream};

/// Starts a process; its tokens are valid for `life` seconds.
fn start(directory: &Directory, life: &str) -> Example {
    deadline::arm();
    let database = directory.0.join("notifications.db");
    Example::start("notifications", &["127.0.0.1:0", database.to_str().unwrap(), life])
}

fn sign_in(process: &Example, user: &str) -> String {
    let answer = process.post("/token", FORM, user);
    assert!(answer.head.contains("; HttpOnly; SameSite=Strict;"), "{answer:?}");
    answer.body
}

fn post(process: &Example, token: &str, target: &str, body: &str) -> Answer {
    let head = format!("Authorization: Bearer {token}\r\nContent-Type: {FORM}\r\nContent-Length: {}", body.len());
    process.send(&format!("POST {target} HTTP/1.0\r\n{head}\r\n\r\n{body}"))
}

fn follow(process: &Example, token: &str) -> Stream {
    let head = format!("Accept: text/event-stream\r\nCookie: a=b; token={token}");
    Stream::open(process.address(), &format!("GET /events HTTP/1.0\r\n{head}\r\n\r\n"))
}

/// The data of the last event with this name in what a stream sent.
fn data(sent: &str, name: &str) -> Value {
    let (_, event) = sent.rsplit_once(&format!("event: {name}\ndata: ")).unwrap_or_else(|| panic!("no {name}: {sent}"));
    serde_json::from_str(event.lines().next().unwrap()).unwrap()
}

/// What is unread according to a stream up to its live mark: the ids of the snapshot, and what the events after it change. They
/// may be the ones that the snapshot lacks, because readers share it for two seconds.
fn unread(process: &Example, token: &str) -> BTreeSet<i64> {
    let sent = follow(process, token).until("event: stream-live");
    let mut unread = BTreeSet::new();
    for block in sent.split("\n\n") {
        let Some((name, data)) = block.split_once("event: ").and_then(|(_, event)| event.split_once("\ndata: ")) else {
            continue;
        };
        let data: Value = serde_json::from_str(data.lines().next().unwrap()).unwrap();
        match name {
            "unread" => {
                unread = data["unread"].as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect();
            }
            "notification" => _ = unread.insert(data["id"].as_i64().unwrap()),
            "read" => unread.retain(|id| *id > data.as_i64().unwrap()),
            _ => {}
        }
    }
    unread
}

#[test]
fn a_token_is_taken_from_a_header_a_cookie_or_the_query_and_is_in_no_log() {
    deadline::arm();
    let directory = Directory::new("notifications-tokens");
    let (database, log) = (directory.0.join("notifications.db"), directory.0.join("log"));
    let arguments = ["127.0.0.1:0", database.to_str().unwrap()];
    let process = Example::start_logging("notifications", &arguments, File::create(&log).unwrap().into());
    let token = sign_in(&process, "ada");
    let (bearer, cookie) = (format!("Bearer {token}"), format!("a=b; token={token}"));
    let query = format!("/events?wait=0&access_token={token}&limit=5");
    let none = ("X-Token", "none");
    for (header, target, status) in [
        (("Authorization", &*bearer), "/events?wait=0", 200),
        (("Cookie", &*cookie), "/events?wait=0", 200),
        (none, &*query, 200),
        (none, "/events?wait=0", 401),
        (("Authorization", "Bearer x.y.z"), "/events?wait=0", 401),
        // Signed by nobody, and by another user.
        (
            ("Authorization", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJleHAiOjk5OTk5OTk5OTl9."),
            "/events?wait=0",
            401,
        ),
    ] {
        assert_eq!(process.get_as(header, target).status, status, "{header:?} {target}");
    }
    process.stop("TERM");
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("uri=/events?wait=0&limit=5 ") && !log.contains(&token), "{log}");
}

#[test]
fn what_is_unread_comes_as_a_snapshot_and_the_events_change_it() {
    let directory = Directory::new("notifications-unread");
    let (here, there) = (start(&directory, "900"), start(&directory, "900"));
    let (ada, bob) = (sign_in(&here, "ada"), sign_in(&there, "bob"));
    assert_eq!(post(&there, &bob, "/notify/ada", "first").status, 200);
    let mut stream = follow(&here, &ada);
    let sent = stream.until("event: stream-live");
    let first = json!({ "id": 1, "sender": "bob", "text": "first" });
    assert_eq!(data(&sent, "unread"), json!({ "user": "ada", "unread": [&first] }));

    assert_eq!(post(&there, &bob, "/notify/ada", "second").status, 200);
    assert_eq!(data(&stream.until("second\"}\n"), "notification")["id"], 2);
    assert_eq!(unread(&there, &ada), BTreeSet::from([1, 2]));
    assert_eq!(post(&here, &ada, "/read/1", "").status, 200);
    assert_eq!(data(&stream.until("event: read\ndata: 1\n"), "read"), json!(1));
    assert_eq!(unread(&there, &ada), BTreeSet::from([2]));
    // A process that starts later reads the database, not what others share.
    let later = start(&directory, "900");
    let state = data(&follow(&later, &ada).until("event: stream-live"), "unread");
    assert_eq!(state["unread"], json!([{ "id": 2, "sender": "bob", "text": "second" }]));
    // The inbox of others is theirs.
    assert_eq!(unread(&there, &bob), BTreeSet::new());
    assert_eq!(post(&here, &bob, "/notify/ada", &"x".repeat(1_001)).status, 413);
}

#[test]
fn a_stream_ends_with_its_token_and_goes_on_with_a_new_one() {
    let directory = Directory::new("notifications-expiry");
    // A token of a process is valid in the other. The short life is cut to whole seconds, and must suffice to open a stream.
    let (brief, process) = (start(&directory, "5"), start(&directory, "900"));
    let ada = sign_in(&brief, "ada");
    let sent = follow(&process, &ada).rest();
    assert!(sent.contains("event: unread\n") && sent.contains("event: stream-retry\n"), "{sent}");
    let position = sent.lines().rev().find_map(|line| line.strip_prefix("id: ")).unwrap();
    // It ended shortly before the token did.
    let expired = |answer: &Answer| answer.status == 401;
    while !expired(&process.get_as(("Authorization", &format!("Bearer {ada}")), "/events?wait=0")) {}
    assert!(expired(&post(&process, &ada, "/token", "")));
    let again = sign_in(&process, "ada");
    assert_eq!(post(&process, &again, "/notify/ada", "meanwhile").status, 200);
    let resumed = process.get(&format!("/events?wait=0&after={position}&access_token={again}"));
    assert_eq!(resumed.json()[0]["data"]["text"], "meanwhile");
}

#[test]
fn signing_out_ends_streams_of_all_processes_and_the_token_until_the_next_sign_in() {
    let directory = Directory::new("notifications-revocation");
    let (here, there) = (start(&directory, "900"), start(&directory, "900"));
    let (ada, bob) = (sign_in(&here, "ada"), sign_in(&here, "bob"));
    let mut streams = [&here, &there].map(|process| follow(process, &ada));
    let mut of_bob = follow(&there, &bob);
    streams.iter_mut().for_each(|stream| _ = stream.until("event: stream-live"));
    of_bob.until("event: stream-live");
    assert_eq!(post(&there, &ada, "/logout", "").status, 200);
    for stream in &mut streams {
        assert!(stream.rest().contains("event: stream-retry"));
    }
    for process in [&here, &there] {
        let target = format!("/events?wait=0&access_token={ada}");
        assert_eq!((process.get(&target).status, post(process, &ada, "/read/1", "").status), (401, 401));
    }
    let again = sign_in(&here, "ada");
    follow(&there, &again).until("event: unread");
    assert_eq!(post(&there, &again, "/notify/bob", "still there").status, 200);
    of_bob.until("still there");
}
