//! What a handler attaches to its response: guards that are held while it lasts, and signals that end it.

use std::sync::Arc;

use http::request::Parts;
use http_body_util::BodyExt as _;
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tower_events::{
    Channel, Store as _, StoreError, Subscription,
    store::{Head, Limit, Page, Start},
};

use super::{
    patched_store::{Fault, PatchedStore},
    *,
};

#[derive(Clone)]
struct Room {
    events: EventService,
    slots: Arc<Semaphore>,
    ended: watch::Receiver<bool>,
}

async fn room(State(mut room): State<Room>, request: Request) -> Response<Body> {
    let slot = room.slots.acquire_owned().await.unwrap();
    let end = async move { _ = room.ended.wait_for(|ended| *ended).await };
    room.events.respond(request, channel("a")).holding(slot).until(end).await
}

/// A room with one slot, and what ends its responses.
async fn serve_room(hub: &Hub) -> (Server, Arc<Semaphore>, watch::Sender<bool>) {
    let (end, ended) = watch::channel(false);
    let slots = Arc::new(Semaphore::new(1));
    let state = Room { events: events(hub), slots: slots.clone(), ended };
    (serve(Router::new().route("/", get(room)).with_state(state)).await, slots, end)
}

#[tokio::test]
async fn a_guard_is_held_until_a_stream_has_ended_or_its_client_has_disconnected() {
    let hub = hub();
    let (server, slots, end) = serve_room(&hub).await;
    for http in BOTH {
        let mut stream = server.get("/").over(http).sse().await;
        stream.first_block().await;
        assert_eq!(slots.available_permits(), 0);
        drop(stream);
        support::eventually("the slot is free", || slots.available_permits() == 1).await;

        let mut stream = server.get("/").over(http).sse().await;
        stream.first_block().await;
        end.send_replace(true);
        stream.remaining().await;
        support::eventually("the slot is free", || slots.available_permits() == 1).await;
        end.send_replace(false);
    }
}

#[tokio::test]
async fn a_guard_is_held_while_a_long_poll_waits() {
    let hub = hub();
    let (server, slots, _end) = serve_room(&hub).await;
    for http in BOTH {
        let publish = async {
            support::eventually("a reader", || hub.stats().readers == 1).await;
            assert_eq!(slots.available_permits(), 0);
            hub.publish(&channel("a"), Event::text("x")).await.unwrap();
        };
        let (polled, ()) = tokio::join!(server.get("/").over(http).send(), publish);
        assert_eq!(polled.expect(200).data(), [json!("x")]);
        support::eventually("the slot is free", || slots.available_permits() == 1).await;
        // Whatever the response is.
        server.get("/?limit=0").over(http).send().await.problem(400);
        support::eventually("the slot is free", || slots.available_permits() == 1).await;
    }
}

#[tokio::test]
async fn a_signal_ends_a_stream_with_the_time_and_the_position_to_come_back() {
    let hub = hub();
    let (server, _, end) = serve_room(&hub).await;
    for http in BOTH {
        let mut stream = server.get("/").over(http).sse().await;
        stream.first_block().await;
        hub.publish(&channel("a"), Event::text("before")).await.unwrap();
        assert_eq!(stream.next().await.data, "before");
        end.send_replace(true);
        let last: Vec<_> = stream.remaining().await.into_iter().map(|message| message.name).collect();
        assert_eq!(last, ["stream-retry"]);
        assert!(stream.retry().is_some());
        end.send_replace(false);
        hub.publish(&channel("a"), Event::text("in between")).await.unwrap();
        let mut resumed = server.get("/").over(http).last_event_id(stream.last_event_id()).sse().await;
        assert_eq!(resumed.next().await.data, "in between");
        drop(resumed);
    }
}

#[tokio::test]
async fn a_signal_answers_a_long_poll_that_waits_with_its_own_position() {
    let hub = hub();
    let (server, _, end) = serve_room(&hub).await;
    let position = hub.publish(&channel("a"), Event::text("x")).await.unwrap().cursor.to_string();
    for http in BOTH {
        let signal = async {
            support::eventually("a reader", || hub.stats().readers == 1).await;
            end.send_replace(true);
        };
        let asked = Instant::now();
        let poll = server.get(&format!("/?wait=55&after={position}")).over(http).send();
        let (polled, ()) = tokio::join!(poll, signal);
        let polled = polled.expect(200);
        assert_eq!((polled.text(), polled.cursor()), ("[]", position.clone()));
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        end.send_replace(false);
        support::eventually("no reader", || hub.stats().readers == 0).await;
    }
}

/// A store that takes long to read the channel `slow`.
struct Slow;

impl Fault for Slow {
    async fn read(
        &self,
        inner: &MemoryStore,
        channel: &Channel,
        start: Start,
        limit: Limit,
    ) -> Result<Page, StoreError> {
        if channel.as_str() == "slow" {
            tokio::time::sleep(Duration::from_secs(8)).await;
        }
        inner.read(channel, start, limit).await
    }

    async fn heads(&self, inner: &MemoryStore, channels: &[Channel]) -> Result<Vec<Head>, StoreError> {
        inner.heads(channels).await
    }
}

/// Publishes an event to each channel after a position, and polls from there until a signal comes after a second: how many
/// events the answer has. Only the channel `a` is followed before, so that its event needs no read.
async fn polled_for_a_second(names: &[&str]) -> usize {
    let hub = Hub::new(PatchedStore::new(MemoryStore::default(), Arc::new(Slow)));
    let names = Channels::new(names.iter().copied().map(channel)).unwrap();
    let _follower = hub.subscribe(Subscription::new(channel("a"))).await.unwrap();
    let position = hub.position(&names).await.unwrap();
    for name in &names {
        hub.publish(name, Event::text("x")).await.unwrap();
    }
    let uri = format!("/?wait=55&after={position}");
    let request: Parts = http::Request::get(uri).body(()).unwrap().into_parts().0;
    let (asked, second) = (Instant::now(), tokio::time::sleep(Duration::from_secs(1)));
    let response = events(&hub).respond(request, names).until(second).await;
    assert_eq!((response.status(), asked.elapsed().as_secs()), (StatusCode::OK, 1));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice::<Vec<serde_json::Value>>(&body).unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_the_wait_for_a_store_that_has_not_answered() {
    assert_eq!(polled_for_a_second(&["slow"]).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_signal_ends_the_wait_for_other_channels_once_something_was_found() {
    assert_eq!(polled_for_a_second(&["a", "slow"]).await, 1);
}
