//! A running client, in whatever language it is written.

use std::{path::Path, process::Stdio, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    sync::mpsc,
    task::JoinHandle,
};

/// An event as the client delivers it to its user.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    #[serde(rename = "type")]
    pub(crate) name: String,
    pub(crate) data: String,
    #[serde(default)]
    pub(crate) id: String,
}

/// A client that follows a URL in its own task, which ends when this is dropped.
pub(crate) struct Follower {
    seen: mpsc::UnboundedReceiver<Seen>,
    task: JoinHandle<()>,
}

impl Follower {
    pub(crate) fn start<F: Future<Output = ()> + Send + 'static>(
        follow: impl FnOnce(mpsc::UnboundedSender<Seen>) -> F,
    ) -> Self {
        let (sender, seen) = mpsc::unbounded_channel();
        Self { seen, task: tokio::spawn(follow(sender)) }
    }

    /// Starts a program that prints a JSON line per event; killed when this is dropped.
    pub(crate) fn program(program: &Path, arguments: [&str; 4]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self::start(|sender| async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                _ = sender.send(serde_json::from_str(&line).expect("a line of JSON"));
            }
            // The client has ended; the test checks whether it should have.
            drop(child);
            std::future::pending::<()>().await;
        })
    }

    /// The next event that the client delivers, marks included.
    pub(crate) async fn next(&mut self) -> Seen {
        let next = tokio::time::timeout(Duration::from_secs(20), self.seen.recv()).await;
        let seen = next.expect("the client delivers an event").expect("the client is still running");
        // Only the end of a long poll has no data.
        assert!(!seen.data.is_empty() || seen.name == "stream-end", "an empty message was delivered: {seen:?}");
        seen
    }

    /// The next event other than `stream-live` and `stream-retry`.
    pub(crate) async fn next_event(&mut self) -> Seen {
        loop {
            let seen = self.next().await;
            if !["stream-live", "stream-retry"].contains(&&*seen.name) {
                return seen;
            }
            assert_eq!(seen.data, "{}", "{seen:?}");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}
