//! An event server that knows nothing of what it carries: publish to any channel, read any channels.
//!
//! ```text
//! cargo run --release --example server -- --listen 127.0.0.1:3000 --store memory:
//! curl -N 'http://127.0.0.1:3000/events?channel=a&after=earliest'
//! curl -d '"hello"' -H 'Content-Type: application/json' 'http://127.0.0.1:3000/publish?channel=a'
//! ```
//!
//! Anyone who reaches it may read and write everything: let it listen where only your own programs are.

#[path = "common/store.rs"]
mod store;

use std::{error::Error, net::SocketAddr, num::NonZeroUsize, process::ExitCode, time::Duration};

use axum::{Json, Router, extract::State, http::Method, routing::get, serve::ListenerExt};
use lexopt::{Parser, ValueExt};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime};
use tower_events::{
    Channels, EventService, Hub, HubOptions, PublishService, Retention,
    request::{EXPOSED_HEADERS, REQUEST_HEADERS},
    sse::SseOptions,
};
use tower_http::cors::{Any, CorsLayer};

use self::store::StoreUrl;

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
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), BoxError> {
    let mut runtime = runtime::Builder::new_multi_thread();
    if let Some(workers) = options.workers {
        runtime.worker_threads(workers.get());
    }
    runtime.enable_all().build()?.block_on(serve(options))
}

async fn serve(options: Options) -> Result<(), BoxError> {
    let Options { listen, drain, .. } = options;
    let retention = options.retention.clone();
    let store = store::open(&options.store, retention).await?;
    let hub = Hub::with_options(store, HubOptions::default().ring_bytes(options.ring_bytes));
    let app = app(&hub, &options);

    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    println!("listening on http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|io| _ = io.set_nodelay(true)); // else small events wait for the client's ACK
    let stop = async move {
        stop_signal().await;
        hub.drain(drain); // ends polls and streams; clients come back within this time
        tokio::spawn(async {
            tokio::time::sleep(PATIENCE).await;
            std::process::exit(0); // whoever has not read the end of a response by now does not want it
        });
    };
    Ok(axum::serve(listener, app).with_graceful_shutdown(stop).await?)
}

fn app(hub: &Hub, options: &Options) -> Router {
    let mut stream = SseOptions::default().heartbeat(options.heartbeat);
    if let Some(age) = options.max_age {
        stream = stream.max_age(age);
    }
    let app = Router::new()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query).sse(stream))
        .route_service("/publish", PublishService::new(hub.clone(), Channels::from_query))
        .route("/healthz", get(health).with_state(hub.clone()));
    match options.origins {
        Origins::Own => app,
        Origins::Any => app.layer(
            CorsLayer::new()
                .allow_origin(Any)
                .allow_methods([Method::GET, Method::HEAD, Method::POST])
                .allow_headers(REQUEST_HEADERS)
                .expose_headers(EXPOSED_HEADERS),
        ),
    }
}

/// Answers as long as the server does, and says how many are reading.
async fn health(State(hub): State<Hub>) -> Json<Value> {
    let stats = hub.stats();
    Json(json!({ "status": "ok", "readers": stats.readers, "channels": stats.topics }))
}

/// Waits for Ctrl-C, or for the SIGTERM of a service manager.
async fn stop_signal() {
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

struct Options {
    listen: SocketAddr,
    store: StoreUrl,
    retention: Retention,
    ring_bytes: usize,
    heartbeat: Duration,
    max_age: Option<Duration>,
    drain: Duration,
    workers: Option<NonZeroUsize>,
    origins: Origins,
}

/// Whose pages may use the server.
enum Origins {
    Own,
    Any,
}

impl Options {
    /// `None` when help was asked for.
    fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::Arg::{Long, Short};
        let mut options = Self::default();
        let mut arguments = Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("listen") => options.listen = arguments.value()?.parse()?,
                Long("store") => options.store = arguments.value()?.parse()?,
                Long("retention-events") => options.retention.events = arguments.value()?.parse()?,
                Long("retention-age") => options.retention.age = seconds(&mut arguments)?,
                Long("retention-bytes") => options.retention.bytes = arguments.value()?.parse()?,
                Long("ring-bytes") => options.ring_bytes = arguments.value()?.parse()?,
                Long("heartbeat") => options.heartbeat = seconds(&mut arguments)?,
                Long("max-age") => options.max_age = Some(seconds(&mut arguments)?),
                Long("drain") => options.drain = seconds(&mut arguments)?,
                Long("workers") => options.workers = Some(arguments.value()?.parse()?),
                Long("cors") => options.origins = Origins::Any,
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            store: StoreUrl::Memory,
            retention: Retention::default(),
            ring_bytes: 256 << 10,
            heartbeat: Duration::from_secs(15),
            max_age: None,
            drain: Duration::from_secs(5),
            workers: None,
            origins: Origins::Own,
        }
    }
}

fn seconds(arguments: &mut Parser) -> Result<Duration, lexopt::Error> {
    let seconds = arguments.value()?.parse()?;
    let tried = Duration::try_from_secs_f64(seconds);
    tried.ok().filter(|time| *time <= CENTURY).ok_or_else(|| format!("{seconds} is no number of seconds").into())
}

const HELP: &str = "\
An event server: GET /events?channel=, POST /publish?channel=, GET /healthz.

  --listen ADDRESS       where to listen; port 0 takes a free one [127.0.0.1:3000]
  --store URL            where events are kept: memory:, file:PATH, or (with the features of these names)
                         redis://..., nats://..., postgres://...; several servers may share all but the first [memory:]
  --retention-events N   most events kept per channel [1000]
  --retention-age S      seconds that an event is kept [3600]
  --retention-bytes N    most bytes kept per channel [8388608]
  --ring-bytes N         recent events kept encoded per channel that is read, in bytes [262144]
  --heartbeat S          seconds of silence before a heartbeat [15]
  --max-age S            seconds after which a stream ends, to be resumed [never]
  --drain S              seconds over which clients come back after a stop [5]
  --workers N            threads [one per processor]
  --cors                 let pages of every origin read and publish
  --help";

/// How long a stopping server waits for clients that do not read.
const PATIENCE: Duration = Duration::from_secs(10);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
