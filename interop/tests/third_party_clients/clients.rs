//! The clients: one function per client, which starts it on a URL.

use std::{path::Path, time::Duration};

use eventsource_client::{Client as _, ReconnectOptions, SSE};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::{
    PREPARE,
    follower::{Follower, Seen},
};

/// LaunchDarkly's client.
pub(crate) fn eventsource_client_in_rust(url: String) -> Follower {
    Follower::start(|sender| async move {
        let (soon, later) = (Duration::from_millis(10), Duration::from_millis(50));
        let reconnect = ReconnectOptions::reconnect(true).retry_initial(true).delay(soon).delay_max(later).build();
        let transport = launchdarkly_sdk_transport::HyperTransport::builder().disable_proxy().build_http().unwrap();
        let client = eventsource_client::ClientBuilder::for_url(&url).unwrap().reconnect(reconnect);
        let mut stream = client.build_with_transport(transport).stream();
        while let Some(next) = stream.next().await {
            // An error means a cut; the client reconnects by itself.
            if let Ok(SSE::Event(event)) = next {
                let id = event.id.unwrap_or_default();
                _ = sender.send(Seen { name: event.event_type, data: event.data, id });
            }
        }
    })
}

/// The other widely used client in Rust.
pub(crate) fn reqwest_eventsource_in_rust(url: String) -> Follower {
    use reqwest_eventsource::{Event, EventSource, retry::Constant};
    Follower::start(|sender| async move {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut stream = EventSource::new(client.get(url)).unwrap();
        stream.set_retry_policy(Box::new(Constant::new(Duration::from_millis(10), None)));
        while let Some(next) = stream.next().await {
            if let Ok(Event::Message(message)) = next {
                _ = sender.send(Seen { name: message.event, data: message.data, id: message.id });
            }
        }
    })
}

pub(crate) fn eventsource_in_node(url: String) -> Follower {
    node("eventsource", &url)
}

pub(crate) fn eventsource_client_in_node(url: String) -> Follower {
    node("eventsource-client", &url)
}

pub(crate) fn event_source_polyfill_in_node(url: String) -> Follower {
    node("event-source-polyfill", &url)
}

pub(crate) fn launchdarkly_eventsource_in_node(url: String) -> Follower {
    node("launchdarkly-eventsource", &url)
}

pub(crate) fn fetch_event_source_in_node(url: String) -> Follower {
    node("fetch-event-source", &url)
}

/// A long poll.
pub(crate) fn fetch_in_node(url: String) -> Follower {
    node("fetch", &url)
}

fn node(client: &str, url: &str) -> Follower {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    assert!(folder.join("node_modules/launchdarkly-eventsource").exists(), "{PREPARE}");
    Follower::program(Path::new("node"), [folder.join("follow.mjs").to_str().unwrap(), client, url, "said"])
}

pub(crate) fn httpx_sse_in_python(url: String) -> Follower {
    python("httpx-sse", &url)
}

pub(crate) fn aiohttp_sse_client2_in_python(url: String) -> Follower {
    python("aiohttp-sse-client2", &url)
}

pub(crate) fn sseclient_py_in_python(url: String) -> Follower {
    python("sseclient-py", &url)
}

pub(crate) fn requests_sse_in_python(url: String) -> Follower {
    python("requests-sse", &url)
}

/// A stream read by hand, with the package that many use for it.
pub(crate) fn requests_in_python(url: String) -> Follower {
    python("requests", &url)
}

fn python(client: &str, url: &str) -> Follower {
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop-python").join("bin/python");
    assert!(python.exists(), "{PREPARE}");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/follow.py");
    Follower::program(&python, ["-u", script, client, url])
}

/// A long poll.
pub(crate) fn reqwest_in_rust(url: String) -> Follower {
    Follower::start(|sender| poll(url, sender))
}

async fn poll(url: String, sender: mpsc::UnboundedSender<Seen>) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let send = |name: &str, data: String, id: &str| {
        _ = sender.send(Seen { name: name.into(), data, id: id.into() });
    };
    let mut next = url;
    loop {
        // A cut: poll again from the same cursor.
        let Ok(response) = client.get(&next).send().await else { continue };
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (cursor, reset, closed) = (header("last-event-id"), header("events-reset"), header("events-closed"));
        let Ok(body) = response.bytes().await else { continue };
        let events: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("an array");
        if let Some(reset) = reset {
            send("stream-reset", reset, "");
        }
        for event in events {
            let name = event["name"].as_str().unwrap_or("message");
            send(name, event["data"].to_string(), event["id"].as_str().unwrap());
        }
        if closed.is_some() {
            return send("stream-end", String::new(), "");
        }
        next = format!("{}?channel=room&wait=20&after={}", next.split('?').next().unwrap(), cursor.unwrap());
    }
}
