//! What a stream writes that has nothing but data.

use super::{SseBody, StreamState};
use crate::{
    encode::push_data_block,
    hub::{Delivery, SubscribeError},
    retry::jittered,
    sse::options::DataOnly,
};

impl SseBody {
    /// Writes what the option says for `delivery`; the buffer must be empty.
    pub(super) fn write_data(&mut self, data_only: &DataOnly, delivery: Option<Result<Delivery, SubscribeError>>) {
        let delivery = match delivery {
            Some(Ok(delivery)) => delivery,
            // The delay is not sent: a client that comes back too early is refused with one.
            Some(Err(_)) => Delivery::Drained { retry: jittered(self.retry()) },
            None => return self.state = StreamState::Ended,
        };
        if matches!(delivery, Delivery::Drained { .. }) {
            self.state = StreamState::Ended;
        }
        let mut out = Vec::new();
        for text in data_only.texts(&delivery) {
            push_data_block(&mut out, &text);
        }
        self.buffer.put(out);
    }
}
