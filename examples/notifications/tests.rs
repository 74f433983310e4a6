//! Tokens in every place, an open stream that ends with its token and by a sign-out elsewhere, and the unread count.

use std::{path::Path, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response},
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;
use tower_events::MemoryStore;

use super::{App, db::Db};

fn app(token_life: u64) -> App {
    let db = Db::open(Path::new(":memory:")).unwrap();
    App::new(MemoryStore::default(), db, Duration::from_secs(token_life)).unwrap()
}

async fn send(app: &App, method: &str, target: &str, token: (&str, &str), form: &str) -> Response<Body> {
    let request = Request::builder().method(method).uri(target).header(token.0, token.1);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    app.clone().routes().oneshot(request.body(Body::from(form.to_owned())).unwrap()).await.unwrap()
}

async fn json(response: Response<Body>) -> Value {
    assert_eq!(response.status(), 200);
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

const NONE: (&str, &str) = ("x-token", "none");

async fn bearer(app: &App, user: &str) -> String {
    let answer = json(send(app, "POST", "/login", NONE, &format!("user={user}")).await).await;
    format!("Bearer {}", answer["token"].as_str().unwrap())
}

/// What a stream sends until it has sent `wanted`.
async fn until(stream: &mut Response<Body>, wanted: &str) -> String {
    let mut sent = String::new();
    while !sent.contains(wanted) {
        let frame = stream.body_mut().frame().await.unwrap_or_else(|| panic!("the end before {wanted}: {sent}"));
        sent.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn a_token_is_taken_from_a_header_a_cookie_or_the_query() {
    let app = app(900);
    let bearer = bearer(&app, "ada").await;
    let token = bearer.strip_prefix("Bearer ").unwrap();
    let (cookie, query) = (format!("a=b; token={token}"), format!("/events?wait=0&access_token={token}"));
    for (target, header, status) in [
        ("/events?wait=0", ("authorization", bearer.as_str()), 200),
        ("/events?wait=0", ("cookie", cookie.as_str()), 200),
        (query.as_str(), NONE, 200),
        ("/events?wait=0", NONE, 401),
        ("/events?wait=0", ("authorization", "Bearer x.y.z"), 401),
    ] {
        assert_eq!(send(&app, "GET", target, header, "").await.status(), status, "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_unread_count_and_the_events_after_it_are_everything() {
    let app = app(900);
    let (ada, bob) = (bearer(&app, "ada").await, bearer(&app, "bob").await);
    let (ada, bob) = (("authorization", ada.as_str()), ("authorization", bob.as_str()));
    json(send(&app, "POST", "/notify", bob, "to=ada&text=first").await).await;
    let unread = json(send(&app, "GET", "/unread", ada, "").await).await;
    assert_eq!((unread["unread"].as_array().unwrap().len(), &unread["unread"][0]["text"]), (1, &"first".into()));
    json(send(&app, "POST", "/notify", bob, "to=ada&text=second").await).await;
    let target = format!("/events?transport=sse&last_event_id={}", unread["position"].as_str().unwrap());
    let mut stream = send(&app, "GET", &target, ada, "").await;
    let sent = until(&mut stream, "second").await;
    assert!(!sent.contains("first"), "{sent}");
    json(send(&app, "POST", "/read", ada, "").await).await;
    until(&mut stream, "event: read").await;
    assert_eq!(json(send(&app, "GET", "/unread", ada, "").await).await["unread"], Value::Array(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_token() {
    let app = app(60);
    let ada = bearer(&app, "ada").await;
    let mut stream = send(&app, "GET", "/events?transport=sse", ("authorization", &ada), "").await;
    let start = tokio::time::Instant::now();
    until(&mut stream, "event: stream-retry").await;
    assert!((44..60).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn signing_out_ends_streams_and_refuses_the_token_until_the_next_sign_in() {
    let app = app(900);
    let ada = bearer(&app, "ada").await;
    let mut stream = send(&app, "GET", "/events?transport=sse", ("authorization", &ada), "").await;
    json(send(&app, "POST", "/logout", ("authorization", &ada), "").await).await;
    until(&mut stream, "event: stream-retry").await;
    for target in ["/events?transport=sse", "/events?wait=0", "/unread"] {
        assert_eq!(send(&app, "GET", target, ("authorization", &ada), "").await.status(), 401, "{target}");
    }
    let again = bearer(&app, "ada").await;
    for target in ["/events?wait=0", "/unread"] {
        assert_eq!(send(&app, "GET", target, ("authorization", &again), "").await.status(), 200, "{target}");
    }
}
