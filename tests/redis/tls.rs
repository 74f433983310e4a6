//! `rediss://`: a server with a certificate from an authority that must be configured as trusted.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tower_events::{
    Event, RedisStore, Store,
    store::{Append, Limit, OpenErrorKind, Start},
};

use super::{
    load::channel,
    server::{Server, free_port},
};

/// A folder with certificates, and a server that presents one.
struct Setup {
    folder: PathBuf,
    url: String,
    _server: Server,
}

impl Setup {
    async fn new(auth_clients: &str) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("tower-events-tls-{auth_clients}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        if !certificates(&folder) {
            assert!(std::env::var_os("CI").is_none(), "no `openssl` is installed");
            eprintln!("=== SKIPPED: no `openssl` is installed ===");
            return None;
        }
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let port = free_port();
        let settings = [
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("leaf.pem"),
            "--tls-key-file",
            &file("leaf.key"),
        ];
        let more = ["--tls-ca-cert-file", &file("ca.pem"), "--tls-auth-clients", auth_clients];
        let server = Server::start(&[&settings[..], &more[..]].concat()).await?;
        Some(Self { folder, url: format!("rediss://127.0.0.1:{port}/"), _server: server })
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).expect("a file")
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_server_with_a_trusted_certificate_is_accepted() {
    let Some(setup) = Setup::new("no").await else { return };
    let refused = RedisStore::connect(&setup.url).await.expect_err("the authority is not trusted yet");
    assert_eq!(refused.kind(), &OpenErrorKind::Tls, "{refused:?}");
    let options = RedisStore::options().root_certificates(setup.read("ca.pem"));
    let store = options.connect(&setup.url).await.expect("a store");
    let appended = store.append(&channel("a"), Append::new([Event::text("x")])).await.expect("an append");
    let page = store.read(&channel("a"), Start::Earliest, Limit::default()).await.expect("a page");
    assert_eq!(page.entries, appended.entries);
}

#[tokio::test]
async fn a_client_certificate_is_presented_when_requested() {
    let Some(setup) = Setup::new("yes").await else { return };
    let options = RedisStore::options().root_certificates(setup.read("ca.pem"));
    assert!(options.clone().connect(&setup.url).await.is_err(), "no certificate was presented");
    let options = options.client_certificate(setup.read("leaf.pem"), setup.read("leaf.key"));
    assert!(!format!("{options:?}").contains("PRIVATE"), "a key is a secret");
    let store = options.connect(&setup.url).await.expect("a store");
    store.append(&channel("a"), Append::new([Event::text("x")])).await.expect("an append");
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
