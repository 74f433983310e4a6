//! The AI SDK (`ai` on npm) with the example `answers`: its chat reads whole answers, resumes them, and finds none.
#![cfg(unix)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a helper that panics is a failed test, and not all that is shared is used"
)]

#[path = "../../tests/support/program.rs"]
mod program;
#[path = "../../tests/support/proxy.rs"]
mod proxy;

use std::{path::Path, process::Stdio};

use program::{Directory, Example};
use proxy::Proxy;
use serde_json::{Value, json};

fn start(name: &str) -> (Directory, Example) {
    let directory = Directory::new(name);
    let file = directory.0.join("answers.db");
    let example = Example::start("answers", &["127.0.0.1:0", file.to_str().unwrap()]);
    (directory, example)
}

/// What the script shows.
async fn chat(arguments: &[&str]) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    assert!(folder.join("node_modules/ai").exists(), "run interop/prepare once before these tests");
    let mut node = tokio::process::Command::new("node");
    node.arg(folder.join("chat.mjs")).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = node.output().await.expect("node");
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn api(example: &Example) -> String {
    format!("http://{}/api/chat", example.address())
}

#[tokio::test]
async fn an_answer_is_read_whole_and_again_by_a_page_that_is_loaded_later() {
    let (_directory, example) = start("chat-whole");
    let shown = chat(&["ask", &api(&example), "c1"]).await;
    assert_eq!(
        (&shown["status"], &shown["isError"], &shown["isAbort"]),
        (&json!("ready"), &json!(false), &json!(false))
    );
    let text = shown["texts"][0].as_str().unwrap();
    assert!(text.starts_with("You asked: “Why?”\n\nI am no model"), "{shown}");
    assert!(text.ends_with("Nothing that I said before is lost."), "{shown}");
    let again = chat(&["resume", &api(&example), "c1"]).await;
    assert_eq!((&again["texts"], &again["status"]), (&shown["texts"], &json!("ready")));
    let stream = example.get("/api/chat/c1/stream");
    assert!(stream.head.contains("x-vercel-ai-ui-message-stream: v1"), "{stream:?}");
    assert!(stream.head.contains("content-type: text/event-stream"), "{stream:?}");
    assert!(stream.body.ends_with("data: {\"type\":\"finish\"}\n\ndata: [DONE]\n\n"), "{stream:?}");
    assert!(stream.body.lines().all(|line| line.is_empty() || line.starts_with("data: ")), "{stream:?}");
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_whole_once_it_is_resumed() {
    let (_directory, example) = start("chat-cut");
    for bytes in [300, 1_000, 5_000] {
        let proxy = Proxy::start(example.address(), [bytes]).await;
        let shown = chat(&["cut", &proxy.url("/api/chat"), &format!("c{bytes}")]).await;
        assert_eq!((&shown["cut"]["status"], &shown["status"]), (&json!("error"), &json!("ready")), "{shown}");
        let text = shown["texts"][0].as_str().unwrap();
        assert_eq!(shown["texts"].as_array().unwrap().len(), 1, "{shown}");
        assert!(text.ends_with("Nothing that I said before is lost."), "{shown}");
        assert_eq!(text.matches("You asked: “Why?”").count(), 1, "{shown}");
        if let Some(cut) = shown["cut"]["texts"][0].as_str() {
            assert!(text.starts_with(cut) && text.len() > cut.len(), "{shown}");
        }
        assert_eq!(proxy.accepted(), 2);
    }
}

#[tokio::test]
async fn there_is_nothing_to_resume_in_a_chat_that_asked_nothing() {
    let (_directory, example) = start("chat-nothing");
    assert_eq!(chat(&["reconnect", &api(&example), "c1"]).await, Value::Null);
    assert_eq!(example.get("/api/chat/c1/stream").status, 204);
    // A stop that comes too early stops nothing.
    assert_eq!(example.post("/api/chat/c1/stop", "text/plain", "").status, 204);
    assert_eq!(chat(&["reconnect", &api(&example), "c1"]).await, Value::Null);
}

#[tokio::test]
async fn an_answer_is_stopped_for_the_chat_and_for_pages_that_are_loaded_later() {
    let (_directory, example) = start("chat-stop");
    let shown = chat(&["stop", &api(&example), "c1"]).await;
    assert_eq!((&shown["stopped"], &shown["status"]), (&json!(204), &json!("ready")), "{shown}");
    assert_eq!(shown["error"], Value::Null);
    let text = shown["texts"][0].as_str().unwrap();
    assert!(text.starts_with("You asked: “so so so") && !text.contains('”'), "{shown}");
    assert_eq!(chat(&["resume", &api(&example), "c1"]).await["texts"], shown["texts"]);
    let stream = example.get("/api/chat/c1/stream").body;
    assert!(stream.ends_with("data: {\"type\":\"abort\"}\n\ndata: [DONE]\n\n"), "{stream}");
}
