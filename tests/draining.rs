//! Clients that are sent away: each is told when to reconnect, in the way of its transport, and none is cut off without an answer.
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
use tower_events::{
    Body, Channels, Event, EventService, Hub, HubOptions, LongPollService, MemoryStore, Rejection, SseService,
    longpoll::LongPollOptions, testing::FaultStore,
};

#[tokio::test]
async fn answers_that_send_a_client_away_end_its_connection() {
    for http in BOTH {
        let app = App::start().await;
        let head = app.publish("a", Event::text("x")).await;
        let poll = |query: &str| app.get(&format!("/events?channel=a{query}")).over(http);
        let (parked, ()) = tokio::join!(poll("").send(), async {
            app.wait_for_readers(1).await;
            app.hub.drain(Duration::from_secs(5)).await;
        });
        let late = poll(&format!("&after={head}")).send().await;
        let refused = poll("").send().await;
        let stream = poll("&transport=sse").send().await;
        assert_eq!([parked.status, late.status, refused.status, stream.status], [200, 200, 503, 200]);
        for answer in [parked, late, refused, stream] {
            // HTTP/2 has no such header: its servers send GOAWAY.
            assert_eq!(answer.try_header("connection"), (http == Http::One).then_some("close"), "{answer}");
        }
        app.into_server().stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_that_polls_continuously_is_cut_off_when_the_server_stops() {
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
                    connection.answer_to("GET").await.map_err(|error| format!("{answers} answers: {error}"))?;
                (after, answers) = (answer.cursor(), answers + 1);
                // It ignores `Retry-After`, but closes the connection.
                if answer.try_header("connection") == Some("close") {
                    return Ok::<_, String>(answers);
                }
            }
        });
    }
    app.wait_for_readers(CLIENTS).await;
    for round in 0..200 {
        app.publish(&format!("c{}", round % 20), Event::text("x")).await;
        if round == 100 {
            // Clients between two polls still send their next one.
            app.hub.drain(Duration::from_secs(5)).await;
        }
    }
    let mut answers = 0;
    let all_gone = async {
        while let Some(client) = clients.join_next().await {
            answers += client.unwrap().unwrap();
        }
    };
    // The server stops only after all have disconnected, however long that takes on a busy machine.
    let gone = support::within(Duration::from_secs(30), all_gone).await;
    assert!(gone.is_some(), "each client is told that its connection ends");
    app.into_server().stop().await;
    assert!(answers > CLIENTS, "{answers}");
}

#[tokio::test]
async fn drained_polls_are_told_to_reconnect_spread_over_the_window() {
    const POLLS: usize = 400;
    let app = App::start().await;
    let head = app.publish("a", Event::text("x")).await;
    drop(app.hub.drain(Duration::from_secs(5)));
    let mut seconds = HashMap::new();
    let mut connection = app.http1().await;
    for _ in 0..POLLS {
        // A connection ends with its first answer.
        connection.send(format!("GET /poll?channel=a&after={head} HTTP/1.1\r\nhost: test\r\n\r\n")).await;
        let answer = connection.answer_to("GET").await.unwrap();
        *seconds.entry(answer.header("retry-after").parse::<u64>().unwrap()).or_insert(0_usize) += 1;
        connection = app.http1().await;
    }
    assert!(seconds.keys().all(|after| (1..=5).contains(after)), "{seconds:?}");
    assert!((2..=5).all(|after| seconds[&after] > POLLS / 10), "{seconds:?}");
}

#[tokio::test]
async fn a_handler_refuses_each_transport_in_its_own_way() {
    async fn room(State(events): State<EventService>, request: Request) -> http::Response<Body> {
        let rejection = match request.uri().query().unwrap_or_default().contains("busy") {
            true => Rejection::too_many(Duration::from_secs(5)),
            false => Rejection::forbidden(),
        };
        events.refuse(request, rejection).await
    }
    let events = EventService::fixed(Hub::new(MemoryStore::default()), channel("a"));
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

#[tokio::test]
async fn a_refused_stream_repeats_the_position_that_its_client_sent() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let hub = Hub::with_options(store, HubOptions::default().max_readers(1));
    let busy = |_: &http::request::Parts| Err::<Channels, _>(Rejection::too_many(Duration::from_secs(5)));
    let router = Router::new()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query))
        .route_service("/sse", SseService::new(hub.clone(), Channels::from_query))
        .route_service("/events/busy", EventService::new(hub.clone(), busy))
        .route_service("/sse/busy", SseService::new(hub.clone(), busy));
    let server = serve(router).await;
    let id = hub.publish(&channel("a"), Event::text("x")).await.unwrap().cursor;
    let both = Channels::new([channel("a"), channel("b")]).unwrap();
    let ids = [id.to_string(), hub.position(&both).await.unwrap().to_string()];
    let refused = async |what: &str, path: &str| {
        for http in BOTH {
            for (id, channels) in ids.iter().zip(["channel=a", "channel=a&channel=b"]) {
                let url = format!("{path}?{channels}");
                let mut stream = server.get(&url).over(http).last_event_id(id).sse().await;
                let last = stream.next().await;
                assert_eq!((last.name.as_str(), last.id.as_str()), ("stream-retry", id.as_str()), "{what} {url}");
                assert!(stream.remaining().await.is_empty());
                // A client without a position gets none.
                let mut stream = server.get(&url).over(http).sse().await;
                assert_eq!((stream.next().await.name.as_str(), stream.last_event_id()), ("stream-retry", ""), "{url}");
            }
        }
    };
    refused("by the resolver", "/events/busy").await;
    refused("by the resolver", "/sse/busy").await;
    for path in ["/events", "/sse"] {
        let mut only = server.get(&format!("{path}?channel=c")).sse().await;
        only.live().await;
        refused("too many readers", path).await;
        drop(only);
        support::eventually("no readers", || hub.stats().readers == 0).await;
        faults.fail_next_heads(usize::MAX);
        faults.fail_next_reads(usize::MAX);
        for name in ["a", "b"] {
            faults.fail_channel(&channel(name));
        }
        let mut stream = server.get(&format!("{path}?channel=b")).last_event_id(&ids[0]).sse().await;
        let last = stream.next().await;
        assert_eq!((last.name.as_str(), last.id.as_str()), ("stream-retry", ids[0].as_str()), "the store fails");
        faults.fail_next_heads(0);
        faults.fail_next_reads(0);
        for name in ["a", "b"] {
            faults.mend_channel(&channel(name));
        }
    }
    drop(hub.drain(Duration::from_secs(5)));
    for path in ["/events", "/sse"] {
        refused("draining", path).await;
    }
}

