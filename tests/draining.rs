//! Clients that are sent away: each is told in its transport's words when to come back, and none is cut off without an answer.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a helper that panics is a failed test")]

mod support;

use std::{collections::HashMap, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    routing::get,
};
use http::Method;
use support::{App, BOTH, Http, channel, serve};
use tokio::task::JoinSet;
use tower_events::{Body, Channels, Event, EventService, Hub, MemoryStore, Rejection};

#[tokio::test]
async fn answers_that_send_a_client_away_end_its_connection() {
    for http in BOTH {
        let app = App::start().await;
        let head = app.publish("a", Event::text("x")).await;
        let poll = |query: &str| app.get(&format!("/events?channel=a{query}")).over(http);
        let (parked, ()) = tokio::join!(poll("").send(), async {
            app.readers(1).await;
            app.hub.drain(Duration::from_secs(5)).await;
        });
        let late = poll(&format!("&after={head}")).send().await;
        let refused = poll("").send().await;
        let stream = poll("&transport=sse").send().await;
        assert_eq!([parked.status, late.status, refused.status, stream.status], [200, 200, 503, 200]);
        for answer in [parked, late, refused, stream] {
            // HTTP/2 has no such header: its servers say GOAWAY.
            assert_eq!(answer.try_header("connection"), (http == Http::One).then_some("close"), "{answer}");
        }
        app.into_server().stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_polls_on_and_on_is_cut_off_when_the_server_stops() {
    const CLIENTS: usize = 200;
    let app = App::start().await;
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let (mut connection, name) = (app.http1().await, format!("c{}", n % 20));
        let mut after = app.head(&name).await.to_string();
        clients.spawn(async move {
            let mut answers = 0;
            loop {
                connection.send(format!("GET /poll?channel={name}&after={after} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
                let answer =
                    connection.answer_to("GET").await.map_err(|fault| format!("{answers} answers: {fault}"))?;
                (after, answers) = (answer.cursor(), answers + 1);
                // It does not wait as it was told, but ends the connection.
                if answer.try_header("connection") == Some("close") {
                    return Ok::<_, String>(answers);
                }
            }
        });
    }
    app.readers(CLIENTS).await;
    for round in 0..200 {
        app.publish(&format!("c{}", round % 20), Event::text("x")).await;
        if round == 100 {
            // Those who are between two polls come yet.
            app.hub.drain(Duration::from_secs(5)).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    app.into_server().stop().await;
    let mut answers = 0;
    while let Some(client) = clients.join_next().await {
        answers += client.unwrap().unwrap();
    }
    assert!(answers > CLIENTS, "{answers}");
}

#[tokio::test]
async fn drained_polls_come_back_spread_over_the_seconds() {
    const POLLS: usize = 400;
    let app = App::start().await;
    let head = app.publish("a", Event::text("x")).await;
    drop(app.hub.drain(Duration::from_secs(5)));
    let mut seconds = HashMap::new();
    let mut connection = app.http1().await;
    for _ in 0..POLLS {
        // The first connection ends with its answer.
        connection.send(format!("GET /poll?channel=a&after={head} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
        let answer = connection.answer_to("GET").await.unwrap();
        *seconds.entry(answer.header("retry-after").parse::<u64>().unwrap()).or_insert(0_usize) += 1;
        connection = app.http1().await;
    }
    assert!(seconds.keys().all(|after| (1..=5).contains(after)), "{seconds:?}");
    assert!((2..=5).all(|after| seconds[&after] > POLLS / 10), "{seconds:?}");
}

#[tokio::test]
async fn a_handler_refuses_each_transport_in_its_own_words() {
    async fn room(State(events): State<EventService>, request: Request) -> http::Response<Body> {
        let rejection = match request.uri().query().unwrap_or_default().contains("busy") {
            true => Rejection::too_many(Duration::from_secs(5)),
            false => Rejection::forbidden(),
        };
        events.refuse(request, rejection).await
    }
    let events = EventService::new(Hub::new(MemoryStore::default()), Channels::from(channel("a")));
    let server = serve(Router::new().route("/room", get(room)).with_state(events)).await;
    for http in BOTH {
        for round in 0..20 {
            let id = format!("{round:028}");
            let mut busy = server.get("/room?busy").over(http).last_event_id(&id).sse().await;
            let retry = busy.next().await;
            assert_eq!((retry.name.as_str(), retry.data.as_str()), ("stream-retry", "{}"));
            assert!(busy.remaining().await.is_empty());
            let delay = busy.retry().unwrap();
            assert!((Duration::from_secs(5)..=Duration::from_millis(7_500)).contains(&delay), "{delay:?}");
        }
        let poll = server.get("/room?busy").over(http).send().await;
        poll.problem(429);
        assert_eq!(poll.header("retry-after"), "5");
        let head = server.request(Method::HEAD, "/room?busy&transport=sse").over(http).send().await;
        assert_eq!((head.status, head.header("retry-after").parse::<u64>().unwrap()), (429, 5));
        for transport in ["sse", "longpoll"] {
            server.get(&format!("/room?transport={transport}")).over(http).send().await.problem(403);
        }
    }
}
