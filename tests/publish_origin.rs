//! A page of another origin cannot publish with the cookies of the user who looks at it, unless the service trusts its origin.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use support::{App, BOTH, Request, Server, serve};
use tower_events::{Channel, Channels, Hub, MemoryStore, PublishService, request::Rejection};

/// What a browser sends for a page of another origin, without asking first: a form, `fetch` in the mode `no-cors`, `sendBeacon`.
fn forged<'a>(server: &'a Server, site: &str) -> Request<'a> {
    let request = server.post("/publish?channel=a", "text/plain;charset=UTF-8", "forged").header("cookie", "session=1");
    let request = request.header("origin", "https://evil.example");
    if site.is_empty() { request } else { request.header("sec-fetch-site", site) }
}

#[tokio::test]
async fn a_page_of_another_origin_cannot_publish() {
    let app = App::start().await;
    for http in BOTH {
        for site in ["cross-site", "same-site", ""] {
            let refused = forged(&app, site).over(http).send().await;
            let detail = refused.problem(403);
            assert_eq!(refused.json()["type"], "urn:tower-events:cross-origin");
            assert!(detail.contains("another origin") && detail.contains("trusted_origins"), "{detail}");
            assert_eq!(detail.contains("proxy"), site.is_empty(), "{detail}");
            let closing = forged(&app, site).over(http).header("events-closed", "true").body("").send().await;
            closing.problem(403);
        }
    }
    assert_eq!(app.head("a").await.seq, 0);
}

#[tokio::test]
async fn the_own_page_and_clients_that_are_no_browsers_can_publish() {
    let app = App::start().await;
    // The test's clients send the host `test`.
    let table: [&[(&str, &str)]; 4] = [
        &[],
        &[("origin", "https://test"), ("sec-fetch-site", "same-origin")],
        &[("origin", "null"), ("sec-fetch-site", "none")],
        &[("origin", "http://test")],
    ];
    for http in BOTH {
        for headers in table {
            let request = app.post("/publish?channel=a", "text/plain", "x").over(http);
            let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
            request.send().await.expect(200);
        }
    }
    assert_eq!(app.head("a").await.seq, 8);
}

#[tokio::test]
async fn a_service_can_trust_origins_or_all_of_them() {
    let hub = Hub::new(MemoryStore::default());
    let service = || PublishService::fixed(hub.clone(), Channel::new("a").unwrap());
    let trusting =
        serve(axum::Router::new().fallback_service(service().trusted_origins(["https://evil.example"]))).await;
    let other = serve(axum::Router::new().fallback_service(service().trusted_origins(["https://app.example"]))).await;
    let unchecked = serve(axum::Router::new().fallback_service(service().without_origin_check())).await;
    for http in BOTH {
        for site in ["cross-site", "same-site", ""] {
            forged(&trusting, site).over(http).send().await.expect(200);
            forged(&other, site).over(http).send().await.problem(403);
            forged(&unchecked, site).over(http).send().await.expect(200);
        }
    }
}

#[tokio::test]
async fn the_resolver_is_not_asked_about_a_forged_publish() {
    let resolver = |_: &http::request::Parts| -> Result<Channels, Rejection> { panic!("asked") };
    let service = PublishService::new(Hub::new(MemoryStore::default()), resolver);
    let server = serve(axum::Router::new().fallback_service(service)).await;
    forged(&server, "cross-site").send().await.problem(403);
}

#[tokio::test]
async fn a_forged_publish_is_refused_after_its_body_was_sent() {
    let app = App::start().await;
    let answer = forged(&app, "cross-site").body(vec![b'x'; 1 << 20]).send().await;
    answer.problem(403);
    assert_eq!(answer.try_header("connection"), None);
}
