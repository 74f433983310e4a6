//! A client while it follows, whatever it is written in.

use std::{path::Path, process::Stdio, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    sync::mpsc,
    task::JoinHandle,
};

/// What a client's user is handed.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    #[serde(rename = "type")]
    pub(crate) name: String,
    pub(crate) data: String,
    #[serde(default)]
    pub(crate) id: String,
}

/// A client that follows a URL in a task of its own, which ends when this is dropped.
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

    /// A program that prints a JSON line per event; killed when this is dropped.
    pub(crate) fn program(program: &Path, arguments: [&str; 4]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self::start(|sender| async move {
            while let Some(line) = lines.next_line().await.unwrap() {
                _ = sender.send(serde_json::from_str(&line).expect("a line of JSON"));
            }
            // The client has ended; its test says whether it should have.
            drop(child);
            std::future::pending::<()>().await;
        })
    }

    /// The next thing that the client's user is handed, whatever it is.
    pub(crate) async fn next(&mut self) -> Seen {
        let next = tokio::time::timeout(Duration::from_secs(20), self.seen.recv()).await;
        let seen = next.expect("the client is handed something").expect("the client goes on");
        // A long poll's end has no data.
        assert!(!seen.data.is_empty() || seen.name == "stream-end", "something empty is handed over: {seen:?}");
        seen
    }

    /// The next that is no mark of the stream's own position.
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
