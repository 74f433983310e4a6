//! Taking turns at a channel that several nodes write to. The server accepts a message only right after the one that it
//! was decided on, so a node nearby would always win against one far away. A node that is overtaken tells the others,
//! and those that started later wait a little. These messages are hints that nothing stores: if one is lost, a turn
//! comes later, and no data is affected.

use std::sync::{Arc, Weak};

use tokio::time::{Duration, Instant, sleep};

use super::{
    shared::Inner,
    timing::jittered,
    turns::{MAX_HOLD, MIN_HOLD, TurnMessage, parse, subject, to_text},
    writer::Writer,
};
use crate::channel::Channel;

impl Inner {
    async fn send_turn_message(&self, channel: &Channel, message: TurnMessage) {
        let text = to_text(channel, self.turns.node, message);
        self.connection.publish(subject(&self.settings.prefix), text.into()).await;
    }

    async fn ask_for_turn(&self, channel: &Channel, started: Instant) {
        let hold = (self.connection.round_trip() * 6).clamp(MIN_HOLD, MAX_HOLD);
        self.send_turn_message(channel, TurnMessage::Ask { waited: started.elapsed(), hold }).await;
    }
}

impl Writer {
    /// Lets nodes that have waited longer go first, and asks the others to wait when this one is overtaken repeatedly.
    pub(super) async fn wait_for_turn(&mut self, overtaken: u32, deadline: Instant) {
        // The common case: no other node competes.
        if overtaken >= CONTENDED_AFTER || !self.inner.turns.is_uncontended(&self.channel) {
            Box::pin(self.negotiate_turn(overtaken, deadline)).await;
        }
    }

    async fn negotiate_turn(&mut self, overtaken: u32, deadline: Instant) {
        let inner = Arc::clone(&self.inner);
        let (turns, channel) = (&inner.turns, self.channel.clone());
        let started = deadline.checked_sub(inner.settings.timeout).unwrap_or(deadline);
        let is_slow = overtaken >= CONTENDED_AFTER && started.elapsed() >= SLOW_AFTER;
        if is_slow {
            turns.note_contended(&channel);
        }
        let asks = is_slow || turns.is_contended(&channel);
        if asks {
            self.asked_to_wait = true;
            inner.ask_for_turn(&channel, started).await;
        }
        let has_waited = turns.wait(&channel, started, deadline - (deadline - started) / 4).await;
        if asks {
            if has_waited {
                inner.ask_for_turn(&channel, started).await;
            }
            // Messages that others have already sent arrive before the state is read again.
            sleep((inner.connection.round_trip() / 8).clamp(Duration::from_millis(1), Duration::from_millis(10))).await;
        }
        if asks || has_waited {
            self.distrust_state();
        }
    }

    /// Tells the nodes that were asked to wait that they may continue, whatever the outcome.
    pub(super) async fn end_turn(&mut self) {
        if std::mem::take(&mut self.asked_to_wait) {
            Box::pin(self.inner.send_turn_message(&self.channel, TurnMessage::Done)).await;
        }
    }
}

/// Receives the messages of other nodes while the store exists.
pub(super) async fn listen(inner: Weak<Inner>) {
    loop {
        let Some(now) = inner.upgrade() else { return };
        let messages = now.connection.subscribe(subject(&now.settings.prefix)).await;
        drop(now);
        if let Ok(mut messages) = messages {
            loop {
                let next =
                    std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut messages), cx));
                // Wakes up now and then, so that a dropped store does not keep this task waiting.
                let next = tokio::time::timeout(CHECK_EVERY, next).await;
                let Some(inner) = inner.upgrade() else { return };
                let message = match next {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(_) => continue,
                };
                match std::str::from_utf8(&message.payload).ok().and_then(parse) {
                    Some((channel, node, message)) if node != inner.turns.node => {
                        inner.turns.receive(channel, node, message);
                    }
                    _ => {}
                }
            }
        }
        sleep(jittered(CHECK_EVERY)).await;
    }
}

/// An append that was overtaken this many times,
const CONTENDED_AFTER: u32 = 2;

/// and has waited this long, is far from the server or one of very many.
const SLOW_AFTER: Duration = Duration::from_millis(25);

const CHECK_EVERY: Duration = Duration::from_secs(1);
