//! Graceful shutdown, shared by the examples.

use std::time::Duration;

use tower_events::Hub;

/// Waits for the signal to stop, then ends polls and streams, whose clients reconnect within `window`. Returns half a second
/// later: if the server stopped accepting at once, clients between two polls would be cut off.
pub(crate) async fn drained(hub: Hub, window: Duration) {
    signal().await;
    hub.drain(window);
    tokio::time::sleep(Duration::from_millis(500)).await;
}

/// Waits for Ctrl-C, or for SIGTERM from a service manager.
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
