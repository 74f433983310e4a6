//! Notifications: each user has an inbox, and a page that shows how many are unread.
//!
//! Users sign in and get a token (JWT), which the events take in a header, a cookie or the query. An open stream ends when its
//! token expires, and at once in every process when the user signs out everywhere (`Hub::revoke`).
//!
//! ```text
//! cargo run --release --example notifications
//! curl -d user=ada http://127.0.0.1:3000/login                   # prints a token
//! curl -N 'http://127.0.0.1:3000/events?transport=sse&access_token=TOKEN'
//! curl -d to=ada -d text=Hello -H 'Authorization: Bearer TOKEN' http://127.0.0.1:3000/notify
//! ```

mod db;
mod options;
mod page;
#[path = "../common/stop.rs"]
mod stop;
#[cfg(test)]
mod tests;
mod token;

use std::{error::Error, process::ExitCode, time::Duration};

use axum::{
    Form, Json, Router,
    extract::State,
    http::{HeaderMap, header::SET_COOKIE},
    middleware::from_fn,
    response::{IntoResponse, Result},
    routing::{get, post},
    serve::ListenerExt,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower_events::{Channel, Event, EventService, FileStore, Grant, Hub, InvalidChannel, Retention, Store};

use self::{
    db::Db,
    options::{HELP, Options},
    token::{Claims, Tokens, at, seconds},
};

type BoxError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    match Options::parse() {
        Ok(Some(options)) => match run(options).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("notifications: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("notifications: {error}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

async fn run(Options { listen, database, token_life }: Options) -> std::result::Result<(), BoxError> {
    // Revocations have to be kept for as long as tokens are valid.
    let retention = Retention::default().age(token_life * 2);
    let store = FileStore::options().retention(retention).open(database.with_extension("events"))?;
    let app = App::new(store, Db::open(&database)?, token_life)?;
    let hub = app.hub.clone();
    let listener = TcpListener::bind(listen).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    println!("open http://{}/ in a browser; Ctrl-C stops", listener.local_addr()?);
    let listener = listener.tap_io(|io| _ = io.set_nodelay(true)); // or small events wait for the client's ACK
    let stop = stop::drained(hub, Duration::from_secs(2), Duration::from_millis(500));
    Ok(axum::serve(listener, app.routes()).with_graceful_shutdown(stop).await?)
}

#[derive(Clone)]
struct App {
    hub: Hub,
    db: Db,
    tokens: Tokens,
}

impl App {
    fn new(store: impl Store, db: Db, token_life: Duration) -> rusqlite::Result<Self> {
        let tokens = Tokens::new(&db.secret()?, token_life);
        Ok(Self { hub: Hub::new(store), db, tokens })
    }

    fn routes(self) -> Router {
        let tokens = self.tokens.clone();
        let events = EventService::new(self.hub.clone(), move |request| {
            let user = tokens.check(&request.headers)?;
            let grant = Grant::new(inbox(&user.sub)?).names(|_| "inbox");
            Ok(grant.subject(user.sub).issued_at(at(user.iat)).until(at(user.exp)))
        });
        Router::new()
            .merge(page::routes())
            .route("/login", post(login))
            .route("/renew", post(renew))
            .route("/logout", post(logout))
            .route("/unread", get(unread))
            .route("/read", post(read))
            .route("/notify", post(notify))
            .route_service("/events", events)
            .layer(from_fn(token::log)) // sees no token: the next layer is in front of it
            .layer(from_fn(token::take_from_query))
            .with_state(self)
    }

    /// The user of a request to a handler. Revocations end streams and polls; for the rest there is the database.
    async fn user(&self, headers: &HeaderMap) -> Result<Claims> {
        let user = self.tokens.check(headers)?;
        let valid_from = self.db.valid_from(&user.sub).await?;
        if user.iat < valid_from { Err(token::unauthorized().into()) } else { Ok(user) }
    }

    async fn sign_in(&self, user: String) -> Result<impl IntoResponse + use<>> {
        // A token that is issued in the second after a revocation would count as issued before it.
        let from = self.db.valid_from(&user).await?.max(seconds());
        let token = self.tokens.issue(user, from)?;
        let cookie = [(SET_COOKIE, self.tokens.cookie(&token))];
        Ok((cookie, Json(json!({ "token": token, "life": self.tokens.life.as_secs() }))))
    }
}

fn inbox(user: &str) -> std::result::Result<Channel, InvalidChannel> {
    Channel::new(format!("inbox:{user}"))
}

#[derive(Deserialize)]
struct Login {
    user: String,
}

/// Signs anybody in; a password is left to be added.
async fn login(State(app): State<App>, Form(Login { user }): Form<Login>) -> Result<impl IntoResponse> {
    inbox(&user)?;
    app.sign_in(user).await
}

/// A new token for a page that is open when the old one is about to expire.
async fn renew(State(app): State<App>, headers: HeaderMap) -> Result<impl IntoResponse> {
    app.sign_in(app.user(&headers).await?.sub).await
}

/// Signs the user out in every browser.
async fn logout(State(app): State<App>, headers: HeaderMap) -> Result<Json<Value>> {
    let user = app.user(&headers).await?;
    app.db.set_valid_from(&user.sub, seconds() + 2).await?;
    app.hub.revoke(&user.sub).await?;
    Ok(Json(json!({})))
}

/// What is unread, and the position from which the page gets the rest: taken first, so that nothing is between the two.
async fn unread(State(app): State<App>, headers: HeaderMap) -> Result<Json<Value>> {
    let user = app.user(&headers).await?.sub;
    let position = app.hub.position(&inbox(&user)?.into()).await?;
    let unread = app.db.unread(&user).await?;
    Ok(Json(json!({ "user": user, "position": position.to_string(), "unread": unread })))
}

async fn read(State(app): State<App>, headers: HeaderMap) -> Result<Json<Value>> {
    let user = app.user(&headers).await?.sub;
    let until = app.db.mark_read(&user).await?;
    app.hub.publish(&inbox(&user)?, Event::json(&json!({ "until": until }))?.named("read")?).await?;
    Ok(Json(json!({})))
}

#[derive(Deserialize)]
struct Notify {
    to: String,
    text: String,
}

/// Stores a notification, then announces it. What is lost in between is still in the database when the page is opened.
async fn notify(State(app): State<App>, headers: HeaderMap, Form(form): Form<Notify>) -> Result<Json<Value>> {
    let (from, to) = (app.user(&headers).await?.sub, inbox(&form.to)?);
    let notification = app.db.add(&form.to, &from, &form.text).await?;
    app.hub.publish(&to, Event::json(&notification)?.named("notification")?).await?;
    Ok(Json(json!({})))
}
