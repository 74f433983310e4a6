//! Notifications: each user has an inbox, and a page that shows how many are unread.
//!
//! Users get a token (JWT), which everything takes in a header, a cookie or the query, and no log contains. An open stream ends
//! when its token expires, and at once in every process when the user signs out everywhere (`Hub::revoke`). A page that comes
//! gets what is unread as a snapshot from the database, which is the source of truth; events only say what changes.
//!
//! ```text
//! cargo run --release --example notifications    # then can come: the address, the database, and the life of a token in seconds
//! curl -d ada http://127.0.0.1:3000/token                        # prints a token
//! curl -N 'http://127.0.0.1:3000/events?transport=sse&access_token=TOKEN'
//! curl -d Hello -H 'Authorization: Bearer TOKEN' http://127.0.0.1:3000/notify/ada
//! ```

#[path = "../common/stop.rs"]
mod stop;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use std::{env::args, error::Error, future::ready, io::stderr};

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header::SET_COOKIE};
use axum::response::{Html, IntoResponse, Result};
use axum::{Router, routing::get, routing::post, serve::ListenerExt};
use jsonwebtoken::{
    DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode, get_current_timestamp,
};
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, task::block_in_place};
use tower_events::bearer::{self, BearerLayer};
use tower_events::{Channel, Data, Event, EventService, FileStore, Grant, Hub, InvalidChannel, Rejection, Snapshots};
use tower_http::trace::TraceLayer;

#[derive(Clone)]
struct App {
    hub: Hub,
    db: Arc<Mutex<Connection>>,
    /// In seconds.
    token_life: u64,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_env_filter("info,tower_http=debug").with_writer(stderr).with_ansi(false).init();
    let listener = TcpListener::bind(args().nth(1).unwrap_or("127.0.0.1:3000".into())).await?;
    let database = args().nth(2).unwrap_or("notifications.db".into());
    let token_life = args().nth(3).map_or(Ok(15 * 60), |seconds| seconds.parse())?;
    let hub = Hub::new(FileStore::open(format!("{database}.events"))?);
    let db = Connection::open(database)?;
    db.execute_batch(SCHEMA)?;
    let app = App { hub: hub.clone(), db: Arc::new(Mutex::new(db)), token_life };
    println!("open http://{}/ in a browser; Ctrl-C stops", listener.local_addr()?);
    let listener = listener.tap_io(|io| _ = io.set_nodelay(true)); // or small events wait for the client's ACK
    let stop = stop::drained(hub, Duration::from_secs(2), Duration::from_millis(500));
    Ok(axum::serve(listener, routes(app)).with_graceful_shutdown(stop).await?)
}

fn routes(app: App) -> Router {
    let (resolving, reading) = (app.clone(), app.clone());
    let events = EventService::new(app.hub.clone(), move |request| {
        let user = resolving.user(&request.headers)?;
        Ok(Grant::new(inbox(&user.sub)?).until(UNIX_EPOCH + Duration::from_secs(user.exp)).subject(user.sub))
    });
    let snapshots = Snapshots::new(move |request| ready(reading.unread(&request.channel)));
    Router::new()
        .route("/", get(Html(include_str!("index.html"))))
        .route("/token", post(token))
        .route("/logout", post(logout))
        .route("/read/{until}", post(read))
        .route("/notify/{to}", post(notify))
        .route_service("/events", events.snapshots(snapshots))
        .layer(DefaultBodyLimit::max(1_000))
        .layer(TraceLayer::new_for_http().on_request(()).on_eos(())) // sees no token: the next layer is in front of it
        .layer(BearerLayer::new().query("access_token").cookie("token"))
        .with_state(app)
}

fn inbox(user: &str) -> Result<Channel, InvalidChannel> {
    Channel::new(format!("inbox:{user}"))
}

impl App {
    /// Uses the database. A failure is temporary: clients come back.
    fn db<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Rejection> {
        let done = block_in_place(|| work(&self.db.lock().unwrap_or_else(PoisonError::into_inner)));
        let done = done.inspect_err(|error| tracing::error!(%error, "the database failed"));
        done.map_err(|_| Rejection::unavailable(Duration::from_secs(1)))
    }

