//! A server that requires client certificates, and the errors for clients without a valid one.

use std::{path::PathBuf, process::Command, time::Duration};

use tower_events::{
    Event, Store,
    store::{Append, Change, Health, OpenErrorKind},
    stores::postgres::{PostgresOptions, PostgresStore},
};

use super::{
    harness::client,
    secrets::{Logged, said},
    server::Server,
    support::{Watch, a, until},
};

/// A server that accepts clients with a certificate of `authority` for `ada`, and various certificates.
struct Setup {
    folder: PathBuf,
    server: Server,
}

impl Setup {
    fn new() -> Option<Self> {
        let server = Server::start()?;
        let folder = std::env::temp_dir().join(format!("tower-events-certificates-{:x}", fastrand::u64(..)));
        std::fs::create_dir_all(&folder).unwrap();
        let setup = Self { folder, server };
        if !setup.make() {
            assert!(std::env::var_os("CI").is_none(), "no `openssl` is installed");
            eprintln!("=== SKIPPED: no `openssl` is installed ===");
            return None;
        }
        setup.server.encrypt(&setup.folder);
        setup.server.ask_for_certificates(&setup.folder.join("authority.pem"));
        setup.server.also_plain();
        Some(setup)
    }

    /// Creates the authority, another one, and the certificates that they sign; false when there is no `openssl`.
    fn make(&self) -> bool {
        std::fs::write(self.folder.join("names"), "subjectAltName=IP:127.0.0.1").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        let authority = |name: &str| {
            self.openssl(&format!("req -x509 {key} -days 2 -subj /CN={name} -keyout {name}.key -out {name}.pem"))
        };
        let signed = |by: &str, file: &str, name: &str| {
            self.openssl(&format!("req {key} -subj /CN={name} -keyout {file}.key -out {file}.csr"))
                && self.openssl(&format!(
                    "x509 -req -in {file}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days 2 -extfile names -out {file}.pem"
                ))
        };
        authority("authority")
            && authority("another")
            && signed("authority", "server", "server")
            && signed("authority", "ada", "ada")
            && signed("authority", "eve", "eve")
            && signed("another", "forged", "ada")
    }

    fn openssl(&self, arguments: &str) -> bool {
        let done = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.folder).output();
        done.is_ok_and(|output| output.status.success())
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).unwrap()
    }

    fn url(&self) -> String {
        let url = self.server.url().replace("postgres@", "ada@");
        format!("{url}?sslmode=verify-full&sslrootcert={}", self.path("authority.pem"))
    }

    fn options(&self) -> PostgresOptions {
        PostgresStore::options().timeout(Duration::from_secs(5)).connections(3)
    }

    /// Options with a certificate and its key.
    fn showing(&self, name: &str) -> PostgresOptions {
        self.options().client_certificate(self.read(&format!("{name}.pem")), self.read(&format!("{name}.key")))
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The users that the server reports for the store's connections, without duplicates.
async fn known(setup: &Setup) -> Vec<String> {
    let sql = "select distinct coalesce(client_dn, 'nobody') from pg_stat_ssl join pg_stat_activity using (pid)
        where application_name = 'tower-events'";
    let rows = client(&setup.server).await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_pool_and_the_listener_present_a_certificate_to_a_server_that_requires_one() {
    let Some(setup) = Setup::new() else { return };
    let in_url = format!("{}&sslcert={}&sslkey={}", setup.url(), setup.path("ada.pem"), setup.path("ada.key"));
    for (options, url) in [(setup.showing("ada"), setup.url()), (setup.options(), in_url)] {
        assert!(!format!("{options:?}").contains("PRIVATE"), "a key is a secret");
        let store = options.clone().connect(&url).await.unwrap();
        store.migrate().await.unwrap();
        let mut watch = Watch::armed(&store).await;
        let other = options.connect(&url).await.unwrap();
        let head = other.append(&a(), Append::new([Event::text("x")])).await.unwrap().head;
        watch.until("a head", |change| matches!(change, Change::Head(_, at) if *at == head)).await;
        assert_eq!(known(&setup).await, ["/CN=ada"]);
    }
}

#[tokio::test]
async fn a_missing_or_foreign_certificate_is_an_error_that_says_so() {
    let Some(setup) = Setup::new() else { return };
    let mismatched = setup.options().client_certificate(setup.read("ada.pem"), setup.read("eve.key"));
    let refused = mismatched.connect(&setup.url()).await.unwrap_err();
    assert!(*refused.kind() == OpenErrorKind::Settings && said(&refused).contains("key"), "{}", said(&refused));
    for (options, kind, why) in [
        (setup.options(), OpenErrorKind::Denied, "requires a valid client certificate"),
        (setup.showing("eve"), OpenErrorKind::Denied, "certificate authentication failed for user \"ada\""),
        (setup.showing("forged"), OpenErrorKind::Tls, "UnknownCA"),
    ] {
        let refused = options.connect(&setup.url()).await.unwrap_err();
        assert_eq!(refused.kind(), &kind, "{refused:?}");
        assert!(said(&refused).contains(why), "{} and not {why}", said(&refused));
    }
}

/// The certificate in a URL is for the connections to that URL only.
#[tokio::test]
async fn a_listener_without_the_certificate_receives_nothing_and_says_why() {
    let Some(setup) = Setup::new() else { return };
    let pool = format!("{}&sslcert={}&sslkey={}", setup.url(), setup.path("ada.pem"), setup.path("ada.key"));
    let logged = Logged::default();
    let _guard = tracing::subscriber::set_default(logged.clone());
    let store = setup.options().behind_pooler(setup.url()).connect(&pool).await.unwrap();
    store.migrate().await.unwrap();
    let _changes = store.changes();
    until("the listener was refused", async || store.stats().reconnects >= 2).await;
    assert!(!store.stats().listening);
    assert_eq!(store.health(), Health::Degraded);
    store.append(&a(), Append::new([Event::text("x")])).await.unwrap();
    assert!(logged.text().contains("requires a valid client certificate"), "{}", logged.text());
}
