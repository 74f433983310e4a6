//! Graceful shutdown, shared by the examples.

use std::{future::Future, process::exit, time::Duration};

use tower_events::Hub;

/// Waits for a signal to stop, then ends polls and streams, whose clients reconnect within `window`. Returns after `grace`: if
/// the server stopped accepting at once, clients between two polls would be cut off, and a load balancer would not have seen that
/// the server is no longer ready. A second signal ends the process at once.
pub(crate) fn drained(hub: Hub, window: Duration, grace: Duration) -> impl Future<Output = ()> {
    // Listened to from this call on, not from when the future is first polled, and not made anew for the second signal: one that
    // comes in between would end the process.
    let mut signals = Signals::new();
    async move {
        signals.next().await;
        hub.drain(window);
        tracing::info!(seconds = window.as_secs_f64(), "draining: sending clients away");
        tokio::spawn(async move {
            signals.next().await;
            exit(1);
        });
        tokio::time::sleep(grace).await;
    }
}

/// Ctrl-C, and SIGTERM from a service manager.
#[cfg(unix)]
struct Signals([Option<tokio::signal::unix::Signal>; 2]);

#[cfg(unix)]
impl Signals {
    fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        Self([SignalKind::interrupt(), SignalKind::terminate()].map(|kind| signal(kind).ok()))
    }

    async fn next(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            Some(()) = next_of(interrupt) => {}
            Some(()) = next_of(terminate) => {}
            else => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
async fn next_of(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

/// Ctrl-C.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Self {
        Self
    }

    async fn next(&mut self) {
        _ = tokio::signal::ctrl_c().await;
    }
}
