//! A revocation with several nodes, one of which gets no hints, and one of which is cut off from the store meanwhile.

use std::time::{Duration, Instant, SystemTime};

use http::request::Parts;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tower_events::{
    AnyStore, Channels, Event, EventService, Grant, Hub, Rejection, sse::SseOptions, testing::FaultStore,
};

use super::{
    handed_out::HandedOut,
    place::Place,
    support::{Answer, Server, Sse, channel, eventually, eventually_eq, serve},
};

/// The default of `HubOptions::revocation_interval`.
const INTERVAL: Duration = Duration::from_secs(5);

pub(crate) async fn nothing_is_handed_out_after_the_interval(place: Place) {
    let (deaf, faults) = FaultStore::new(place.open().await);
    faults.lose_hints(usize::MAX);
    let (cut_off, mut line) = place.open_over_a_line().await;
    let nodes =
        [Node::start(place.open().await).await, Node::start(AnyStore::new(deaf)).await, Node::start(cut_off).await];
    fill(&nodes[0].hub).await;
    let mut readers = Vec::new();
    for node in &nodes {
        readers.push(Readers::open(node).await);
    }
    let publishing = tokio::spawn(keep_publishing(nodes[0].hub.clone()));
    line.cut();
    nodes[0].hub.revoke("ann").await.unwrap();
    let revoked = Instant::now();

    let mut bobs = Vec::new();
    for (node, readers) in nodes.iter().zip(readers) {
        let Readers { mut stream, poll, cursor, bob, stalled } = readers;
        assert_eq!(stream.remaining().await.pop().unwrap().name, "stream-retry");
        let poll = poll.await.unwrap();
        assert_eq!((poll.status, poll.text(), poll.cursor()), (200, "[]", cursor));
        // It reads again only once everything is over.
        tokio::time::sleep_until((revoked + INTERVAL).into()).await;
        drain(stalled).await;
        assert!(node.to_stalled.bytes() < LARGE, "the stalled stream was cut off: {}", node.to_stalled.bytes());
        for handed_out in [&node.to_ann, &node.to_stalled] {
            let late = handed_out.last().checked_duration_since(revoked + INTERVAL);
            assert_eq!(late, None, "something was handed out after the interval");
        }
        bobs.push(bob);
    }

    let mut of_cut_off = bobs.pop().unwrap();
    assert_eq!(of_cut_off.remaining().await.pop().unwrap().name, "stream-retry", "revocations may be missing");
    for bob in &mut bobs {
        let last = publish(&nodes[0].hub, "inbox", "last").await;
        while bob.next().await.id != last {}
    }
    publishing.abort();
    let [here, deaf, cut_off] = nodes;
    assert_eq!(cut_off.ask("bob").await.status, 503);
    line.mend();
    for node in [here, deaf, cut_off] {
        assert_eq!((node.ask_until_it_is_certain("bob").await, node.ask_until_it_is_certain("ann").await), (200, 401));
    }
}

struct Node {
    hub: Hub,
    server: Server,
    to_ann: HandedOut,
    to_stalled: HandedOut,
}

impl Node {
    /// Serves `ann` and `bob`, who have tokens that are a minute old; streams are never silent for long.
    async fn start(store: AnyStore) -> Self {
        let (hub, to_ann, to_stalled) = (Hub::new(store), HandedOut::default(), HandedOut::default());
        let events = |subject: &'static str| {
            let options = SseOptions::default().heartbeat(Duration::from_millis(20));
            EventService::new(hub.clone(), move |request: &Parts| of(subject, request)).sse(options)
        };
        let routes = to_ann.watching("/ann", events("ann"));
        let routes = routes.merge(to_stalled.watching("/stalled", events("ann"))).route_service("/bob", events("bob"));
        Self { server: serve(routes).await, hub, to_ann, to_stalled }
    }

    async fn ask(&self, subject: &str) -> Answer {
        self.server.get(&format!("/{subject}?channel=quiet&wait=0")).send().await
    }

    /// The status once the node knows all revocations.
    async fn ask_until_it_is_certain(&self, subject: &str) -> u16 {
        loop {
            match self.ask(subject).await.status {
                503 => tokio::time::sleep(Duration::from_millis(20)).await,
                status => return status,
            }
        }
    }
}

fn of(subject: &str, request: &Parts) -> Result<Grant, Rejection> {
    let issued = SystemTime::now().checked_sub(Duration::from_secs(60)).unwrap();
    Ok(Grant::new(Channels::from_query(request)?).subject(subject).issued_at(issued))
}

/// What is open at one node.
struct Readers {
    stream: Sse,
    poll: tokio::task::JoinHandle<Answer>,
    /// Where the poll waits.
    cursor: String,
    bob: Sse,
    stalled: TcpStream,
}

impl Readers {
    async fn open(node: &Node) -> Self {
        let mut streams = Vec::new();
        for subject in ["ann", "bob"] {
            let mut stream = node.server.get(&format!("/{subject}?channel=inbox")).sse().await;
            stream.live().await;
            streams.push(stream);
        }
        let cursor = node.ask("ann").await.cursor();
        let server = Server::at(node.server.addr());
        let target = format!("/ann?channel=quiet&after={cursor}&wait=50");
        let poll = tokio::spawn(async move { server.get(&target).send().await });
        let stalled = stalled(&node.server).await;
        eventually_eq("readers", 4, || node.hub.stats().readers).await;
        eventually("the stalled stream has begun", || node.to_stalled.bytes() > 1 << 20).await;
        Self { bob: streams.pop().unwrap(), stream: streams.pop().unwrap(), poll, cursor, stalled }
    }
}

/// A client that asks for more than the buffers on the way hold, and reads nothing.
async fn stalled(server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 << 10).unwrap();
    let mut stream = socket.connect(server.addr()).await.unwrap();
    let request =
        "GET /stalled?channel=large&after=earliest HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads what is left, up to the proper end of the response.
async fn drain(mut stream: TcpStream) {
    let (mut buffer, mut tail) = (vec![0; 64 << 10], Vec::new());
    while !tail.ends_with(b"\r\n0\r\n\r\n") {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the response ends before the connection does");
        tail.extend_from_slice(&buffer[..count]);
        tail.drain(..tail.len().saturating_sub(16));
    }
}

/// What is in the channel that the stalled clients read.
const LARGE: usize = 8 << 20;

async fn fill(hub: &Hub) {
    for _ in 0..LARGE / (128 << 10) {
        publish(hub, "large", &"x".repeat(128 << 10)).await;
    }
}

async fn keep_publishing(hub: Hub) {
    loop {
        publish(&hub, "inbox", "something").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn publish(hub: &Hub, to: &str, text: &str) -> String {
    hub.publish(&channel(to), Event::text(text)).await.unwrap().cursor.to_string()
}
