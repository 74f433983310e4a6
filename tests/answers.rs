//! The `answers` example as its pages see it: over sockets, with two processes on one file, one of which is killed.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper's panic is a failed test")]

#[path = "support/deadline.rs"]
mod deadline;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "support/program.rs"]
mod program;

use self::program::{Directory, Example, FORM, Stream};

const SSE: &str = "text/event-stream";

fn start(directory: &Directory) -> Example {
    deadline::arm();
    Example::start("answers", &["127.0.0.1:0", directory.0.join("answers.db").to_str().unwrap()])
}

/// Asks, and returns the answer's id. The answer repeats the question, so a long one takes long.
fn ask(process: &Example, question: &str) -> String {
    let answer = process.post("/ask", FORM, &format!("question={question}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

fn follow(process: &Example, id: &str) -> Stream {
    process.stream(&format!("/answers/{id}"), SSE)
}

fn state(process: &Example, id: &str) -> String {
    process.get("/answers").json()[id].as_str().unwrap_or_default().to_owned()
}

/// The text of an answer: the data of all events without a name, and the id of the last of them.
fn text(stream: &str) -> (String, String) {
    let body = stream.split_once("\r\n\r\n").map_or(stream, |(_, body)| body);
    let (mut text, mut last) = (String::new(), String::new());
    for block in body.split("\n\n").filter(|block| !block.contains("event: ")) {
        let data: Vec<_> = block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        text += &data.join("\n");
        if let (false, Some((_, id))) = (data.is_empty(), block.split_once("\nid: ")) {
            last = id.to_owned();
        }
    }
    (text, last)
}

#[test]
fn every_reader_gets_the_whole_answer_once_whenever_and_wherever_it_comes() {
    let directory = Directory::new("answers");
    let (here, there) = (start(&directory), start(&directory));
    assert!(here.get("/").body.starts_with("<!doctype html>"));
    let id = ask(&here, "Why%3F");
    let mut first = follow(&here, &id);
    let seen = first.until("Why?”");
    assert!(seen.contains("event: stream-run-start\n"), "{seen}");
    assert_eq!(state(&there, &id), "running");

    // A second page comes late and to another process; a third loses its connection, and continues.
    let mut late = follow(&there, &id);
    let cut = follow(&there, &id).until("data: model, ");
    // Only blocks that are complete count.
    let cut = &cut[..cut.rfind("\n\n").unwrap() + 2];
    let (before, position) = text(cut);
    let mut resumed = there.stream_from(&position, &format!("/answers/{id}"));
    let whole = seen + &first.rest();
    assert!(whole.contains("event: stream-run-end\ndata: {\"outcome\":\"finished\"}\n"), "{whole}");
    let (expected, _) = text(&whole);
    assert!(expected.starts_with("You asked: “Why?”\n\nI am no model"), "{expected}");
    assert!(expected.ends_with("Nothing that I said before is lost."), "{expected}");
    assert_eq!(text(&late.rest()).0, expected);
    assert_eq!(before + &text(&resumed.rest()).0, expected);
    for process in [&here, &there] {
        assert_eq!((state(process, &id), text(&follow(process, &id).rest()).0), ("finished".into(), expected.clone()));
        assert_eq!(process.get("/questions?wait=0").json()[0]["data"], "Why?");
    }
    here.stop("TERM");
    there.stop("INT");
}

#[test]
fn an_answer_is_stopped_from_the_other_process() {
    let directory = Directory::new("answers-stop");
    let (here, there) = (start(&directory), start(&directory));
    let id = ask(&here, &"so+".repeat(1_000));
    let mut pages = [&here, &there].map(|process| follow(process, &id));
    pages.iter_mut().for_each(|page| _ = page.until("data: so "));
    let stopped = there.send(&format!("DELETE /answers/{id} HTTP/1.0\r\n\r\n"));
    assert_eq!((stopped.status, stopped.body.as_str()), (200, "stopped"));
    for page in &mut pages {
        let rest = page.rest();
        assert!(rest.contains("event: stream-run-end\ndata: {\"outcome\":\"stopped\"}\n"), "{rest}");
    }
    assert_eq!([&here, &there].map(|process| state(process, &id)), ["stopped", "stopped"]);
}

#[test]
fn an_answer_whose_process_is_killed_ends_as_abandoned_on_every_page() {
    let directory = Directory::new("answers-kill");
    let (here, there) = (start(&directory), start(&directory));
    let id = ask(&here, &"so+".repeat(3_000));
    let mut page = follow(&there, &id);
    let mut seen = page.until("data: so ");
    here.kill();
    seen += &page.until("event: stream-run-end\ndata: {\"outcome\":\"abandoned\"}\n");
    assert_eq!(state(&there, &id), "abandoned");
    // What it said is kept, for a page that reloads, and at a process that starts later.
    let again = start(&directory);
    let (said, _) = text(&seen);
    assert!(said.starts_with("You asked: “so so"), "{said}");
    for process in [&there, &again] {
        let reloaded = follow(process, &id).rest();
        assert_eq!(text(&reloaded).0, said);
        assert!(reloaded.contains("{\"outcome\":\"abandoned\"}"), "{reloaded}");
        assert_eq!(state(process, &id), "abandoned");
    }
}
