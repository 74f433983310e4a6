//! Notifications: each user has an inbox, and a page that shows how many are unread.
//!
//! Users sign in and get a token (JWT), which the events take in a header, a cookie or the query. An open stream ends when its
//! token expires, and at once in every process when the user signs out everywhere (`Hub::revoke`). A page that comes gets what is
//! unread as a snapshot from the database, which is the source of truth; events only say what changes.
//!
//! ```text
//! cargo run --release --example notifications    # then can come: the address, the database, and the life of a token in seconds
//! curl -d user=ada http://127.0.0.1:3000/login                   # prints a token
//! curl -N 'http://127.0.0.1:3000/events?transport=sse&access_token=TOKEN'
//! curl -d to=ada -d text=Hello -H 'Authorization: Bearer TOKEN' http://127.0.0.1:3000/notify
//! ```

#[path = "../common/stop.rs"]
mod stop;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env::args, error::Error};

use axum::extract::{Form, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Json, Response, Result};
use axum::{Router, routing::get, routing::post, serve::ListenerExt};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{net::TcpListener, task::block_in_place};
use tower_events::{
    Channel, Data, Event, EventService, FileStore, Grant, Hub, InvalidChannel, Rejection, SnapshotRequest, Snapshots,
};

#[derive(Clone)]
struct App {
    hub: Hub,
    db: Arc<Mutex<Connection>>,
    token_life: Duration,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    exp: u64,
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into())).await?;
    let database = args().nth(2).unwrap_or_else(|| "notifications.db".into());
    let token_life = Duration::from_secs(args().nth(3).map_or(Ok(15 * 60), |seconds| seconds.parse())?);
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
        let grant = Grant::new(inbox(&user.sub)?).names(|_| "inbox");
        Ok(grant.until(UNIX_EPOCH + Duration::from_secs(user.exp)).subject(user.sub))
    });
    let events = events.snapshots(Snapshots::new(move |request| std::future::ready(reading.unread(&request))));
    let css = || async { ([(CONTENT_TYPE, "text/css")], include_str!("notifications.css")) };
    let script = || async { ([(CONTENT_TYPE, "text/javascript")], include_str!("notifications.js")) };
    Router::new()
        .route("/", get(|| async { Html(include_str!("index.html")) }))
        .route("/notifications.css", get(css))
        .route("/notifications.js", get(script))
        .route("/login", post(login))
        .route("/renew", post(renew))
        .route("/logout", post(logout))
        .route("/read", post(read))
        .route("/notify", post(notify))
        .route_service("/events", events)
        .layer(from_fn(log)) // sees no token: the next layer is in front of it
        .layer(from_fn(take_from_query))
        .with_state(app)
}

fn inbox(user: &str) -> std::result::Result<Channel, InvalidChannel> {
    Channel::new(format!("inbox:{user}"))
}

impl App {
    /// Uses the database. A failure is temporary: clients come back.
    fn db<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> std::result::Result<T, Rejection> {
        let done = block_in_place(|| work(&self.db.lock().unwrap_or_else(PoisonError::into_inner)));
        done.map_err(|error| {
            eprintln!("the database failed: {error}");
            Rejection::too_many(Duration::from_secs(1))
        })
    }

    /// Whose token a request brings, in its header or its cookie.
    fn user(&self, headers: &HeaderMap) -> std::result::Result<Claims, Rejection> {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let cookies = headers.get(COOKIE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let cookie = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("token="));
        let token = bearer.or(cookie).unwrap_or_default();
        let name = decode_header(token).ok().and_then(|header| header.kid);
        let key: Option<Vec<u8>> = self.db(|db| db.query_row(KEY, [name], |row| row.get(0)).optional())?;
        let mut validation = Validation::default();
        (validation.leeway, validation.reject_tokens_expiring_in_less_than) = (0, 1); // as RFC 7519 says
        let user = key.and_then(|key| decode(token, &DecodingKey::from_secret(&key), &validation).ok());
        user.map(|user| user.claims).ok_or_else(|| Rejection::unauthorized("Bearer"))
    }

    /// Issues a token that is signed with the user's own key.
    fn sign_in(&self, user: String) -> std::result::Result<impl IntoResponse + use<>, StatusCode> {
        let new = "INSERT INTO users VALUES (?1, randomblob(32)) ON CONFLICT DO NOTHING";
        let key = self.db(|db| db.execute(new, [&user]).and_then(|_| db.query_row(KEY, [&user], |row| row.get(0))));
        let key = key.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
        let (life, key): (u64, Vec<u8>) = (self.token_life.as_secs(), key);
        let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() + life;
        let header = Header { kid: Some(user.clone()), ..Header::default() };
        let token = encode(&header, &Claims { sub: user, exp }, &EncodingKey::from_secret(&key));
        let token = token.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        let cookie = format!("token={token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={life}");
        Ok(([(SET_COOKIE, cookie)], Json(json!({ "token": token, "life": life }))))
    }

