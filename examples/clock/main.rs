//! The server's time over Server-Sent Events, in the two ways of an old article on the subject, and a page to watch them.
//!
//! `/once` sends one event and ends the response, so that the page reconnects for ever. `/clock` sends the time each second in
//! one endless response; a page that was cut off gets the seconds that it missed.
//!
//! ```text
//! cargo run --release --example clock
//! curl -N http://127.0.0.1:3000/clock
//! ```

#[path = "../common/stop.rs"]
mod stop;

use std::{
    error::Error,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    http::header,
    response::{Html, IntoResponse},
    routing::get,
    serve::ListenerExt,
};
use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval},
};
use tower_events::{Channel, Event, Hub, MemoryStore, Retention, SseService, sse::SseOptions};

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let listen = match listen() {
        Ok(Some(listen)) => listen,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clock: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clock: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(listen: SocketAddr) -> Result<(), BoxError> {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(60)));
    let channel = Channel::new("clock")?;
    tokio::spawn(tick(hub.clone(), channel.clone()));

    let options = SseOptions::default().retry(Duration::from_secs(1));
    let app = Router::new()
        .route("/", get(|| async { Html(include_str!("index.html")) }))
        .route("/once", get(once))
        .route_service("/clock", SseService::fixed(hub.clone(), channel).options(options));

    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    println!("open http://{}/ in a browser; Ctrl-C stops", listener.local_addr()?);
    let listener = listener.tap_io(|io| _ = io.set_nodelay(true)); // or small events wait for the client's ACK
    let stop = stop::drained(hub, Duration::from_secs(1), Duration::from_millis(500));
    Ok(axum::serve(listener, app).with_graceful_shutdown(stop).await?)
}

/// The wire format written by hand: one event, then the end of the response.
async fn once() -> impl IntoResponse {
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    let now = now();
    (
        headers,
        format!(
            "retry: 100\ndata: server time: {} UTC\ndata: sent once\nid: {}\n\n",
            time_of_day(now),
            now.as_millis()
        ),
    )
}

/// Publishes the time each second, whether or not there are readers.
async fn tick(hub: Hub, channel: Channel) -> Result<(), BoxError> {
    let start = Instant::now();
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for tick in 1_u64.. {
        seconds.tick().await;
        let (time, up) = (time_of_day(now()), start.elapsed().as_secs());
        hub.publish(&channel, Event::text(format!("server time: {time} UTC\nup for {up} s"))).await?;
        if tick % 5 == 0 {
            // A page receives named events only through a listener for that name.
            hub.publish(&channel, Event::text(format!("every fifth second: {time} UTC")).named("chime")?).await?;
        }
    }
    Ok(())
}

/// Time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Hours, minutes and seconds, in UTC.
fn time_of_day(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// Parses the only option; `None` if help was printed instead.
fn listen() -> Result<Option<SocketAddr>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut listen = SocketAddr::from(([127, 0, 0, 1], 3000));
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("listen") => listen = arguments.value()?.parse()?,
            Short('h') | Long("help") => {
                println!("{HELP}");
                return Ok(None);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Some(listen))
}

const HELP: &str = "\
The server's time over Server-Sent Events.

  --listen ADDRESS   where to listen; port 0 picks a free one [127.0.0.1:3000]
  --help";
