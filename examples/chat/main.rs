//! A chat: users write messages and see each other's at once.
//!
//! `POST /chat` stores a user's message in a database and then announces it on a channel. `/events` serves the channel to
//! browsers, by Server-Sent Events or long polling. When a connection or the server goes away, the page (`index.html`,
//! `chat.js`) continues from where it was; the part to copy from is `stream.js`.
//!
//! ```text
//! cargo run --release --example chat
//! cargo run --release --example chat -- --listen 127.0.0.1:3001   # the same chat in a second process
//! curl -d action=message -d user=Ada -d content=Hello http://127.0.0.1:3000/chat
//! ```

mod db;
mod options;
#[path = "../common/stop.rs"]
mod stop;
#[path = "../common/store.rs"]
mod store;
#[cfg(test)]
mod tests;

use std::{error::Error, process::ExitCode, sync::Arc, time::Duration};

use axum::{
    Form, Json, Router,
    extract::{DefaultBodyLimit, State, rejection::FormRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Mutex};
use tower_events::{
    Channel, Event, EventService, Hub, InvalidChannel, InvalidEvent, Listen, Retention, Store, Subscription,
    store::Start,
};

use self::{
    db::{Db, Draft, Message},
    options::{HELP, Options},
    store::StoreUrl,
};

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), BoxError> {
    let Options { listen, database, store } = options;
    let db = Db::open(&database).map_err(|error| format!("cannot open {}: {error}", database.display()))?;
    // Events are kept by count rather than by age, so that a quiet chat still shows its last messages.
    let retention = Retention::default().events(HISTORY).age(365 * DAY).key_window(DAY);
    // Processes on one database share its events too, and so are one chat.
    let store = store.unwrap_or_else(|| StoreUrl::File(database.with_extension("events")));
    let chat = Chat::new(store::open(&store, retention).await?, db)?;
    chat.start().await?;
    let hub = chat.hub.clone();

    let app = Router::new()
        .route("/", get(|| page("text/html; charset=utf-8", include_str!("index.html"))))
        .route("/chat.css", get(|| page("text/css; charset=utf-8", include_str!("chat.css"))))
        .route("/chat.js", get(|| page("text/javascript; charset=utf-8", include_str!("chat.js"))))
        .route("/stream.js", get(|| page("text/javascript; charset=utf-8", include_str!("stream.js"))))
        .route("/chat", post(act).layer(DefaultBodyLimit::max(64 << 10)))
        .route_service("/events", EventService::fixed(hub.clone(), &chat.channel))
        .with_state(chat);

    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    println!("open http://{}/ in a browser; Ctrl-C stops", listener.local_addr()?);
    let listener = listener.tap_io(|io| _ = io.set_nodelay(true)); // or small events wait for the client's ACK
    let stop = stop::drained(hub, Duration::from_secs(2), Duration::from_millis(500));
    Ok(axum::serve(listener, app).with_graceful_shutdown(stop).await?)
}

#[derive(Clone)]
struct Chat {
    hub: Hub,
    channel: Channel,
    db: Db,
    announcing: Arc<Mutex<()>>,
}

impl Chat {
    fn new(store: impl Store, db: Db) -> Result<Self, InvalidChannel> {
        Ok(Self { hub: Hub::new(store), channel: Channel::new("chat")?, db, announcing: Arc::default() })
    }

    /// Fills the channel from the database, unless it has been used before: a durable store keeps it across restarts, and
    /// other processes may have filled it.
    async fn start(&self) -> Result<(), BoxError> {
        let events = self.db.last(HISTORY).await?.iter().map(event).collect::<Result<_, _>>()?;
        self.hub.init_if_unused(&self.channel, events).await?;
        // Whichever process filled it, the last event says how far it got.
        let last = Subscription::new(&self.channel).start(Start::Last(1));
        for entry in self.hub.listen(Listen::from(last).wait(Duration::ZERO)).await?.entries() {
            let message: Message = serde_json::from_str(entry.data.as_shown())?;
            self.db.mark_announced(message.id).await?;
        }
        self.announce().await
    }

    /// Stores a message, then announces it.
    async fn write(&self, draft: Draft) -> Result<i64, Problem> {
        let id = self.db.insert(draft).await.map_err(|error| {
            eprintln!("chat: cannot store a message: {error}");
            Problem(StatusCode::SERVICE_UNAVAILABLE, "The message could not be stored. Please send it again.".into())
        })?;
        self.announce().await.map_err(|error| {
            eprintln!("chat: message {id} is stored, but not announced: {error}");
            let detail = format!(
                "Message {id} is stored, but other users do not see it yet. It will be announced with the next one; \
                 sending it again with the same `key` is harmless."
            );
            Problem(StatusCode::SERVICE_UNAVAILABLE, detail)
        })?;
        Ok(id)
    }

    /// Publishes every stored message that has not been announced, in order. If the process stopped after publishing an
    /// event and before recording that, the event's key makes publishing it again harmless.
    async fn announce(&self) -> Result<(), BoxError> {
        let _one_at_a_time = self.announcing.lock().await;
        loop {
            let messages = self.db.unannounced(100).await?;
            let Some(last) = messages.last().map(|message| message.id) else { return Ok(()) };
            let events = messages.iter().map(event).collect::<Result<Vec<_>, _>>()?;
            self.hub.publish_all(&self.channel, events).await?;
            self.db.mark_announced(last).await?;
        }
    }
}

fn event(message: &Message) -> Result<Event, InvalidEvent> {
    Event::json(message)?.named("message")?.at(message.time)?.keyed(format!("message-{}", message.id))
}

/// The fields of `POST /chat`.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Action {
    action: String,
    user: String,
    content: String,
    /// Chosen by the client, so that it can safely send a message again when it does not know the outcome.
    key: Option<String>,
}

/// Handles `POST /chat`.
async fn act(State(chat): State<Chat>, form: Result<Form<Action>, FormRejection>) -> Result<Json<Value>, Problem> {
    let Form(form) = form.map_err(|rejection| Problem(rejection.status(), rejection.body_text()))?;
    match form.action.as_str() {
        "message" => {
            let user = text("user", form.user, 40)?;
            if user.contains(char::is_control) {
                return Err(Problem::field("user", "contains a control character"));
            }
            let content = text("content", form.content, 4000)?;
            let key = form.key.map(|key| text("key", key, 64)).transpose()?;
            let id = chat.write(Draft { user, content, key }).await?;
            Ok(Json(json!({ "id": id })))
        }
        "" => Err(Problem::field("action", "is missing")),
        _ => Err(Problem::field("action", "is unknown: the only action is `message`")),
    }
}

/// The field's trimmed text, if it has 1 to `most` characters.
fn text(field: &str, text: String, most: usize) -> Result<String, Problem> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err(Problem::field(field, "is missing or empty")),
        length if length > most => {
            Err(Problem::field(field, &format!("has {length} characters: at most {most} are allowed")))
        }
        _ => Ok(text.to_owned()),
    }
}

/// An error as problem+json (RFC 9457).
#[derive(Debug)]
struct Problem(StatusCode, String);

impl Problem {
    fn field(field: &str, why: &str) -> Self {
        Self(StatusCode::BAD_REQUEST, format!("The field `{field}` {why}."))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(status, detail) = self;
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({ "status": status.as_u16(), "title": title, "detail": detail }).to_string();
        let headers = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        (status, headers, body).into_response()
    }
}

/// Serves a file of the page. Its content security policy forbids scripts and other resources from elsewhere.
async fn page(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let policy =
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}

/// How many messages a page shows when it is opened.
const HISTORY: u64 = 500;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
