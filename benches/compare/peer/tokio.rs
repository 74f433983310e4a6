//! The runtime shared by all servers on tokio.

use std::{future::Future, net::TcpListener};

use tokio::{net::TcpListener as AsyncListener, runtime};

/// Runs `serve` on one thread, or on several workers.
pub(super) fn run<F: Future>(listener: TcpListener, workers: usize, serve: impl FnOnce(AsyncListener) -> F) {
    let mut runtime = match workers {
        1 => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    runtime.worker_threads(workers).enable_all().build().expect("a runtime").block_on(async {
        listener.set_nonblocking(true).expect("non-blocking");
        serve(AsyncListener::from_std(listener).expect("registered")).await
    });
}