    /// What the owner of an inbox has not read.
    fn unread(&self, request: &SnapshotRequest) -> std::result::Result<Event, Box<dyn Error + Send + Sync>> {
        let user = request.channel.as_str().strip_prefix("inbox:");
        let unread: String = self.db(|db| db.query_row(UNREAD, [user], |row| row.get(0)))?;
        Ok(Event::new(Data::from_json(unread)?).named("unread")?)
    }
}

#[derive(Deserialize)]
struct Login {
    user: String,
}

/// Signs anybody in; a password is left to be added.
async fn login(State(app): State<App>, Form(Login { user }): Form<Login>) -> Result<impl IntoResponse> {
    inbox(&user)?;
    Ok(app.sign_in(user)?)
}

/// A new token for a page that is open when the old one is about to expire.
async fn renew(State(app): State<App>, headers: HeaderMap) -> Result<impl IntoResponse> {
    Ok(app.sign_in(app.user(&headers)?.sub)?)
}

/// Signs the user out in every browser: all tokens become invalid, and open streams end.
async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<StatusCode> {
    let user = app.user(&headers)?.sub;
    app.db(|db| db.execute("UPDATE users SET key = randomblob(32) WHERE name = ?1", [&user]))?;
    app.hub.revoke(user).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Read {
    until: i64,
}

async fn read(State(app): State<App>, headers: HeaderMap, Form(Read { until }): Form<Read>) -> Result<StatusCode> {
    let user = app.user(&headers)?.sub;
    app.db(|db| db.execute("UPDATE notifications SET read = 1 WHERE owner = ?1 AND id <= ?2", (&user, until)))?;
    app.hub.publish(&inbox(&user)?, Event::json(&until)?.named("read")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Notify {
    to: String,
    text: String,
}

/// Stores a notification, then announces it. What is lost in between is in the snapshot of the next page.
async fn notify(State(app): State<App>, headers: HeaderMap, Form(form): Form<Notify>) -> Result<StatusCode> {
    let (sender, to) = (app.user(&headers)?.sub, inbox(&form.to)?);
    if form.text.len() > 1_000 {
        return Err(Rejection::bad_request("the text is longer than 1000 bytes").into());
    }
    let values = [form.to, sender, form.text];
    let stored: String = app.db(|db| db.query_row(NOTIFY, values, |row| row.get(0)))?;
    app.hub.publish(&to, Event::new(Data::from_json(stored)?).named("notification")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Moves a token from the query, where an `EventSource` of another origin has to put it, into a header: what logs the address
/// behind this does not see it.
async fn take_from_query(mut request: Request, next: Next) -> Response {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let (token, rest): (Vec<_>, Vec<_>) = query.split('&').partition(|pair| pair.starts_with("access_token="));
    let token = token.first().and_then(|pair| HeaderValue::try_from(pair.replacen("access_token=", "Bearer ", 1)).ok());
    if let (Some(token), Ok(uri)) = (token, Uri::try_from(format!("{path}?{}", rest.join("&")))) {
        request.headers_mut().insert(AUTHORIZATION, token);
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

async fn log(request: Request, next: Next) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    let response = next.run(request).await;
    eprintln!("{line} {}", response.status().as_u16());
    response
}

const SCHEMA: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS users (name TEXT PRIMARY KEY, key BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS notifications (id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, sender TEXT NOT NULL,
        text TEXT NOT NULL, read INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX IF NOT EXISTS unread ON notifications (owner, id) WHERE NOT read;";
const KEY: &str = "SELECT key FROM users WHERE name = ?1";
const NOTIFY: &str = "INSERT INTO notifications (owner, sender, text) VALUES (?1, ?2, ?3)
    RETURNING json_object('id', id, 'sender', sender, 'text', text)";
/// The newest 500: a snapshot has at most 1 MiB.
const UNREAD: &str =
    "SELECT json_object('user', ?1, 'unread', json_group_array(json_object('id', id, 'sender', sender, 'text', text)))
    FROM (SELECT * FROM notifications WHERE owner = ?1 AND NOT read ORDER BY id DESC LIMIT 500)";
