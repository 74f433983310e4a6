//! TLS with a private authority, and client certificates.

use std::{path::Path, process::Command};

use tower_events::{
    Channel, Event, NatsStore, Store,
    store::{Append, Limit, OpenError, OpenErrorKind, Start},
};

use crate::server::{Server, servers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_certificate_of_a_private_authority_is_accepted() {
    for binary in servers() {
        let folder = Certificates::make();
        let config = format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\nauthorization {{ user: app, password: \"s3cret\" }}\n",
            folder.file("server.pem"),
            folder.file("server.key"),
        );
        let server = Server::with_config(&binary, Some(config));
        let by_url = server.url().replace("nats://", "tls://app:s3cret@");
        let options = || NatsStore::options().prefix("tls").root_certificates(folder.file("ca.pem"));
        works(&options().connect(&by_url).await.expect("TLS by the URL")).await;
        let by_options = options().require_tls().user("app", "s3cret").connect(&server.url()).await;
        works(&by_options.expect("TLS by the options")).await;
        refused(
            NatsStore::options().prefix("tls").connect(&by_url).await,
            OpenErrorKind::Tls,
            "an authority that is not trusted",
        );
        let password = server.url().replace("nats://", "tls://app:wrong@");
        refused(options().connect(&password).await, OpenErrorKind::Denied, "a wrong password");
        refused(options().connect(&server.url().replace("nats", "tls")).await, OpenErrorKind::Denied, "no name");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_presented_when_requested() {
    for binary in servers() {
        let folder = Certificates::make();
        let config = format!(
            "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n",
            folder.file("server.pem"),
            folder.file("server.key"),
            folder.file("ca.pem"),
        );
        let server = Server::with_config(&binary, Some(config));
        let url = server.url().replace("nats://", "tls://");
        let options = || NatsStore::options().prefix("tls").root_certificates(folder.file("ca.pem"));
        let shown = options().client_certificate(folder.file("client.pem"), folder.file("client.key"));
        works(&shown.connect(&url).await.expect("a store")).await;
        refused(options().connect(&url).await, OpenErrorKind::Tls, "no certificate");
        let missing = options().client_certificate(folder.file("nobody.pem"), folder.file("client.key"));
        let error = refused(missing.connect(&url).await, OpenErrorKind::Settings, "no such file");
        let why = std::error::Error::source(&error).expect("a source").to_string();
        assert!(why.contains("nobody.pem"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_refused_when_tls_is_required() {
    for binary in servers() {
        let server = Server::start(&binary);
        refused(NatsStore::options().require_tls().connect(&server.url()).await, OpenErrorKind::Tls, "no TLS");
        refused(NatsStore::connect(&server.url().replace("nats://", "tls://")).await, OpenErrorKind::Tls, "no TLS");
    }
}

async fn works(store: &NatsStore) {
    let channel = Channel::new("a").expect("a channel");
    let appended = store.append(&channel, Append::new([Event::text("x")])).await.expect("an append");
    let page = store.read(&channel, Start::Earliest, Limit::default()).await.expect("a page");
    assert_eq!(page.entries.last(), appended.entries.last());
}

#[track_caller]
fn refused(connected: Result<NatsStore, OpenError>, kind: OpenErrorKind, why: &str) -> OpenError {
    let error = connected.expect_err(why);
    assert_eq!(error.kind(), &kind, "{why}: {error:?}");
    error
}

/// An authority, and certificates that it signed for 127.0.0.1; dropping it removes the folder.
struct Certificates(std::path::PathBuf);

impl Certificates {
    fn make() -> Self {
        static SERIAL: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let serial = SERIAL.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tower-events-nats-tls-{}-{serial}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&folder, &format!("req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"));
        for (name, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
            let more = format!("subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n");
            std::fs::write(folder.join("more"), more).expect("a file");
            openssl(&folder, &format!("req {key} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
            let signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile more";
            openssl(&folder, &format!("x509 -req -in {name}.csr {signed} -out {name}.pem"));
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

fn openssl(folder: &Path, words: &str) {
    let done = Command::new("openssl").args(words.split(' ')).current_dir(folder).output();
    let done = done.expect("`openssl`; in Debian: apt-get install openssl");
    assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
}
