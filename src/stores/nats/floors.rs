//! The floors above which new channels start, one per bucket of names.

use bytes::Bytes;

use super::{
    api::{self, ReadFrom, Selector},
    error::{CallError, corrupt},
    place::Place,
    shared::Inner,
};
use crate::store::{StoreError, floor};

impl Inner {
    /// The floor of a bucket, and the stream sequence of its message.
    pub(super) async fn floor(
        &self,
        place: &Place,
        bucket: u16,
        read_from: ReadFrom,
    ) -> Result<(u64, u64), StoreError> {
        let raw = place
            .stream
            .message(&self.connection, &place.floor(bucket), Selector::Last, read_from, self.settings.request_timeout)
            .await;
        let Some(raw) = raw.map_err(CallError::into_store_error)? else { return Ok((0, 0)) };
        Ok((parse(&raw.body)?, raw.at))
    }

    /// Raises the floor to above `seq`; returns the new floor. It always rises, even if it is above `seq` already: a
    /// reader that was given the old floor must not meet it again after the log that is removed now, which may have
    /// started below it.
    pub(super) async fn raise_floor(&self, place: &Place, bucket: u16, seq: u64) -> Result<u64, StoreError> {
        loop {
            let (floor, at) = self.floor(place, bucket, ReadFrom::Leader).await?;
            let to = floor::raised(floor, seq);
            let mut headers = api::expect_last(at);
            headers.insert("Nats-Rollup", "sub");
            let (subject, body) = (place.floor(bucket), Bytes::from(to.to_string()));
            match api::publish(&self.connection, &subject, headers, body, self.settings.request_timeout).await {
                Ok(_) => return Ok(to),
                Err(CallError::Refused(api_error)) if api_error.is_conflict() => {}
                Err(error) => return Err(error.into_store_error()),
            }
        }
    }
}

pub(super) fn parse(body: &[u8]) -> Result<u64, StoreError> {
    let floor = std::str::from_utf8(body).ok().and_then(|floor| floor.parse().ok());
    floor.ok_or_else(|| corrupt("a floor"))
}