    /// Whose token a request brings. It must be signed with the user's own key, which every sign-out replaces.
    fn user(&self, headers: &HeaderMap) -> Result<Claims, Rejection> {
        let token = bearer::token(headers).unwrap_or_default();
        let name = decode_header(token).ok().and_then(|header| header.kid);
        let sql = "SELECT key FROM users WHERE name = ?1";
        let key: Option<Vec<u8>> = self.db(|db| db.query_one(sql, [name], |row| row.get(0)).optional())?;
        let mut validation = Validation::default();
        (validation.leeway, validation.reject_tokens_expiring_in_less_than) = (0, 1); // as RFC 7519 says
        let token = key.and_then(|key| decode(token, &DecodingKey::from_secret(&key), &validation).ok());
        token.map(|token| token.claims).ok_or(Rejection::unauthorized("Bearer"))
    }

    /// What the owner of an inbox has not read.
    fn unread(&self, inbox: &Channel) -> Result<Event, Box<dyn Error + Send + Sync>> {
        let user = inbox.as_str().strip_prefix("inbox:");
        let unread: String = self.db(|db| db.query_one(UNREAD, [user], |row| row.get(0)))?;
        Ok(Event::new(Data::from_json(unread)?).named("unread")?)
    }
}

/// Issues a token to whoever gives a name (a password is left to be added), or has a token that is still valid.
async fn token(State(app): State<App>, headers: HeaderMap, name: String) -> Result<impl IntoResponse> {
    let user = if name.is_empty() { app.user(&headers)?.sub } else { name };
    inbox(&user)?;
    let key: Vec<u8> = app.db(|db| db.query_one(SIGN_IN, [&user], |row| row.get(0)))?;
    let header = Header { kid: Some(user.clone()), ..Header::default() };
    let claims = Claims { sub: user, exp: get_current_timestamp() + app.token_life };
    let token = encode(&header, &claims, &EncodingKey::from_secret(&key));
    let token = token.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let cookie = format!("token={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}", app.token_life);
    Ok(([(SET_COOKIE, cookie)], token))
}

/// Signs the user out in every browser: all tokens become invalid, and open streams end.
async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<()> {
    let user = app.user(&headers)?.sub;
    app.db(|db| db.execute("UPDATE users SET key = randomblob(32) WHERE name = ?1", [&user]))?;
    Ok(app.hub.revoke(user).await?)
}

/// Marks what came up to a notification as read.
async fn read(State(app): State<App>, headers: HeaderMap, Path(until): Path<i64>) -> Result<()> {
    let user = app.user(&headers)?.sub;
    app.db(|db| db.execute("UPDATE users SET read = max(read, ?2) WHERE name = ?1", (&user, until)))?;
    app.hub.publish(&inbox(&user)?, Event::json(&until)?.named("read")?).await?;
    Ok(())
}

/// Stores a notification, then announces it. What is lost in between is in the snapshot of the next page.
async fn notify(State(app): State<App>, headers: HeaderMap, Path(to): Path<String>, text: String) -> Result<()> {
    let (sender, inbox) = (app.user(&headers)?.sub, inbox(&to)?);
    let stored: String = app.db(|db| db.query_one(NOTIFY, (to, sender, text), |row| row.get(0)))?;
    app.hub.publish(&inbox, Event::new(Data::from_json(stored)?).named("notification")?).await?;
    Ok(())
}

const SCHEMA: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, key BLOB NOT NULL, read INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE IF NOT EXISTS notifications (id INTEGER PRIMARY KEY, owner TEXT, sender TEXT, text TEXT);
    CREATE INDEX IF NOT EXISTS by_owner ON notifications (owner, id);";
const SIGN_IN: &str =
    "INSERT INTO users (name, key) VALUES (?1, randomblob(32)) ON CONFLICT DO UPDATE SET key = key RETURNING key";
const NOTIFY: &str = "INSERT INTO notifications (owner, sender, text) VALUES (?1, ?2, ?3)
    RETURNING json_object('id', id, 'sender', sender, 'text', text)";
/// The newest 100: a snapshot has at most 1 MiB, and each byte of a text can become six.
const UNREAD: &str =
    "SELECT json_object('user', ?1, 'unread', json_group_array(json_object('id', id, 'sender', sender, 'text', text)))
    FROM (SELECT * FROM notifications JOIN users ON name = owner WHERE name = ?1 AND id > read ORDER BY id DESC LIMIT 100)";
