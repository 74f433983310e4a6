//! The Redis store against real servers: the contract, what Redis does differently from what one would think, and what
//! happens when the server or the way to it fails.

mod conformance;
mod faults;
mod load;
mod logs;
mod nodes;
mod server;
#[cfg(feature = "redis-tls")]
mod tls;
mod traps;
mod wire;
