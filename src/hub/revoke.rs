//! Revoking a subject's access in every process.

use super::{handle::Hub, revocations_channel::revocations_channel};
use crate::{
    event::Event,
    store::{Append, Store, StoreError},
};

/// Revoking.
impl<S: Store> Hub<S> {
    /// Ends the access of a [subject](crate::Grant::subject) in every process that shares the store; returns when the store has
    /// recorded it. Streams end with `stream-retry`, polls with `[]`, and a client that comes back is judged anew: a grant that
    /// [was issued](crate::Grant::issued_at) before the revocation is refused, any other is the resolver's decision. So first make your
    /// resolver refuse the subject (delete the session, lock the account), then revoke.
    ///
    /// Nothing is handed to a server later than [`HubOptions::revocation_interval`](crate::HubOptions::revocation_interval)
    /// after this has returned, mostly within milliseconds. What the server and the connection hold by then may still arrive.
    ///
    /// A revocation is kept as long as the store keeps events ([`Retention`](crate::Retention)), and is as durable as they are.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tower_events::{Hub, MemoryStore};
    ///
    /// let hub = Hub::new(MemoryStore::default());
    /// hub.revoke("user:17").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Store::append`]. Repeat it: revoking twice does no harm.
    ///
    /// # Cancel safety
    /// When the future is dropped, the subject is revoked or not.
    pub async fn revoke(&self, subject: impl AsRef<str>) -> Result<(), StoreError> {
        let channel = revocations_channel().map_err(|error| StoreError::Corrupt(error.into()))?;
        let appended = self.append(&channel, Append::new([Event::text(subject.as_ref())])).await?;
        // In this process at once. What is not followed is read when it is.
        let (subjects, kept_for) = (&self.shared.subjects, self.shared.store.retention().age);
        if subjects.is_certain() {
            appended.entries.iter().for_each(|entry| subjects.revoked(entry, kept_for));
        }
        Ok(())
    }
}
