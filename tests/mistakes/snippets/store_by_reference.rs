// error: `&MemoryStore` is not a store
// note: this type does not implement `Store`
// note: to go on using the store, give the hub a clone or an `Arc` of it
use tower_events::{Hub, MemoryStore};

fn main() {
    let store = MemoryStore::default();
    drop(Hub::new(&store));
}
