//! The stores that come with the crate.
//!
//! They never see the hub or HTTP.

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis-tls"))]
mod causes;
#[cfg(any(test, fuzzing))]
mod chunks;
#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
pub mod file;
pub mod memory;
#[cfg(feature = "nats")]
#[cfg_attr(docsrs, doc(cfg(feature = "nats")))]
pub mod nats;
#[cfg(any(feature = "file", feature = "nats", feature = "postgres", feature = "redis"))]
mod outage_log;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub mod postgres;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub mod redis;
