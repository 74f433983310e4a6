//! `rediss://`: a server with a certificate of an authority that nobody trusts but who is told to.

use std::{path::Path, process::Command};

use tower_events::{
    Event, RedisStore, Store,
    store::{Append, Limit, Start},
};

use super::{load::channel, server::Server};

#[tokio::test]
async fn a_server_with_a_trusted_certificate_is_spoken_to() {
    let folder = std::env::temp_dir().join(format!("tower-events-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    if !certificates(&folder) {
        assert!(std::env::var_os("CI").is_none(), "no `openssl` is installed");
        return eprintln!("=== SKIPPED: no `openssl` is installed ===");
    }
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let settings =
        ["--tls-port", &port.to_string(), "--tls-cert-file", &file("leaf.pem"), "--tls-key-file", &file("leaf.key")];
    let more = ["--tls-ca-cert-file", &file("ca.pem"), "--tls-auth-clients", "no"];
    let Some(_server) = Server::start(&[&settings[..], &more[..]].concat()).await else { return };
    let url = format!("rediss://127.0.0.1:{port}/");
    assert!(RedisStore::connect(&url).await.is_err(), "nobody trusts it yet");
    let authority = std::fs::read(folder.join("ca.pem")).expect("a certificate");
    _ = std::fs::remove_dir_all(&folder);
    let store = RedisStore::options().root_certificates(authority).connect(&url).await.expect("a store");
    let appended = store.append(&channel("a"), Append::new([Event::text("x")])).await.expect("an append");
    let page = store.read(&channel("a"), Start::Earliest, Limit::default()).await.expect("a page");
    assert_eq!(page.entries, appended.entries);
}

/// An authority and a certificate for 127.0.0.1; false when there is no `openssl`.
fn certificates(folder: &Path) -> bool {
    std::fs::write(folder.join("leaf.ext"), "subjectAltName=IP:127.0.0.1").expect("a file");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    let steps = [
        format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"),
        format!("req {key} -subj /CN=leaf -keyout leaf.key -out leaf.csr"),
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile leaf.ext -out leaf.pem"
            .into(),
    ];
    steps.iter().all(|step| {
        let done = Command::new("openssl").args(step.split(' ')).current_dir(folder).output();
        done.is_ok_and(|output| output.status.success())
    })
}
