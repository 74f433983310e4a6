// error: is not a resolver
// note: make an asynchronous check in a handler that calls `EventService::respond`
use axum::http::request::Parts;
use tower_events::{Channels, EventService, Hub, MemoryStore, Rejection};

async fn may_read(request: &Parts) -> Result<Channels, Rejection> {
    Channels::from_query(request)
}

fn main() {
    drop(EventService::with_resolver(Hub::new(MemoryStore::default()), may_read));
}
