//! Tokens where browsers have them: behind a `BearerLayer` they are in one place, and in no URI.

use tower_events::{
    Rejection,
    bearer::{self, BearerLayer},
};
use tower_layer::Layer as _;

use super::*;

/// Reads the channel that the token names. What is in front of it must not see the token in the URI.
fn tokens(hub: &Hub) -> EventService {
    EventService::new(hub.clone(), |request| {
        assert!(!format!("{request:?}").contains("access_token"), "{request:?}");
        let token = bearer::token(&request.headers).ok_or(Rejection::unauthorized("Bearer"))?;
        Ok(channel(token))
    })
}

#[tokio::test]
async fn a_token_is_found_wherever_a_browser_can_put_it() {
    let hub = hub();
    let layer = BearerLayer::new().query("access_token").cookie("token");
    let router = Router::new().route_service("/events", tokens(&hub)).layer(layer.clone());
    for server in [serve(router).await, serve(layer.layer(tokens(&hub))).await] {
        check(&server, &hub, "/events?access_token=a", "a").await;
        for http in BOTH {
            let get = |query: &str| server.get(&format!("/events?wait=0{query}")).over(http);
            get("").header("authorization", "bearer a").send().await.expect(200);
            get("").header("cookie", "b=c").header("cookie", "token=a").send().await.expect(200);
            get("&access_token=a").header("cookie", "token=a%0d").send().await.expect(200);
            for refused in ["", "&access_token=", "&access_token=a&access_token=a", "&access_token=a%0d%0aX:%20y"] {
                get(refused).send().await.problem(401);
            }
        }
    }
}

#[tokio::test]
async fn the_next_page_of_a_poll_names_no_token() {
    let hub = hub();
    hub.publish(&channel("a"), Event::text("x")).await.unwrap();
    let server = serve(BearerLayer::new().query("access_token").layer(tokens(&hub))).await;
    let answer = server.get("/events?after=earliest&access_token=a").send().await.expect(200);
    assert!(answer.header("link").contains("after=") && !answer.header("link").contains("token"), "{answer:?}");
}
