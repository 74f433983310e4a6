//! Publishes numbered events, each exactly once, also while the server restarts.

use std::{net::SocketAddr, time::Duration};

use tokio::{sync::watch, time::MissedTickBehavior};

use crate::support::Http1;

/// Publishes to `channels` channels in turn, `per_second` events in all, until told to stop. Returns how many each channel has.
pub(crate) async fn publish(
    server: SocketAddr,
    channels: usize,
    per_second: u32,
    stop: watch::Receiver<bool>,
) -> Vec<u64> {
    let mut counts = vec![0; channels];
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connection = None;
    for channel in (0..channels).cycle() {
        ticks.tick().await;
        if *stop.borrow() {
            break;
        }
        while !publish_once(&mut connection, server, channel, counts[channel]).await {
            connection = None;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        counts[channel] += 1;
    }
    counts
}

/// Returns whether it was stored. With the same key it can be repeated whatever became of it.
async fn publish_once(connection: &mut Option<Http1>, server: SocketAddr, channel: usize, number: u64) -> bool {
    if connection.is_none() {
        *connection = Http1::connect(server).await.ok();
    }
    let Some(http1) = connection else { return false };
    let (body, key) = (number.to_string(), format!("{channel}-{number}"));
    let head = format!(
        "POST /publish?channel=c{channel} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         idempotency-key: {key}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    http1.send(head + &body).await;
    http1.answer_to("POST").await.is_ok_and(|answer| {
        assert!(matches!(answer.status, 200 | 503), "{answer}");
        answer.status == 200
    })
}
