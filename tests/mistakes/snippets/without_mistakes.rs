use axum::{Router, extract::State, http::request::Parts, response::Response, routing::post};
use tower_events::{Body, Channel, Channels, Event, EventService, Grant, Hub, MemoryStore, Rejection, Resolver};

fn may_read(request: &Parts) -> Result<Channels, Rejection> {
    Channels::from_query(request)
}

struct AsAType;

impl Resolver for AsAType {
    fn resolve(&self, request: &Parts) -> Result<Grant, Rejection> {
        Ok(may_read(request)?.into())
    }
}

async fn say(State((hub, news)): State<(Hub, Channel)>, text: String) -> Result<(), Response<Body>> {
    hub.publish(&news, Event::text(text)).await?;
    Ok(())
}

fn main() {
    let store = MemoryStore::default();
    let hub = Hub::new(store.clone());
    let news = Channel::new("news").expect("a valid name");
    drop(EventService::new(hub.clone(), may_read));
    drop(EventService::new(hub.clone(), |request| Channels::from_query(request)));
    drop(EventService::new(hub.clone(), |request| Ok(Grant::new(Channels::from_query(request)?))));
    drop(EventService::without_resolver(hub.clone()));
    drop(EventService::fixed(hub.clone(), &news));
    drop(EventService::with_resolver(hub.clone(), AsAType));
    let routes: Router = Router::new().route("/", post(say)).with_state((hub, news));
    drop(routes);
    drop(store);
}
