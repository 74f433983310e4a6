//! A client that polls: what it was not answered well is asked for again, from the same cursor.

use std::time::Duration;

use reqwest::{Client, Response};
use serde::Deserialize;

use crate::{event_source::Told, publisher::Published};

#[derive(Deserialize)]
struct Event {
    data: Published,
}

/// Follows until the last event. A status that says that no node is there is passing; any other is not.
pub(crate) async fn follow(client: Client, url: String) -> Told {
    let (mut told, mut after) = (Told::default(), "earliest".to_owned());
    loop {
        told.connections += 1;
        let request = client.get(format!("{url}&wait=20&after={after}")).header("accept", "application/json");
        let mut pause = Duration::from_millis(100);
        if let Ok(response) = request.send().await {
            match response.status().as_u16() {
                200 => {}
                502..=504 => {
                    tokio::time::sleep(pause).await;
                    continue;
                }
                status => {
                    told.closed = Some(format!("status {status}"));
                    return told;
                }
            }
            let (cursor, retry) = (header(&response, "last-event-id"), header(&response, "retry-after"));
            told.resets += usize::from(header(&response, "events-reset").is_some());
            if let Ok(body) = response.bytes().await {
                let events: Vec<Event> = serde_json::from_slice(&body).expect("what was published");
                if events.iter().any(|event| told.note(&event.data).is_break()) {
                    return told;
                }
                after = cursor.expect("every answer has a cursor");
                pause = Duration::from_secs(retry.map_or(0, |seconds| seconds.parse().unwrap()));
            }
        }
        tokio::time::sleep(pause).await;
    }
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}
