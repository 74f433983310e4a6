//! A store of your own, on `redb`: one durable file. `tables.rs` is what is in the file, `writes.rs` what a write does to it, and
//! `store.rs` the rest. They use only the public interface of the crate; `tests/redb_store.rs` runs the conformance suite on it.
//!
//! ```text
//! cargo run --release --example redb_store
//! curl -N 'http://127.0.0.1:3000/events?channel=news&after=earliest'
//! curl -d hello -H 'Content-Type: text/plain' 'http://127.0.0.1:3000/publish?channel=news'
//! ```

mod store;
mod tables;
mod writes;

use std::error::Error;

use axum::Router;
use redb::Database;
use tokio::net::TcpListener;
use tower_events::{Channels, EventService, Hub, PublishService, Retention, store::Clock};

use self::store::RedbStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "events.redb".to_owned());
    let store = RedbStore::open(move || Database::create(&path), Retention::default(), Clock::system())?;
    let hub = Hub::new(store);
    let app = Router::new()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query)) // anyone reads anything
        .route_service("/publish", PublishService::new(hub, Channels::from_query));
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
