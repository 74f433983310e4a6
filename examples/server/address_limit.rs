//! Bounds the requests of each address per second, in front of the services: a resolver that is asked first. So a long poll gets
//! a 429, and an `EventSource`, which would never come back after one, a `stream-retry`.
//!
//! Behind a proxy all requests come from its address: bound them there, as `limit_req` of nginx does.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{Quota, RateLimiter, clock::Clock as _, state::keyed::HashMapStateStore};
use http::request::Parts;
use tower_events::{Channels, request::Rejection};

use super::connections::Peer;

#[derive(Clone)]
pub(crate) struct AddressLimit(Arc<Limiter>);

type Limiter = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, governor::clock::DefaultClock>;

impl AddressLimit {
    /// Allows each address this many requests per second, and as many at once. Needs a runtime.
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let limiter = Arc::new(RateLimiter::hashmap(Quota::per_second(per_second)));
        let weak = Arc::downgrade(&limiter);
        tokio::spawn(async move {
            while let Some(limiter) = weak.upgrade() {
                limiter.retain_recent(); // forgets the addresses that have their whole quota again
                limiter.shrink_to_fit();
                drop(limiter);
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Self(limiter)
    }

    fn check(&self, request: &Parts) -> Result<(), Rejection> {
        let Some(Peer(address)) = request.extensions.get() else { return Ok(()) };
        let checked = self.0.check_key(&network(*address));
        checked.map_err(|not_until| Rejection::too_many(not_until.wait_time_from(self.0.clock().now())))
    }
}

/// A resolver that lets anyone read or write any channel, but only as often as `limit` allows.
pub(crate) fn anyone(limit: Option<AddressLimit>) -> impl Fn(&Parts) -> Result<Channels, Rejection> + Clone {
    move |request| {
        limit.as_ref().map_or(Ok(()), |limit| limit.check(request))?;
        Channels::from_query(request)
    }
}

/// What one customer has: a single IPv4 address, but of IPv6 at least 2^64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}
