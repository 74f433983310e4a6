// error: ` closure, found `
// note: required by a bound in `EventService::<S>::new`
use tower_events::{EventService, Hub, MemoryStore};

fn main() {
    drop(EventService::new(Hub::new(MemoryStore::default()), "news"));
}
