// error: to return `Result<_, Rejection>`, but it returns
// note: required by a bound in `EventService::<S>::new`
use axum::http::request::Parts;
use tower_events::{Channels, EventService, Hub, MemoryStore, Rejection};

async fn may_read(request: &Parts) -> Result<Channels, Rejection> {
    Channels::from_query(request)
}

fn main() {
    drop(EventService::new(Hub::new(MemoryStore::default()), may_read));
}
