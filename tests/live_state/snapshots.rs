//! Snapshots on several nodes: the position that a state has, and that no change is missed however readers come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use serde_json::Value;
use tower_events::{Channels, Event, EventService, Hub, HubOptions, Retention, Snapshots};

use super::{
    place::Place,
    support::{BOTH, Http, Message, Parser, Server, channel, serve},
};

/// The application: a number that is counted up; each change is committed, and then published.
#[derive(Clone, Default)]
struct Application {
    state: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

impl Application {
    /// Another provider for each node, as in other processes.
    fn snapshots(&self) -> Snapshots {
        let this = self.clone();
        Snapshots::new(move |_| {
            let this = this.clone();
            async move {
                this.calls.fetch_add(1, SeqCst);
                let state = this.state.load(SeqCst);
                // A query takes a while.
                tokio::time::sleep(Duration::from_millis(state % 5)).await;
                Event::json(&state)?.named("state")
            }
        })
    }

    async fn change(&self, hub: &Hub) -> String {
        let change = self.state.fetch_add(1, SeqCst) + 1;
        let event = Event::json(&change).unwrap().named("change").unwrap();
        hub.publish(&channel("a"), event).await.unwrap().cursor.to_string()
    }

    /// A node that has no events in memory.
    async fn node(&self, place: &Place) -> (Hub, Server) {
        let hub = Hub::with_options(place.open().await, HubOptions::default().ring_bytes(0));
        let events = EventService::new(hub.clone(), Channels::from_query).snapshots(self.snapshots());
        (hub, serve(events).await)
    }
}

pub(crate) async fn a_state_comes_with_its_position(place: Place) {
    let (place, application) = (place.retaining(Retention::default().events(2)).await, Application::default());
    let ((here, _), (_, there)) = (application.node(&place).await, application.node(&place).await);
    let old = application.change(&here).await;
    let mut head = String::new();
    for _ in 0..9 {
        head = application.change(&here).await;
    }
    for http in BOTH {
        for (id, reset) in [(None, None), (Some(old.as_str()), Some("trimmed")), (Some("nonsense"), Some("unknown"))] {
            let get = |target: &str| {
                let request = there.get(target).over(http);
                if let Some(id) = id { request.last_event_id(id) } else { request }
            };
            let mut stream = get("/?channel=a").sse().await;
            let live = stream.live().await;
            let mut messages = Parser::default().push(stream.raw()).into_iter();
            if let Some(reason) = reset {
                let reset = messages.next().unwrap();
                assert_eq!(
                    (reset.name.as_str(), reset.id.as_str()),
                    ("stream-reset", ""),
                    "no position before the state"
                );
                assert!(reset.data.contains(reason) && reset.data.contains(r#""snapshot":true"#), "{}", reset.data);
            }
            let state = messages.next().unwrap();
            assert_eq!((state.name.as_str(), state.data.as_str(), &state.id), ("state", "10", &head));
            assert_eq!((messages.next(), messages.next()), (Some(live), None));

            let poll = get("/?channel=a&wait=20").send().await.expect(200);
            assert_eq!(
                (poll.data(), poll.cursor(), poll.try_header("events-reset")),
                (vec![10.into()], head.clone(), reset)
            );
            assert_eq!(poll.json()[0]["snapshot"], true);
            let page = get("/?channel=a&wait=20&format=page").send().await.expect(200).json();
            assert_eq!((&page["events"][0]["snapshot"], &page["cursor"]), (&true.into(), &head.clone().into()));
        }
    }
    // In mid-stream, when another node makes the log anew.
    let mut stream = there.get("/?channel=a").sse().await;
    stream.live().await;
    application.state.store(20, SeqCst);
    here.init(&channel("a"), vec![]).await.unwrap();
    let messages = stream.take(3).await;
    let names: Vec<_> = messages.iter().map(|message| message.name.as_str()).collect();
    assert_eq!((names, messages[2].data.as_str()), (vec!["state", "stream-reset", "state"], "20"));
    assert_eq!(messages[1].id, messages[0].id, "the old position until the state was sent");
    let next = application.change(&here).await;
    let change = stream.next().await;
    assert_eq!((change.data.as_str(), change.id), ("21", next));
}

/// Readers on two nodes that come back all the time, while changes are published and the log is trimmed and made anew.
pub(crate) async fn no_change_is_missed(place: Place) {
    let (place, application) = (place.retaining(Retention::default().events(20)).await, Application::default());
    let publisher = Hub::new(place.open().await);
    application.change(&publisher).await;
    let nodes = [application.node(&place).await, application.node(&place).await];
    let mut readers = Vec::new();
    for (_, server) in &nodes {
        for http in BOTH {
            readers.push(tokio::spawn(by_streams(Server::at(server.addr()), http)));
            readers.push(tokio::spawn(by_polls(Server::at(server.addr()), http)));
        }
    }
    for n in 1..CHANGES {
        application.change(&publisher).await;
        match n % 100 {
            50 => drop(publisher.init(&channel("a"), vec![]).await.unwrap()),
            // Some readers keep up now and then.
            n if n % 10 == 0 => tokio::time::sleep(Duration::from_millis(10)).await,
            _ => {}
        }
    }
    // After all changes, and until every reader has seen one of these.
    let ending = tokio::spawn(async move {
        loop {
            publisher.publish(&channel("a"), Event::json(&CHANGES).unwrap().named("end").unwrap()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut states = 0;
    for reader in readers {
        states += reader.await.unwrap().states;
    }
    ending.abort();
    println!("{states} states were sent, for {} calls", application.calls.load(SeqCst));
}

const CHANGES: u64 = 400;

/// What a client knows.
#[derive(Default)]
struct Replica {
    value: u64,
    states: u64,
    has_ended: bool,
}

impl Replica {
    /// Applies an event as an application does: a state replaces everything, and a change that is known is nothing new.
    fn take(&mut self, name: &str, data: &Value) {
        let number = || data.as_u64().unwrap();
        match name {
            "state" => {
                self.value = number();
                self.states += 1;
            }
            "change" => {
                assert!(number() <= self.value + 1, "after {} comes {data}", self.value);
                self.value = self.value.max(number());
            }
            "end" => {
                assert_eq!(self.value, number(), "what was published before it");
                self.has_ended = true;
            }
            _ => {}
        }
    }

    fn take_message(&mut self, Message { name, data, .. }: &Message) {
        self.take(name, &serde_json::from_str(data).unwrap());
    }
}

/// Takes a few events at a time, then comes back with the last id: or without one now and then, as a page that is reloaded.
async fn by_streams(server: Server, http: Http) -> Replica {
    let (mut replica, mut id, mut connections) = (Replica::default(), String::new(), 0);
    while !replica.has_ended {
        connections += 1;
        let request = server.get("/?channel=a").over(http);
        let is_fresh = id.is_empty() || connections % 10 == 0;
        let mut stream = if is_fresh { request } else { request.last_event_id(&id) }.sse().await;
        let taken = stream.take(1 + connections % 7).await;
        taken.iter().for_each(|message| replica.take_message(message));
        // The rest of what has arrived is lost with the connection.
        id = taken.last().map_or_else(String::new, |message| message.id.clone());
    }
    replica
}

/// As [`by_streams`], with polls.
async fn by_polls(server: Server, http: Http) -> Replica {
    let (mut replica, mut after, mut polls) = (Replica::default(), String::new(), 0);
    while !replica.has_ended {
        polls += 1;
        let start = if polls % 10 == 0 { "" } else { &after };
        let target = format!("/?channel=a&limit={}&wait=1&after={start}", 1 + polls % 7);
        let answer = server.get(&target).over(http).send().await.expect(200);
        let Value::Array(events) = answer.json() else { panic!("{answer}") };
        for event in &events {
            replica.take(event["name"].as_str().unwrap(), &event["data"]);
        }
        after = answer.cursor();
    }
    replica
}
