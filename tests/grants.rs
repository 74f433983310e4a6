//! Grants that end: by their time, by a revocation in any process, by a check, or by a limit.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod support;

use std::{
    collections::VecDeque,
    future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use http::{Method, Request, Response, request::Parts};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tower_events::{
    Body, Event, EventService, FileStore, Grant, Hub, HubOptions, MemoryStore, PublishService, Recheck, Rejection,
    Retention,
    hub::{EndReason, RefusedBy},
    longpoll::LongPollOptions,
    testing::FaultStore,
};
use tower_service::Service as _;

use self::support::{App, Server, Sse, channel, serve, serve_in_memory};

const REVOCATIONS: &str = "tower-events:revocations";
const INTERVAL: Duration = Duration::from_secs(5);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Checks how many readers the hub has ended, all for this reason.
fn ends(hub: &Hub, reason: EndReason, count: usize) {
    let ended = hub.stats().totals.ended_readers;
    assert_eq!((ended.of(reason), ended.sum()), (count as u64, count as u64), "{ended:?}");
}

/// Ann's inbox, as of now.
fn ann() -> Grant {
    Grant::new(channel("inbox")).subject("ann")
}

/// A server where everybody gets the grant that `grant` makes.
fn served(hub: &Hub, grant: impl Fn() -> Grant + Send + Sync + 'static) -> Server {
    serve_in_memory(EventService::new(hub.clone(), move |_: &Parts| Ok(grant())))
}

async fn publish(hub: &Hub, text: impl Into<String>) {
    hub.publish(&channel("inbox"), Event::text(text)).await.unwrap();
}

/// Opens a stream, and waits until it has sent all there is.
async fn open(server: &Server) -> Sse {
    let mut stream = server.get("/events").sse().await;
    stream.live().await;
    stream
}

/// Waits for the end of a stream; it must come with `stream-retry` and no event before it.
async fn ended(stream: &mut Sse) -> Duration {
    let start = Instant::now();
    let last = stream.remaining().await;
    assert_eq!(last.iter().map(|message| message.name.as_str()).collect::<Vec<_>>(), ["stream-retry"], "{last:?}");
    start.elapsed()
}

/// Two nodes on one store; hints and calls of the second can be made to fail.
fn nodes() -> (Hub, Hub, tower_events::testing::Faults) {
    let store = Arc::new(MemoryStore::default());
    let (second, faults) = FaultStore::new(store.clone());
    (Hub::new(store), Hub::new(second), faults)
}

/// Reads all of `0..count`, reconnecting whenever a stream ends; returns how long each stream lasted.
async fn read_all(server: &Server, count: usize) -> Vec<Duration> {
    let (mut next, mut lasted, mut id) = (0, Vec::new(), None::<String>);
    while next < count {
        let request = server.get("/events?after=earliest");
        let request = if let Some(id) = &id { request.last_event_id(id) } else { request };
        let (start, mut stream) = (Instant::now(), request.sse().await);
        while let Some(message) = stream.next_or_end().await {
            if message.name == "stream-retry" {
                assert!(!message.id.is_empty() && stream.next_or_end().await.is_none());
                break;
            }
            assert_eq!(message.data, next.to_string(), "nothing is missing or repeated");
            next += 1;
            if next == count {
                break;
            }
        }
        lasted.push(start.elapsed());
        id = Some(stream.last_event_id().to_owned());
    }
    lasted
}

#[tokio::test(start_paused = true)]
async fn a_stream_under_load_ends_before_its_grant_and_resumes_where_it_was() {
    let hub = Hub::new(MemoryStore::default());
    let server = served(&hub, || Grant::new(channel("inbox")).until(SystemTime::now() + secs(20)));
    let publisher = hub.clone();
    let publishing = tokio::spawn(async move {
        for n in 0..900 {
            publish(&publisher, n.to_string()).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let lasted = read_all(&server, 900).await;
    publishing.await.unwrap();
    let (_, whole) = lasted.split_last().unwrap();
    assert!(whole.len() >= 4, "{lasted:?}");
    ends(&hub, EndReason::Expired, whole.len());
    assert!(whole.iter().all(|lasted| (15..20).contains(&lasted.as_secs())), "{lasted:?}");
}

#[tokio::test]
async fn a_stream_on_a_file_ends_before_its_grant_and_resumes_where_it_was() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("grants-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let hub = Hub::new(FileStore::open(directory.join("events.db")).unwrap());
    let events =
        EventService::new(hub.clone(), |_: &Parts| Ok(ann().until(SystemTime::now() + Duration::from_millis(200))));
    let server = serve(events).await;
    let publishing = tokio::spawn(async move {
        // Much longer than three grants, because a busy machine may stand still for the time of some.
        for n in 0..200 {
            publish(&hub, n.to_string()).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let lasted = read_all(&server, 200).await;
    publishing.await.unwrap();
    assert!(lasted.len() >= 3, "{lasted:?}");
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_poll_ends_before_its_grant_with_its_own_cursor() {
    let hub = Hub::new(MemoryStore::default());
    publish(&hub, "before").await;
    let server = served(&hub, || Grant::new(channel("inbox")).until(SystemTime::now() + secs(20)));
    let first = server.get("/events?after=earliest").send().await.expect(200);
    let start = Instant::now();
    let second = server.get(&format!("/events?after={}&wait=50", first.cursor())).send().await.expect(200);
    assert_eq!((second.text(), second.cursor()), ("[]", first.cursor()));
    assert!((15..20).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_over_is_refused() {
    let hub = Hub::new(MemoryStore::default());
    let server = served(&hub, || Grant::new(channel("inbox")).until(SystemTime::now()));
    for accept in ["text/event-stream", "application/json"] {
        for method in [Method::GET, Method::HEAD] {
            let answer = server.request(method, "/events").header("accept", accept).send().await.expect(401);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
}

/// The bytes that a body hands out within `time`, and whether it has ended then.
async fn handed_out(body: &mut Body, time: Duration) -> (usize, bool) {
    let (mut bytes, end) = (0, Instant::now() + time);
    loop {
        match tokio::time::timeout_at(end, body.frame()).await {
            Ok(Some(frame)) => bytes += frame.unwrap().into_data().unwrap().len(),
            Ok(None) => return (bytes, true),
            Err(_) => return (bytes, false),
        }
    }
}

async fn response(events: &mut EventService, uri: &str, accept: &str) -> Response<Body> {
    let request = Request::builder().uri(uri).header("accept", accept).body(()).unwrap();
    events.call(request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_begun_is_handed_out_once_a_grant_is_over() {
    let hub = Hub::new(MemoryStore::default());
    for n in 0..4 {
        publish(&hub, format!("{n}").repeat(100 << 10)).await;
    }
    // One whose time is over, and one of a process that was suspended, and so cannot know whether it was revoked.
    let ends: fn() -> Grant = || Grant::new(channel("inbox")).until(SystemTime::now() + secs(20));
    for grant in [ends, ann] {
        for accept in ["text/event-stream", "application/json"] {
            let mut events = EventService::new(hub.clone(), move |_: &Parts| Ok(grant()));
            let mut response = response(&mut events, "/?after=earliest", accept).await;
            if accept == "text/event-stream" {
                // The client stalls in the middle of an event, and comes back when its grant is over.
                let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
                assert!(first.len() < 100 << 10);
                let second = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
                assert!(!second.ends_with(b"\n\n"));
            }
            tokio::time::advance(secs(21)).await;
            assert_eq!(handed_out(response.body_mut(), secs(60)).await, (0, true), "{accept}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_ends_readers_on_every_node_within_the_interval() {
    for lost in [0, usize::MAX] {
        let (first, second, faults) = nodes();
        let [here, there] = [&first, &second].map(|hub| served(hub, ann));
        let other = served(&second, || Grant::new(channel("inbox")).subject("bob"));
        let (mut here, mut there, mut bob) = (open(&here).await, open(&there).await, open(&other).await);
        faults.lose_hints(lost);
        first.revoke("ann").await.unwrap();
        publish(&first, "after").await;
        assert_eq!(ended(&mut here).await, Duration::ZERO);
        let start = Instant::now();
        let late = there.remaining().await;
        assert_eq!(late.last().unwrap().name, "stream-retry");
        assert!(start.elapsed() <= INTERVAL.min(if lost == 0 { secs(1) } else { INTERVAL }), "{:?}", start.elapsed());
        assert_eq!(bob.next().await.data, "after");
        bob.stays_silent(secs(60)).await;
        ends(&first, EndReason::Revoked, 1);
        ends(&second, EndReason::Revoked, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_revoked_while_it_stalls_gets_nothing_after_the_interval() {
    // Heard of at once, or by the next look.
    for lost in [0, usize::MAX] {
        let (first, second, faults) = nodes();
        for _ in 0..20 {
            publish(&first, "x".repeat(50 << 10)).await;
        }
        let mut events = EventService::new(second, |_: &Parts| Ok(ann()));
        let mut stalled = response(&mut events, "/?after=earliest", "text/event-stream").await;
        let mut poll = response(&mut events, "/?after=earliest", "application/json").await;
        stalled.body_mut().frame().await.unwrap().unwrap();
        faults.lose_hints(lost);
        first.revoke("ann").await.unwrap();
        tokio::time::sleep(INTERVAL).await;
        let (bytes, is_end) = handed_out(stalled.body_mut(), secs(60)).await;
        assert!(bytes < 200 && is_end, "{bytes}");
        assert_eq!(handed_out(poll.body_mut(), secs(60)).await, (0, true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_is_revoked_gets_its_own_cursor() {
    let (first, second, _) = nodes();
    publish(&first, "x").await;
    let server = served(&second, ann);
    let before = server.get("/events?after=earliest").send().await.expect(200).cursor();
    let target = format!("/events?after={before}&wait=50");
    let polling = server.get(&target).send();
    let revoking = async {
        tokio::time::sleep(secs(3)).await;
        first.revoke("ann").await.unwrap();
        Instant::now()
    };
    let (answer, revoked) = tokio::join!(polling, revoking);
    assert!(revoked.elapsed() <= INTERVAL);
    assert_eq!((answer.status, answer.text(), answer.cursor()), (200, "[]", before));
}

#[tokio::test(start_paused = true)]
async fn readers_end_when_revocations_may_be_missing() {
    let (_, second, faults) = nodes();
    let server = served(&second, ann);
    let unnamed = served(&second, || Grant::new(channel("inbox")));
    let (mut stream, mut anybody) = (open(&server).await, open(&unnamed).await);
    let cursor = server.get("/events?wait=0").send().await.expect(200).cursor();
    faults.fail_channel(&channel(REVOCATIONS));
    let target = format!("/events?after={cursor}&wait=50");
    let (lasted, poll, fresh) =
        tokio::join!(ended(&mut stream), server.get(&target).send(), server.get("/events?wait=50").send());
    assert!((secs(3)..=INTERVAL).contains(&lasted), "{lasted:?}");
    assert_eq!((poll.status, poll.text(), poll.cursor()), (200, "[]", cursor));
    assert_eq!(fresh.expect(503).json()["type"], "urn:tower-events:grant-ended");
    ends(&second, EndReason::RevocationsUnknown, 3);
    // A client that comes meanwhile is told to come back later.
    assert_eq!(server.get("/events").sse().await.next().await.name, "stream-retry");
    let refused = server.get("/events").send().await.expect(503);
    assert_eq!(refused.json()["type"], "urn:tower-events:grant-unconfirmed");
    assert!(refused.try_header("retry-after").is_some());
    anybody.stays_silent(secs(60)).await;
    faults.mend_channel(&channel(REVOCATIONS));
    open(&server).await.stays_silent(secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_ends_readers_in_time() {
    let (_, second, faults) = nodes();
    let server = served(&second, ann);
    let mut stream = open(&server).await;
    let _held = faults.hold_heads();
    let lasted = ended(&mut stream).await;
    assert!((secs(3)..=INTERVAL).contains(&lasted), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn readers_end_when_the_control_channel_is_reset() {
    let (first, second, _) = nodes();
    first.revoke("carl").await.unwrap();
    let server = served(&second, ann);
    let mut stream = open(&server).await;
    first.init(&channel(REVOCATIONS), Vec::new()).await.unwrap();
    assert!(ended(&mut stream).await <= INTERVAL);
    open(&server).await.stays_silent(secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_issued_before_a_revocation_is_refused() {
    let (first, second, _) = nodes();
    first.revoke("ann").await.unwrap();
    let now = SystemTime::now();
    let ago = |time: SystemTime, by| time.checked_sub(by).unwrap();
    for (subject, issued, status) in [
        ("ann", ago(now, secs(60)), 401),
        // The allowance for clocks that differ.
        ("ann", now + Duration::from_millis(500), 401),
        ("ann", now + secs(2), 200),
        ("bob", ago(now, secs(60)), 200),
        // Its revocation may have been dropped: the store keeps them for an hour.
        ("bob", ago(now, secs(3601)), 401),
    ] {
        let server = served(&second, move || Grant::new(channel("inbox")).subject(subject).issued_at(issued));
        assert_eq!(server.get("/events?wait=0").send().await.status, status, "{subject} {issued:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn revocations_that_were_dropped_by_number_make_older_tokens_unknown() {
    let hub = Hub::new(MemoryStore::new(Retention::default().events(10)));
    for n in 0..40 {
        hub.revoke(n.to_string()).await.unwrap();
    }
    let now = SystemTime::now();
    let issued = [now.checked_sub(secs(60)).unwrap(), now + secs(2)];
    for (issued, status) in issued.into_iter().zip([401, 200]) {
        let server = served(&hub, move || Grant::new(channel("inbox")).subject("zoe").issued_at(issued));
        assert_eq!(server.get("/events?wait=0").send().await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn every_page_of_the_revocations_is_known_before_anybody_is_served() {
    let store = Arc::new(MemoryStore::new(Retention::default().events(5_000)));
    let (first, second) = (Hub::new(store.clone()), Hub::new(store));
    for n in 0..2_100 {
        first.revoke(n.to_string()).await.unwrap();
    }
    let issued = SystemTime::now().checked_sub(secs(60)).unwrap();
    for (subject, status) in [("0", 401), ("1500", 401), ("2099", 401), ("nobody", 200)] {
        let server = served(&second, move || Grant::new(channel("inbox")).subject(subject).issued_at(issued));
        assert_eq!(server.get("/events?wait=0").send().await.status, status, "{subject}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_renewed_after_a_revocation_is_served_at_once() {
    let (first, second, _) = nodes();
    let server = served(&second, ann);
    let mut before = open(&server).await;
    first.revoke("ann").await.unwrap();
    ended(&mut before).await;
    open(&server).await.stays_silent(secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_revocation_while_the_resolver_decides_is_noticed() {
    let (first, second, _) = nodes();
    // Decided before the hub knows any revocation, and again after that.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let server = served(&second, move || {
        counted.fetch_add(1, SeqCst);
        ann()
    });
    _ = open(&server).await;
    assert_eq!(asked.load(SeqCst), 2);
    _ = open(&server).await;
    assert_eq!(asked.load(SeqCst), 3);
    // Revoked after the resolver has looked.
    let revoking = first.clone();
    let server = served(&second, move || {
        let mut revoke = Box::pin(revoking.revoke("ann"));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(revoke.as_mut().poll(&mut cx).is_ready(), "a store in memory is ready at once");
        ann()
    });
    let mut stream = server.get("/events").sse().await;
    let start = Instant::now();
    assert_eq!(stream.remaining().await.pop().unwrap().name, "stream-retry");
    assert!(start.elapsed() <= INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_decided_before_a_revocation_does_not_serve() {
    let (first, second, _) = nodes();
    let events = EventService::without_resolver(second);
    for accept in ["text/event-stream", "application/json"] {
        let grant = ann();
        first.revoke("ann").await.unwrap();
        let request = Request::builder().uri("/?wait=0").header("accept", accept).body(()).unwrap();
        let body = events.respond(request, grant).await.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("event: stream-retry") || body.contains("grant-unconfirmed"), "{body}");
    }
}

/// A grant that is checked again every 8 s, with these results.
fn rechecked(results: &Arc<Mutex<VecDeque<Option<Recheck>>>>) -> Grant {
    let results = results.clone();
    Grant::new(channel("inbox")).recheck(secs(8), move || {
        let next = results.lock().unwrap().pop_front().expect("as few checks");
        async move {
            match next {
                Some(result) => result,
                None => future::pending().await,
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_ends_all_readers_of_its_subject() {
    let allowed = Some(Recheck::Allowed);
    for (last, checks) in [(Some(Recheck::Ended), 2), (None, 3)] {
        let mut results = VecDeque::from(vec![allowed; checks - 1]);
        results.push_back(last);
        let results = Arc::new(Mutex::new(results));
        let hub = Hub::new(MemoryStore::default());
        let grants = results.clone();
        let server = served(&hub, move || rechecked(&grants).subject("ann"));
        let (mut first, mut second) = (open(&server).await, open(&server).await);
        let (_, lasted) = tokio::join!(ended(&mut first), ended(&mut second));
        let checked = 6 * checks as u64..=8 * checks as u64 + if last.is_none() { 11 } else { 1 };
        assert!(checked.contains(&lasted.as_secs()), "{lasted:?}");
        assert!(results.lock().unwrap().is_empty(), "one check for both");
        ends(&hub, EndReason::Rechecked, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn readers_that_keep_coming_do_not_put_a_check_off() {
    let hub = Hub::new(MemoryStore::default());
    let results = Arc::new(Mutex::new(VecDeque::from([Some(Recheck::Ended)])));
    let server = served(&hub, move || rechecked(&results).subject("ann"));
    let (mut first, mut others) = (open(&server).await, Vec::new());
    let coming = async {
        for _ in 0..4 {
            others.push(open(&server).await);
            tokio::time::sleep(secs(3)).await;
        }
    };
    tokio::select! {
        lasted = ended(&mut first) => assert!(lasted <= secs(8), "{lasted:?}"),
        () = coming => panic!("the check is put off by readers that come"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_without_a_subject_is_checked_too_and_a_panic_ends_it() {
    let hub = Hub::new(MemoryStore::default());
    let panics = served(&hub, || {
        Grant::new(channel("inbox")).recheck(secs(8), || -> future::Ready<Recheck> { panic!("a test") })
    });
    let results = Arc::new(Mutex::new(VecDeque::from([Some(Recheck::Ended)])));
    let ends = served(&hub, move || rechecked(&results));
    for server in [panics, ends] {
        let lasted = ended(&mut open(&server).await).await;
        assert!((6..=8).contains(&lasted.as_secs()), "{lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_oldest_reader_ends_when_there_are_too_many_of_a_subject() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().max_readers_per_subject(2));
    let server = served(&hub, ann);
    let (mut first, mut second) = (open(&server).await, open(&server).await);
    let polling = tokio::spawn({
        let events = EventService::new(hub.clone(), |_: &Parts| Ok(ann()));
        async move { response(&mut { events }, "/?wait=50", "application/json").await }
    });
    assert_eq!(ended(&mut first).await, Duration::ZERO);
    assert!(first.retry().unwrap() >= secs(15), "{:?}", first.retry());
    let _third = open(&server).await;
    assert_eq!(ended(&mut second).await, Duration::ZERO);
    let _fourth = open(&server).await;
    ends(&hub, EndReason::Evicted, 3);
    let start = Instant::now();
    let answer = polling.await.unwrap();
    assert_eq!((answer.status().as_u16(), start.elapsed()), (200, Duration::ZERO));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "[]");
    // Others have their own.
    open(&served(&hub, || Grant::new(channel("inbox")).subject("bob"))).await.stays_silent(secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_subject_publishes_only_so_often() {
    let hub = Hub::with_options(MemoryStore::default(), HubOptions::default().max_publishes_per_subject(2));
    let publishes = PublishService::new(hub.clone(), |request: &Parts| {
        let user = request.uri.query().ok_or(Rejection::forbidden())?;
        Ok::<_, Rejection>(Grant::new(channel("inbox")).subject(user))
    });
    let server = serve_in_memory(publishes);
    let publish = async |user: &str| server.post(&format!("/?{user}"), "text/plain", "x").send().await;
    for status in [200, 200, 429] {
        assert_eq!(publish("ann").await.status, status);
    }
    assert_eq!(publish("ann").await.header("retry-after"), "1");
    assert_eq!(hub.stats().totals.refusals.of(RefusedBy::SubjectPublishRate), 2);
    assert_eq!(publish("bob").await.status, 200);
    tokio::time::advance(secs(1)).await;
    assert_eq!(publish("ann").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn nobody_publishes_with_a_grant_that_has_ended() {
    let (first, second, _) = nodes();
    first.revoke("ann").await.unwrap();
    let past = || SystemTime::now().checked_sub(secs(60)).unwrap();
    let publishes = PublishService::new(second, move |request: &Parts| {
        Ok::<_, Rejection>(match request.uri.query() {
            Some("over") => ann().until(past()),
            Some("revoked") => ann().issued_at(past()),
            _ => Grant::new(channel("inbox")).subject("bob").issued_at(past()),
        })
    });
    let server = serve_in_memory(publishes);
    for (query, status) in [("over", 401), ("revoked", 401), ("fine", 200)] {
        assert_eq!(server.post(&format!("/?{query}"), "text/plain", "x").send().await.status, status, "{query}");
    }
}

#[tokio::test]
async fn nobody_reads_or_publishes_to_reserved_channels() {
    let app = App::start().await;
    let query = format!("?channel=a&channel={REVOCATIONS}");
    for path in ["/events", "/sse", "/poll"] {
        app.get(&format!("{path}{query}")).send().await.problem(403);
    }
    app.post(&format!("/publish?channel={REVOCATIONS}"), "text/plain", "ann").send().await.problem(403);
    let events = EventService::without_resolver(app.hub.clone()).long_poll(LongPollOptions::default());
    let answer = events.respond(Request::new(()), channel(REVOCATIONS)).await;
    assert_eq!(answer.status(), 403);
    assert!(!app.hub.exists(&channel(REVOCATIONS)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_follows_revocations_ends_with_its_last_reader() {
    let (_, second, faults) = nodes();
    let server = served(&second, ann);
    drop(open(&server).await);
    support::eventually("no reader", || second.stats().readers == 0).await;
    tokio::time::sleep(secs(70)).await;
    let calls = faults.heads();
    tokio::time::sleep(secs(600)).await;
    assert_eq!(faults.heads(), calls);
}
