//! Answers that are generated once and read by any number of pages: a reload continues them, and so does the end of a process.
//!
//! Each answer is a run. It goes on when nobody reads it, any page reads it from its beginning, and it always comes to an end:
//! processes that share the file notice when one of them was killed. `chat.rs` offers the same to chat front ends.
//!
//! ```text
//! cargo run --release --example answers                              # the address and the file can follow
//! cargo run --release --example answers 127.0.0.1:3001 answers.db    # a second process
//! curl -d question=Why? http://127.0.0.1:3000/ask                    # prints an id
//! curl -N 'http://127.0.0.1:3001/answers/ID?transport=sse'
//! curl -X DELETE http://127.0.0.1:3001/answers/ID                    # stops it, from anywhere
//! ```

mod chat;
#[path = "../common/stop.rs"]
mod stop;

use std::{collections::BTreeMap, env::args, error::Error, time::Duration};

use axum::extract::{Form, Path, Request, State};
use axum::response::{Html, IntoResponse, Json, Result};
use axum::{Router, routing::get, routing::post, serve::ListenerExt};
use serde::Deserialize;
use tokio::{net::TcpListener, time::sleep};
use tower_events::{
    Channel, Compaction, Event, EventService, FileStore, Hub, InvalidChannel, Retention, Run, RunOver, RunState, Runs,
    store::Start,
};

#[derive(Clone)]
struct App {
    hub: Hub,
    runs: Runs,
    answers: EventService,
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".into())).await?;
    let file = args().nth(2).unwrap_or_else(|| "answers.db".into());
    // An event is a token here, and all events of an answer are kept.
    let hub = Hub::new(FileStore::options().retention(Retention::default().events(20_000)).open(file)?);
    let runs = Runs::new(hub.clone());
    // A late reader gets the tokens that it missed joined.
    let answers = EventService::without_resolver(hub.clone()).start(Start::Beginning);
    let answers = answers.compaction(Compaction::joined_text());
    let questions = EventService::fixed(hub.clone(), Channel::new(QUESTIONS)?).start(Start::Earliest);
    let app = Router::new()
        .route("/", get(|| async { Html(include_str!("index.html")) }))
        .route("/ask", post(ask))
        .route_service("/questions", questions)
        .route("/answers", get(list))
        .route("/answers/{id}", get(answer).delete(stop_answer))
        .merge(chat::routes())
        .with_state(App { hub: hub.clone(), runs: runs.clone(), answers });
    println!("open http://{}/ in a browser; Ctrl-C stops", listener.local_addr()?);
    let listener = listener.tap_io(|io| _ = io.set_nodelay(true)); // or tokens wait for the client's ACK
    let stop = stop::drained(hub, Duration::from_secs(1), Duration::from_millis(500));
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    runs.shut_down(Duration::from_secs(5)).await;
    Ok(())
}

impl App {
    /// Stores the question in `channel`, and starts a run that answers it. Its name is the position of the question.
    async fn start(&self, channel: &Channel, question: String) -> Result<String> {
        let id = self.hub.publish(channel, Event::text(&*question)).await?.cursor.to_string();
        self.runs.start(&run(&id)?, |run| generate(run, question)).await?;
        Ok(id)
    }
}

/// The model: a few lines that publish tokens. Replace them by the call of a real one.
async fn generate(run: Run, question: String) -> std::result::Result<(), RunOver> {
    for token in format!("You asked: “{question}”\n\n{ANSWER}").split_inclusive([' ', '\n']) {
        run.publish(Event::text(token)).await?;
        sleep(Duration::from_millis(fastrand::u64(10..60))).await;
    }
    Ok(())
}

fn run(id: &str) -> std::result::Result<Channel, InvalidChannel> {
    Channel::new(format!("run:{id}"))
}

#[derive(Deserialize)]
struct Ask {
    question: String,
}

async fn ask(State(app): State<App>, Form(Ask { question }): Form<Ask>) -> Result<String> {
    app.start(&Channel::new(QUESTIONS)?, question).await
}

async fn answer(State(app): State<App>, Path(id): Path<String>, request: Request) -> Result<impl IntoResponse> {
    Ok(app.answers.respond(request, run(&id)?).await)
}

async fn stop_answer(State(app): State<App>, Path(id): Path<String>) -> Result<String> {
    Ok(app.runs.stop(&run(&id)?).await?.to_string())
}

/// The states of all answers, by id.
async fn list(State(app): State<App>) -> Result<Json<BTreeMap<String, String>>> {
    let mut runs: Vec<(Channel, RunState)> = Vec::new();
    loop {
        let page = app.runs.list(runs.last().map(|(last, _)| last), 1_000).await?;
        if page.is_empty() {
            let id = |channel: Channel| channel.as_str().replacen("run:", "", 1);
            return Ok(Json(runs.into_iter().map(|(run, state)| (id(run), state.to_string())).collect()));
        }
        runs.extend(page);
    }
}

const QUESTIONS: &str = "questions";

const ANSWER: &str = "I am no model, only a few lines that know this text. But I am a run: each word is stored as soon as I say it, \
and I go on when nobody reads.\n\nReload this page, and you get what I said while it was away. Open it in a second tab, on a phone, \
or at another process that shares my file: each reads me from my first word, and all of them see the same.\n\nStop me, and every \
page sees it at once. Kill my process in the middle of a sentence, and within twenty seconds another one notices, and tells all \
pages that I was abandoned. Nothing that I said before is lost.";
