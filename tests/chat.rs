//! The tests that the `chat` example brings, run from here: an example that is itself a test is not built to be run.
#![allow(dead_code, missing_docs, reason = "the example's own `main` is not used")]

#[path = "../examples/chat/main.rs"]
mod chat;
