//! Runs the tests of the `notifications` example: if it were a test target itself, cargo would not build it as a program.
#![allow(dead_code, missing_docs, reason = "the example's own `main` is not used")]

#[path = "../examples/notifications/main.rs"]
mod notifications;
