//! When a server is to stop, and how. The examples share it.

use std::time::Duration;

use tower_events::Hub;

/// Waits for the signal to stop, then ends polls and streams, whose clients come back within `window`. A server that stopped
/// accepting at once would cut off the clients that are between two polls: they are answered for half a second more.
pub(crate) async fn drained(hub: Hub, window: Duration) {
    signal().await;
    hub.drain(window);
    tokio::time::sleep(Duration::from_millis(500)).await;
}

/// Waits for Ctrl-C, or for the SIGTERM of a service manager.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    _ = tokio::signal::ctrl_c().await;
}
