//! Events next to a gRPC service on one port, over HTTP/1.1 and HTTP/2.
//!
//! ```sh
//! cargo run -p interop --example tonic
//! curl -N 'http://127.0.0.1:50051/events?channel=health' -H 'Accept: text/event-stream'
//! ```

use std::{error::Error, time::Duration};

use serde_json::json;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower_events::{Channel, Channels, Event, EventService, Hub, MemoryStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let hub = Hub::new(MemoryStore::default());
    // Any gRPC service will do; tonic-health provides one.
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(watch(reporter, hub.clone(), Channel::new("health")?));
    let routes = Routes::new(health)
        .into_axum_router()
        .route_service("/events", EventService::new(hub.clone(), Channels::from_query));

    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:50051".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("gRPC and events on http://{}", listener.local_addr()?);
    let stop = async move {
        _ = tokio::signal::ctrl_c().await;
        hub.drain(Duration::from_secs(5)); // or open streams would block the shutdown
    };
    Server::builder()
        .accept_http1(true) // browsers, and curl without --http2-prior-knowledge
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop)
        .await?;
    Ok(())
}

/// Reports the health of a service to both gRPC clients and event readers; here it changes every two seconds.
async fn watch(reporter: HealthReporter, hub: Hub, channel: Channel) {
    for serving in [true, false].into_iter().cycle() {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("clockwork", status).await;
        if let Ok(event) = Event::json(&json!({"service": "clockwork", "serving": serving})) {
            _ = hub.publish(&channel, event).await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}
