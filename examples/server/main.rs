//! A generic event server: publish to any channel, read any channels.
//!
//! ```text
//! cargo run --release --example server -- --listen 127.0.0.1:3000 --store memory:
//! curl -N 'http://127.0.0.1:3000/events?channel=a&after=earliest'
//! curl -d '"hello"' -H 'Content-Type: application/json' 'http://127.0.0.1:3000/publish?channel=a'
//! ```
//!
//! For operators: `/` shows what happens, `/metrics` is for Prometheus (`prometheus.yml`, `alerts.yml`, `grafana.json`), `/healthz`
//! says that it is alive, `/readyz` whether to send it clients.
//!
//! Anyone who can reach it may read and write everything: listen on an address that only your own programs can reach.

mod address_limit;
mod app;
mod axum;
mod connections;
mod hyper;
mod limits;
mod logs;
mod metrics;
mod options;
mod pages;
mod socket;
mod status;
#[path = "../common/stop.rs"]
mod stop;
#[path = "../common/store.rs"]
mod store;

use std::{error::Error, io, net::SocketAddr, num::NonZeroUsize, process::ExitCode, sync::Arc, time::Duration};

use http::Method;
use mimalloc::MiMalloc;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime,
};
use tower_events::{
    EventService, Hub, HubOptions, PublishService, SseService,
    request::{EXPOSED_HEADERS, REQUEST_HEADERS},
    sse::SseOptions,
};
use tower_http::cors::{Any, CorsLayer};

use self::{
    address_limit::{AddressLimit, anyone},
    app::App,
    connections::ConnectionLimits,
    metrics::Metrics,
    options::{Frontend, HELP, Options, Origins},
    pages::Pages,
};

/// glibc's allocator keeps most of the memory of clients that have gone: docs/operations.md has figures.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type BoxError = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    logs::start(options.log_format);
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), BoxError> {
    let mut runtime = match options.workers {
        // Waking a task costs less when it cannot move to another thread.
        Some(NonZeroUsize::MIN) => runtime::Builder::new_current_thread(),
        _ => runtime::Builder::new_multi_thread(),
    };
    if let Some(workers) = options.workers {
        runtime.worker_threads(workers.get());
    }
    runtime.enable_all().build()?.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), BoxError> {
    let Options { listen, drain, grace, .. } = options;
    let store = store::open(&options.store, options.retention.clone()).await?;
    let hub = Hub::with_options(store, options.limits.of_hub(HubOptions::default().ring_bytes(options.ring_bytes)));
    let (status, status_hub) = status::watch(hub.clone());
    let pages = Pages::new(hub.clone(), Metrics::install(hub.clone())?);
    let app = app(&hub, &options, status, pages);

    let drained = stop::drained(hub, drain, grace);
    let listener = bind(listen).map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}");
    tracing::info!(%address, "listening");
    let stop = async move {
        drained.await;
        status_hub.drain(drain);
    };
    match options.frontend {
        Frontend::Axum => axum::serve(listener, app, stop).await,
        Frontend::Hyper => hyper::serve(listener, app, stop).await,
    }
    tracing::info!("stopped");
    Ok(())
}

fn app(hub: &Hub, options: &Options, status: SseService, pages: Pages) -> App {
    let mut stream = SseOptions::default().heartbeat(options.heartbeat);
    if let Some(age) = options.max_age {
        stream = stream.max_age(age);
    }
    let limits = &options.limits;
    let resolver = anyone(limits.connection.address_rate.map(AddressLimit::new));
    let mut publish = limits.of_publish(PublishService::new(hub.clone(), resolver.clone()));
    if matches!(options.origins, Origins::Any) {
        publish = publish.without_origin_check();
    }
    App {
        events: limits.of_events(EventService::new(hub.clone(), resolver), stream),
        publish,
        hub: hub.clone(),
        status,
        other: Arc::new(move |method, path| pages.respond(method, path)),
        limits: ConnectionLimits { close_timeout: options.drain.max(SHORTEST_CLOSE), ..limits.connection },
        cors: matches!(options.origins, Origins::Any).then(any_origin),
    }
}

/// Allows pages from every origin to read and publish.
fn any_origin() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD, Method::POST])
        .allow_headers(REQUEST_HEADERS.to_vec())
        .expose_headers(EXPOSED_HEADERS.to_vec())
        .max_age(Duration::from_secs(2 * 60 * 60)) // how long a browser caches the preflight: Chromium's maximum
}

/// However short the window in which clients reconnect, they need time to read the end of their responses.
const SHORTEST_CLOSE: Duration = Duration::from_secs(1);

/// Listens with an accept queue for thousands of clients that connect at once, as they do when another node has gone down.
/// The default is 128: above it the system drops the packets, and clients retry after 1, 3, 7 and 15 seconds. Linux allows at
/// most `net.core.somaxconn`.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    #[cfg(not(windows))] // as `TcpListener::bind` does, so that a restarted server can bind the port at once
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}
