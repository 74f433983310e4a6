//! Publishing through a hub, and other changes of channels: the store applies them, and this process's readers learn of them
//! at once.

use super::{changes, handle::Hub};
use crate::{
    channel::Channel,
    event::Event,
    store::{Append, Appended, Expect, Head, Receipt, Store, StoreError},
};

/// Publishing.
impl<S: Store> Hub<S> {
    /// Appends one event.
    ///
    /// # Errors
    /// As [`Store::append`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the event is appended or not; readers get it if it is.
    pub async fn publish(&self, channel: &Channel, event: Event) -> Result<Receipt, StoreError> {
        let appended = self.append(channel, Append::new([event])).await?;
        let receipt = appended.receipts.first().copied();
        receipt.ok_or_else(|| StoreError::Corrupt("the store returned no receipt".into()))
    }

    /// Appends a batch, atomically and in order.
    ///
    /// # Errors
    /// As [`Store::append`].
    ///
    /// # Cancel safety
    /// As [`Hub::publish`].
    pub async fn publish_all(
        &self,
        channel: &Channel,
        events: impl IntoIterator<Item = Event>,
    ) -> Result<Appended, StoreError> {
        self.append(channel, Append::new(events)).await
    }

    /// Appends under a condition, or as the last append of the channel.
    ///
    /// # Errors
    /// As [`Store::append`].
    ///
    /// # Cancel safety
    /// As [`Hub::publish`].
    pub async fn append(&self, channel: &Channel, append: Append) -> Result<Appended, StoreError> {
        let result = self.store.append(channel, append).await;
        changes::append_finished(&self.shared, channel, &result);
        result
    }

    /// Closes the channel: readers get what is left, then its end. Only [`Hub::init`] opens it again.
    ///
    /// # Errors
    /// As [`Store::append`], but not `Closed`: closing again succeeds.
    ///
    /// # Cancel safety
    /// As [`Hub::publish`].
    pub async fn close(&self, channel: &Channel) -> Result<Head, StoreError> {
        Ok(self.append(channel, Append::new([]).closing()).await?.head)
    }

    /// Replaces the channel's history; its readers are reset.
    ///
    /// # Errors
    /// As [`Store::init`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the history is replaced as a whole or not at all.
    pub async fn init(&self, channel: &Channel, events: Vec<Event>) -> Result<Head, StoreError> {
        let head = self.store.init(channel, events, Expect::Any).await?;
        changes::replaced(&self.shared, channel, Some(head));
        Ok(head)
    }

    /// Fills the channel if it has never been used; of several processes that do so at once, one succeeds. `None` if it has
    /// been used.
    ///
    /// # Errors
    /// As [`Store::init`], but not `Conflict`.
    ///
    /// # Cancel safety
    /// As [`Hub::init`].
    pub async fn init_if_unused(&self, channel: &Channel, events: Vec<Event>) -> Result<Option<Head>, StoreError> {
        match self.store.init(channel, events, Expect::NeverUsed).await {
            Ok(head) => {
                changes::replaced(&self.shared, channel, Some(head));
                Ok(Some(head))
            }
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes the channel and its data; its readers are reset.
    ///
    /// # Errors
    /// As [`Store::delete`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the channel is deleted or not.
    pub async fn delete(&self, channel: &Channel) -> Result<(), StoreError> {
        self.store.delete(channel).await?;
        changes::replaced(&self.shared, channel, None);
        Ok(())
    }
}
