//! A client that polls: after a failed poll it polls again from the same cursor.

use std::time::Duration;

use reqwest::{Client, Response};
use serde::Deserialize;

use crate::{event_source::Observed, publisher::Published};

#[derive(Deserialize)]
struct Event {
    data: Published,
}

/// Follows until the last event. A status that means that no node is up is retried; any other ends the client.
pub(crate) async fn follow(client: Client, url: String) -> Observed {
    let (mut observed, mut after) = (Observed::default(), "earliest".to_owned());
    loop {
        observed.connections += 1;
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
                    observed.closed = Some(format!("status {status}"));
                    return observed;
                }
            }
            let (cursor, retry) = (header(&response, "last-event-id"), header(&response, "retry-after"));
            observed.resets += usize::from(header(&response, "events-reset").is_some());
            if let Ok(body) = response.bytes().await {
                let events: Vec<Event> = serde_json::from_slice(&body).expect("what was published");
                if events.iter().any(|event| observed.record(&event.data).is_break()) {
                    return observed;
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
