// error: Handler<_, _>` is not satisfied
// note: `#[axum::debug_handler]`
use axum::{Router, extract::State, routing::post};
use tower_events::{Channel, Event, Hub, StoreError};

async fn say(State((hub, news)): State<(Hub, Channel)>, text: String) -> Result<(), StoreError> {
    hub.publish(&news, Event::text(text)).await?;
    Ok(())
}

fn main() {
    drop(Router::new().route("/", post(say)));
}
