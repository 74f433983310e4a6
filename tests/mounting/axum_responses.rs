//! Handlers of axum that return the crate's errors and streams (feature `axum`).

use axum::response::IntoResponse;
use tower_events::{
    Channel, InvalidChannel, InvalidEvent, Rejection, SseBody, StoreError, SubscribeError, Subscription,
};

use super::*;

#[tokio::test]
async fn a_handler_returns_errors_of_several_kinds_with_the_question_mark_operator() {
    async fn say(State(hub): State<Hub>, Path(room): Path<String>, body: String) -> axum::response::Result<StatusCode> {
        if room == "secret" {
            Err(Rejection::unauthorized("Bearer"))?;
        }
        let room = Channel::new(room)?;
        hub.publish(&room, Event::text(body).named(room.as_str())?).await?;
        Ok(StatusCode::NO_CONTENT)
    }
    let hub = hub();
    hub.close(&channel("closed")).await.unwrap();
    let server = serve(Router::new().route("/{room}", axum::routing::post(say)).with_state(hub)).await;
    server.post("/a", "text/plain", "x").send().await.expect(204);
    let refused = server.post("/secret", "text/plain", "x").send().await;
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    refused.problem(401);
    server.post("/a%0Ab", "text/plain", "x").send().await.problem(400);
    server.post("/stream-x", "text/plain", "x").send().await.problem(422);
    server.post("/closed", "text/plain", "x").send().await.problem(409);
}

#[tokio::test]
async fn a_handler_returns_one_kind_of_error_and_a_stream() {
    async fn stream(State(hub): State<Hub>) -> Result<SseBody, SubscribeError> {
        hub.sse(Subscription::new(channel("a"))).await
    }
    async fn publish(State(hub): State<Hub>) -> Result<(), StoreError> {
        hub.publish(&channel("a"), Event::text("x")).await?;
        Ok(())
    }
    let hub = hub();
    let routes = Router::new().route("/stream", get(stream)).route("/publish", get(publish)).with_state(hub.clone());
    let server = serve(routes).await;
    let mut opened = server.get("/stream").sse().await;
    assert!(opened.headers["content-type"].as_bytes().starts_with(b"text/event-stream"));
    server.get("/publish").send().await.expect(200);
    assert_eq!(opened.next().await.data, "x");
    hub.drain(Duration::from_secs(1));
    server.get("/stream").send().await.problem(503);
}

#[test]
fn each_error_has_the_same_response_by_itself_and_by_from() {
    fn check<E: IntoResponse + Into<Response<Body>>>(error: fn() -> E) {
        let (one, other) = (error().into_response(), error().into());
        // Only `Retry-After` differs: its values are spread.
        assert_eq!(one.status(), other.status());
        assert!(one.headers().keys().eq(other.headers().keys()), "{one:?} {other:?}");
        assert_eq!(one.headers()["content-type"], "application/problem+json");
    }
    check(|| StoreError::Unavailable("x".into()));
    check(|| SubscribeError::Stalled);
    check(|| InvalidChannel::Empty);
    check(|| tower_events::InvalidChannels::Empty);
    check(|| InvalidEvent::ReservedName);
    check(Rejection::forbidden);
}
