//! Publishes through the proxy, and repeats what was not acknowledged with the same key.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use reqwest::Client;
use serde::{Deserialize, Serialize};

use crate::{event_source::now, program::PATIENCE};

/// An event's data.
#[derive(Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) number: u64,
    /// When it was sent, as returned by [`now`].
    pub(crate) sent: u64,
    pub(crate) last: bool,
}

pub(crate) struct Publisher {
    client: Client,
    url: String,
    pub(crate) published: u64,
    /// How many requests had to be repeated.
    pub(crate) repeated: usize,
}

impl Publisher {
    pub(crate) fn new(client: Client, proxy: SocketAddr) -> Self {
        Self { client, url: format!("http://{proxy}/publish?channel=a"), published: 0, repeated: 0 }
    }

    /// Publishes every 20 ms while `continues` returns true for the number of published events.
    pub(crate) async fn publish_while(&mut self, mut continues: impl FnMut(u64) -> bool) {
        let mut interval = tokio::time::interval(Duration::from_millis(20));
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while continues(self.published) {
            interval.tick().await;
            self.publish(self.next()).await;
        }
    }

    pub(crate) async fn publish_last(&mut self) {
        self.publish(Published { last: true, ..self.next() }).await;
    }

    fn next(&self) -> Published {
        Published { number: self.published, sent: now(), last: false }
    }

    /// Publishes until it is acknowledged.
    async fn publish(&mut self, event: Published) {
        let (began, key) = (Instant::now(), format!("number-{}", event.number));
        let body = serde_json::to_string(&event).unwrap();
        loop {
            let request = self.client.post(&self.url).header("content-type", "application/json");
            let answer = request.header("idempotency-key", &key).body(body.clone()).send().await;
            match answer.map(|answer| answer.status().as_u16()) {
                Ok(200) => break,
                Ok(status) if ![502, 503, 504].contains(&status) => panic!("publishing was answered with {status}"),
                other => assert!(began.elapsed() < PATIENCE, "publishing never succeeds: {other:?}"),
            }
            self.repeated += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.published += 1;
    }
}