#[tokio::test]
async fn a_head_request_returns_the_position_while_the_hub_drains_and_the_error_while_the_store_fails() {
    for http in BOTH {
        let (store, faults) = FaultStore::new(MemoryStore::default());
        let app = App::on(store).await;
        let id = app.publish("a", Event::text("x")).await;
        let head = |accept: &'static str, query: &str| {
            let url = format!("/events?channel=a{query}");
            app.request(Method::HEAD, &url).over(http).header("accept", accept)
        };
        for accept in ["application/json", "text/event-stream"] {
            let transport = if accept == "application/json" { "/poll" } else { "/sse" };
            faults.fail_next_heads(1);
            let failed = head(accept, "").send().await.expect(503);
            assert_eq!(failed.header("content-type"), "application/problem+json");
            assert!(failed.header("retry-after").parse::<u64>().unwrap() >= 1, "{failed}");
            assert_eq!((failed.body.len(), failed.try_header("last-event-id")), (0, None));
            let refused = app.request(Method::HEAD, transport).over(http).send().await.expect(400);
            assert_eq!((refused.header("content-type"), refused.body.len()), ("application/problem+json", 0));
        }
        drop(app.hub.drain(Duration::from_secs(5)));
        for accept in ["application/json", "text/event-stream"] {
            let answer = head(accept, "").send().await.expect(200);
            assert_eq!((answer.cursor(), answer.body.len()), (id.clone(), 0));
            assert!(answer.header("content-type").starts_with(accept));
        }
        // A HEAD request does not wait, and does not count as a reader.
        assert_eq!(app.hub.stats().readers, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_retry_hint_grows_while_the_store_fails() {
    let (store, faults) = FaultStore::new(MemoryStore::default());
    let app = App::in_memory_on(store);
    faults.fail_next_heads(usize::MAX);
    let requests = [
        (Method::HEAD, "application/json"),
        (Method::HEAD, "text/event-stream"),
        // A stream carries its hint in its body.
        (Method::GET, "application/json"),
    ];
    for (method, accept) in requests {
        for (failing, least) in [(0, 1), (20, 10)] {
            app.hub.heads(&channel("a").into()).await.unwrap_err();
            tokio::time::sleep(Duration::from_secs(failing)).await;
            let answer = app.request(method.clone(), "/events?channel=a").header("accept", accept).send().await;
            let after: u64 = answer.expect(503).header("retry-after").parse().unwrap();
            assert!((least..=31).contains(&after), "{method} {accept}: {after} s after {failing} s");
        }
        faults.fail_next_heads(0);
        app.head("a").await;
        faults.fail_next_heads(usize::MAX);
    }
}

#[tokio::test]
async fn an_error_claims_no_wait_in_preference_applied() {
    for http in BOTH {
        let (store, faults) = FaultStore::new(MemoryStore::default());
        let hub = Hub::new(store);
        let service = |options| LongPollService::new(hub.clone(), Channels::from_query).options(options);
        let router = Router::new()
            .route_service("/poll", service(LongPollOptions::default()))
            .route_service("/refuse", service(LongPollOptions::default().refuse_resets()));
        let server = serve(router).await;
        hub.publish(&channel("a"), Event::text("x")).await.unwrap();
        let get = |url: &str| server.get(url).over(http).header("prefer", "wait=99");
        let honoured = get("/poll?channel=a&after=earliest").send().await.expect(200);
        assert_eq!(honoured.header("preference-applied"), "wait=55");
        let reset = get("/refuse?channel=a").last_event_id("nonsense").send().await.expect(410);
        assert_eq!(reset.try_header("preference-applied"), None);
        faults.fail_next_reads(usize::MAX);
        faults.fail_next_heads(usize::MAX);
        let failed = get("/poll?channel=b&after=earliest").send().await.expect(503);
        assert_eq!(failed.try_header("preference-applied"), None);
        faults.fail_next_reads(0);
        faults.fail_next_heads(0);
        drop(hub.drain(Duration::from_secs(5)));
        let refused = get("/poll?channel=a").send().await.expect(503);
        assert_eq!(refused.try_header("preference-applied"), None);
    }
}
