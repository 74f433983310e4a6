//! Removes the tail of a log, as a failover does, for tests. Feature `testing`.

use bytes::{Bytes, BytesMut};

use super::{
    api::{self, ReadFrom, Selector},
    body,
    error::CallError,
    record,
    shared::Inner,
};
use crate::{channel::Channel, store::StoreError};

impl Inner {
    /// Removes the last `n` entries of the channel.
    pub(super) async fn lose_tail(&self, channel: &Channel, mut n: u64) -> Result<(), StoreError> {
        let place = self.place().await?;
        let log = self.log(place, channel, ReadFrom::Leader);
        while n > 0 {
            let Some(last) = log.get(Selector::Last).await? else { return Ok(()) };
            log.place
                .stream
                .delete(&self.connection, last.at, self.settings.request_timeout)
                .await
                .map_err(CallError::into_store_error)?;
            let kept = last.record.count.saturating_sub(n);
            n = n.saturating_sub(last.record.count);
            if kept > 0 {
                // A message cannot be shortened, so its remaining entries are written again.
                let mut body = BytesMut::new();
                let mut shorter = record::Record { count: 0, tag: last.record.base_tag, bytes: 0, ..last.record };
                for entry in last.entries(channel)?.iter().take(usize::try_from(kept).unwrap_or(usize::MAX)) {
                    body::put(&mut body, entry, None);
                    shorter.push(entry.cursor.tag, entry.time, entry.size() as u64, None);
                }
                let mut headers = api::expect_last(log.get(Selector::Last).await?.map_or(0, |before| before.at));
                headers.insert(record::NAME, shorter.to_text());
                let body: Bytes = body.freeze();
                let again =
                    api::publish(&self.connection, log.subject(), headers, body, self.settings.request_timeout).await;
                again.map_err(CallError::into_store_error)?;
            }
        }
        Ok(())
    }
}
