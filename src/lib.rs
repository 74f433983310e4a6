#![doc = "Resumable event delivery for tower stacks."]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod channel;
pub mod cursor;
pub mod error;
pub mod event;

pub mod hub;
pub mod store;
pub mod stores;

#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub mod testing;

pub use self::{
    channel::{Channel, Channels},
    cursor::{Cursor, Cursors, epoch_of},
    error::{InvalidChannel, InvalidChannels, InvalidCursor, InvalidEvent},
    event::{Data, Event, EventKey, EventName},
    hub::{
        Closed, Delivery, Drained, Events, Hub, HubOptions, Listened, Reset, Stats, SubscribeError, Subscriber,
        Subscription,
    },
    store::{AnyStore, Retention, Store, StoreError},
    stores::memory::MemoryStore,
};
