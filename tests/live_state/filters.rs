//! A filter that is changed while a client is away: it is always told, whichever way it comes back.

use http::{Method, request::Parts};
use tower_events::{Channels, Event, EventService, Filter, Grant, Hub, Rejection, longpoll::LongPollOptions};

use super::{
    place::Place,
    support::{BOTH, Http, Server, channel, serve},
};

/// The filters: of nothing, of one name, of another.
const FILTERS: [&str; 3] = ["", "&only=x", "&only=y"];

pub(crate) async fn a_changed_filter_is_told(place: Place) {
    let (here, there) = (node(&place).await, node(&place).await);
    let hub = Hub::new(place.open().await);
    for (name, text) in [("x", "1"), ("y", "2"), ("x", "3"), ("y", "4")] {
        hub.publish(&channel("a"), Event::text(text).named(name).unwrap()).await.unwrap();
    }
    for before in FILTERS {
        for (n, position) in positions(&here, before).await.into_iter().enumerate() {
            for (now, http) in FILTERS.into_iter().zip(BOTH.into_iter().cycle().skip(n)) {
                let expected = if before == now { None } else { Some("filter-changed") };
                for server in [&here, &there] {
                    let told = told(server, now, http, &position).await;
                    assert_eq!(told, [expected; 4], "{before:?} then {now:?} from position {n}");
                }
            }
        }
    }
}

async fn node(place: &Place) -> Server {
    let hub = Hub::new(place.open().await);
    let events = || EventService::new(hub.clone(), by_query);
    let refusing = events().long_poll(LongPollOptions::default().refuse_resets());
    serve(axum::Router::new().route_service("/events", events()).route_service("/refusing", refusing)).await
}

/// Shows the events of one name: `only=<name>` of the query.
fn by_query(request: &Parts) -> Result<Grant, Rejection> {
    let grant = Grant::new(Channels::from_query(request)?);
    let only = request.uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("only=")));
    Ok(match only.map(str::to_owned) {
        Some(shown) => grant.filter(Filter::new(shown.clone(), move |entry| {
            entry.name.as_ref().is_some_and(|name| name.as_str() == shown)
        })),
        None => grant,
    })
}

/// The positions that a client can have: of `HEAD`, of an event of a stream, of a poll, of an object, of a page.
async fn positions(server: &Server, filter: &str) -> [String; 5] {
    let url = format!("/events?channel=a{filter}&after=earliest&limit=1");
    let head = server.request(Method::HEAD, &format!("/events?channel=a{filter}")).send().await.expect(200);
    let event = server.get(&url).sse().await.next().await.id;
    let poll = server.get(&url).send().await.expect(200);
    let object = poll.json()[0]["id"].as_str().unwrap().to_owned();
    let page = server.get(&format!("{url}&format=page")).send().await.expect(200).json();
    [head.cursor(), event, poll.cursor(), object, page["cursor"].as_str().unwrap().to_owned()]
}

/// Which reset a stream, a poll, one that refuses resets, and a page tell a client that comes back.
async fn told(server: &Server, filter: &str, http: Http, position: &str) -> [Option<&'static str>; 4] {
    let target = format!("?channel=a{filter}&wait=0");
    let get = |target: String| server.get(&target).over(http).last_event_id(position);
    let mut stream = get(format!("/events{target}")).sse().await;
    stream.live().await;
    let poll = get(format!("/events{target}")).send().await.expect(200);
    let refusing = get(format!("/refusing{target}")).send().await;
    let page = get(format!("/events{target}&format=page")).send().await.expect(200).json();
    let known = |is_told: bool| is_told.then_some("filter-changed");
    [
        known(stream.text().contains(r#""reason":"filter-changed""#)),
        known(poll.try_header("events-reset") == Some("filter-changed")),
        known(refusing.status == 410 && refusing.text().contains("filter-changed")),
        known(page["resets"].to_string().contains("filter-changed")),
    ]
}
