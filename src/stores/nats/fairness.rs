//! Turns at a channel that several nodes write to. The server takes a message only after the one that it was decided on, so a
//! node nearby would always come before one far away. Who was overtaken says so to all, and those who began later wait a
//! little. That is a courtesy, by messages that nobody stores: where one is lost, a turn comes later, and nothing is wrong.

use std::sync::{Arc, Weak};

use tokio::time::{Duration, Instant, sleep};

use super::{
    handle::Inner,
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

    async fn ask_for_turn(&self, channel: &Channel, begun: Instant) {
        let hold = (self.connection.round_trip() * 6).clamp(MIN_HOLD, MAX_HOLD);
        self.send_turn_message(channel, TurnMessage::Ask { waited: begun.elapsed(), hold }).await;
    }
}

impl Writer {
    /// Lets those go first who have waited longer; and when others were faster again and again, asks them to wait.
    pub(super) async fn wait_for_turn(&mut self, overtaken: u32, by: Instant) {
        // Mostly nobody else is there, and this is all.
        if overtaken >= CONTENDED_AFTER || !self.inner.turns.is_uncontended(&self.channel) {
            Box::pin(self.negotiate_turn(overtaken, by)).await;
        }
    }

    async fn negotiate_turn(&mut self, overtaken: u32, by: Instant) {
        let inner = Arc::clone(&self.inner);
        let (turns, channel) = (&inner.turns, self.channel.clone());
        let begun = by.checked_sub(inner.settings.timeout).unwrap_or(by);
        let is_slow = overtaken >= CONTENDED_AFTER && begun.elapsed() >= SLOW_AFTER;
        if is_slow {
            turns.note_contended(&channel);
        }
        let asks = is_slow || turns.is_contended(&channel);
        if asks {
            self.asked = true;
            inner.ask_for_turn(&channel, begun).await;
        }
        let has_waited = turns.wait(&channel, begun, by - (by - begun) / 4).await;
        if asks {
            if has_waited {
                inner.ask_for_turn(&channel, begun).await;
            }
            // What others have sent already arrives before what is known is asked for.
            sleep((inner.connection.round_trip() / 8).clamp(Duration::from_millis(1), Duration::from_millis(10))).await;
        }
        if asks || has_waited {
            self.distrust_state();
        }
    }

    /// Tells those who were asked to wait that they may go on, whatever came of it.
    pub(super) async fn end_turn(&mut self) {
        if std::mem::take(&mut self.asked) {
            Box::pin(self.inner.send_turn_message(&self.channel, TurnMessage::Done)).await;
        }
    }
}

/// Hears what other nodes say, as long as the store is there.
pub(super) async fn listen(inner: Weak<Inner>) {
    loop {
        let Some(now) = inner.upgrade() else { return };
        let messages = now.connection.subscribe(subject(&now.settings.prefix)).await;
        drop(now);
        if let Ok(mut messages) = messages {
            loop {
                let next =
                    std::future::poll_fn(|cx| futures_core::Stream::poll_next(std::pin::Pin::new(&mut messages), cx));
                // So that a store that nobody holds any more is not waited in.
                let next = tokio::time::timeout(CHECK_EVERY, next).await;
                let Some(inner) = inner.upgrade() else { return };
                let message = match next {
                    Ok(Some(message)) => message,
                    Ok(None) => break,
                    Err(_) => continue,
                };
                match std::str::from_utf8(&message.payload).ok().and_then(parse) {
                    Some((channel, node, message)) if node != inner.turns.node => {
                        inner.turns.receive(channel, node, message)
                    }
                    _ => {}
                }
            }
        }
        sleep(jittered(CHECK_EVERY)).await;
    }
}

/// An append that was overtaken so often,
const CONTENDED_AFTER: u32 = 2;

/// and has waited for so long is far away, or one of very many.
const SLOW_AFTER: Duration = Duration::from_millis(25);

const CHECK_EVERY: Duration = Duration::from_secs(1);
