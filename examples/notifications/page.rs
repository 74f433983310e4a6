//! The files of the page.

use axum::{Router, http::header, response::IntoResponse, routing::get};

use super::App;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", include_str!("index.html"))))
        .route("/notifications.css", get(|| file("text/css; charset=utf-8", include_str!("notifications.css"))))
        .route("/notifications.js", get(|| file("text/javascript; charset=utf-8", include_str!("notifications.js"))))
}

/// Its content security policy forbids scripts and other resources from elsewhere.
async fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let policy =
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    (
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache"), (header::CONTENT_SECURITY_POLICY, policy)],
        text,
    )
}
