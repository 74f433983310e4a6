//! The Redis store against real servers: the contract, and what happens when the server fails.

mod conformance;
mod server;
