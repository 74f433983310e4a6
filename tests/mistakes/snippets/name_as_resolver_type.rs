// error: `&str` is not a resolver
// note: this type does not implement `Resolver`
// note: pass a function `fn(&http::request::Parts) -> Result<Channels, Rejection>` to `new`, and channels to `fixed`
use tower_events::{EventService, Hub, MemoryStore};

fn main() {
    drop(EventService::with_resolver(Hub::new(MemoryStore::default()), "news"));
}
