//! The same answers for chat front ends: the wire of the AI SDK (`ai` on npm, version 5 or newer), whose `DefaultChatTransport`
//! resumes streams. In a page:
//!
//! ```text
//! useChat({ id, resume: true, transport: new DefaultChatTransport({ api: "/api/chat" }) })
//! ```
//!
//! Its `stop()` only closes the connection; what ends the answer is `POST /api/chat/{id}/stop`.

use axum::extract::{Json, Path, State};
use axum::response::{IntoResponse, Response, Result};
use axum::{Router, http::StatusCode, routing::get, routing::post};
use serde::Deserialize;
use serde_json::{Value, json};
use tower_events::{
    Channel, Delivery, InvalidChannel, RunOutcome, RunState, Subscription, sse::SseOptions, store::Entry, store::Start,
};

use crate::{App, run};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/chat", post(send))
        .route("/api/chat/{id}/stream", get(resume))
        .route("/api/chat/{id}/stop", post(stop))
}

#[derive(Deserialize)]
struct Chat {
    id: String,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

/// Answers the last message of a chat.
async fn send(State(app): State<App>, Json(chat): Json<Chat>) -> Result<Response> {
    let question = chat.messages.last().into_iter().flat_map(|last| &last.parts).map(|part| &*part.text).collect();
    let id = app.start(&channel(&chat.id)?, question).await?;
    stream(&app, &id).await
}

/// The newest answer of a chat, from its beginning; 204 if there is none, or it is no longer kept.
async fn resume(State(app): State<App>, Path(chat): Path<String>) -> Result<Response> {
    let id = newest(&app, &chat).await?;
    match app.runs.state(&run(&id)?).await? {
        None | Some(RunState::Expired) => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(_) => stream(&app, &id).await,
    }
}

async fn stop(State(app): State<App>, Path(chat): Path<String>) -> Result<StatusCode> {
    let run = run(&newest(&app, &chat).await?)?;
    if app.runs.state(&run).await?.is_some() {
        app.runs.stop(&run).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The id of the newest answer: it is the position of its question, the last event of the chat's channel.
async fn newest(app: &App, chat: &str) -> Result<String> {
    Ok(app.hub.position(&channel(chat)?.into()).await?.to_string())
}

fn channel(chat: &str) -> std::result::Result<Channel, InvalidChannel> {
    Channel::new(format!("chat:{chat}"))
}

async fn stream(app: &App, id: &str) -> Result<Response> {
    let subscription = Subscription::new(run(id)?).start(Start::Beginning);
    let stream = app.hub.sse_with(subscription, &SseOptions::default().data_only(texts)).await?;
    Ok(([("x-vercel-ai-ui-message-stream", "v1")], stream).into_response())
}

fn texts(delivery: &Delivery) -> Vec<String> {
    match delivery {
        Delivery::Events(events) => events.entries().flat_map(chunks).map(|chunk| chunk.to_string()).collect(),
        Delivery::Closed(_) => vec!["[DONE]".into()],
        _ => vec![json!({ "type": "error", "errorText": "The stream was interrupted: please resume it." }).to_string()],
    }
}

/// <https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol>
fn chunks(entry: &Entry) -> Vec<Value> {
    match RunOutcome::of(entry) {
        Some(RunOutcome::Finished) => vec![json!({ "type": "text-end", "id": "0" }), json!({ "type": "finish" })],
        Some(RunOutcome::Stopped) => vec![json!({ "type": "abort" })],
        Some(outcome) => vec![json!({ "type": "error", "errorText": format!("The answer was {outcome}.") })],
        None if entry.name.is_none() => {
            vec![json!({ "type": "text-delta", "id": "0", "delta": entry.data.as_shown() })]
        }
        // The beginning of the run.
        None => vec![
            json!({ "type": "start", "messageId": entry.channel.as_str() }),
            json!({ "type": "text-start", "id": "0" }),
        ],
    }
}
