//! The stores that come with the crate. They never see the hub or HTTP.

pub mod memory;
