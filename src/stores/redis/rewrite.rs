//! Replacing a channel's history, and forgetting it.

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::{
    codec::{self, Unpacker, hex},
    error::{CallError, malformed},
    script::Op,
    shared::Shared,
};
use crate::{
    channel::Channel,
    cursor::epoch_of,
    event::Event,
    store::{Expect, Head, StoreError, resume},
};

impl Shared {
    pub(super) async fn init(&self, channel: &Channel, events: &[Event], expect: Expect) -> Result<Head, StoreError> {
        let epoch = epoch_of(resume::fresh_epoch(), channel);
        let build = |place, cmd: &mut Cmd| {
            cmd.arg(self.floor_step())
                .arg(hex(epoch_of(place, channel)))
                .arg(hex(epoch))
                .arg(codec::expectation(expect));
            for event in events {
                cmd.arg(codec::event_bytes(event, resume::fresh_tag()));
            }
        };
        let (_, answer) = self
            .call(&self.writes, Op::Init, only(channel), self.deadline(), CallError::into_write_error, build)
            .await?;
        let Some(Value::BulkString(text)) = answer.first() else { return Err(malformed("answer")) };
        let mut answer = Unpacker(text);
        let kind = answer.kind().ok_or_else(|| malformed("kind"))?;
        if kind == b'U' {
            return Err(CallError::channel_error(kind, answer.0));
        }
        let head = answer.head().ok_or_else(|| malformed("head"))?;
        if kind == b'C' { Err(StoreError::Conflict { head }) } else { Ok(head) }
    }

    /// Forgets a channel: `now`, or only if it is `due`.
    pub(super) async fn forget(
        &self,
        channel: &Channel,
        when: &str,
        deadline: Instant,
        to_store_error: fn(CallError) -> StoreError,
    ) -> Result<(), StoreError> {
        let build = |place, cmd: &mut Cmd| {
            cmd.arg(self.floor_step()).arg(hex(epoch_of(place, channel))).arg(when);
        };
        self.call(&self.writes, Op::Forget, only(channel), deadline, to_store_error, build).await.map(drop)
    }
}

fn only(channel: &Channel) -> &[Channel] {
    std::slice::from_ref(channel)
}
