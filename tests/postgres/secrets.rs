//! Passwords and keys: which servers receive them, and that they appear nowhere else.

use std::{
    error::Error,
    fmt,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tower_events::{
    Event, Store,
    store::{Append, Change, OpenErrorKind},
    stores::postgres::PostgresStore,
};

use super::{
    harness::fresh_schema,
    server::{self, Server},
    support::{Watch, a, until},
};

/// What must be found nowhere.
const CANARY: &str = "c4n4ry";

/// Everything that is logged in this process.
#[derive(Clone, Default)]
pub struct Logged(Arc<Mutex<String>>);

impl Logged {
    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl tracing::Subscriber for Logged {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut Line(self));
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Line(self));
    }
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Line(self));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

struct Line<'a>(&'a Logged);

impl tracing::field::Visit for Line<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        writeln!(self.0.0.lock().unwrap(), "{field}={value:?}").unwrap();
    }
}

/// An error's text, and those of its sources.
pub fn said(error: &(dyn Error + 'static)) -> String {
    let mut said = format!("{error:?} {error}");
    let mut below = error.source();
    while let Some(error) = below {
        write!(said, " {error:?} {error}").unwrap();
        below = error.source();
    }
    said
}

#[tokio::test]
async fn no_password_is_in_any_error_or_debug_or_log_line() {
    let Some(server) = server::shared() else { return };
    let logged = Logged::default();
    let _guard = tracing::subscriber::set_default(logged.clone());
    let mut all = String::new();
    let address = server.address();
    let good = format!("postgres://postgres:{CANARY}@{address}/postgres");
    let options = PostgresStore::options().schema(fresh_schema()).timeout(Duration::from_secs(2));
    let options = options.behind_pooler(&good).client_certificate(CANARY, CANARY).root_certificates(CANARY);
    let options = options.password(|| async { Err(CANARY.into()) });
    write!(all, "{options:?} {options:#?}").unwrap();

    // URLs that cannot be parsed, most often because a password is not percent-encoded.
    for url in [
        format!("postgres://u:{CANARY}?{CANARY}@{address}/db"),
        format!("postgres://u:?{CANARY}=x@{address}/db"),
        format!("postgres://u:x@{CANARY}@{address}:{CANARY}/db"),
        format!("postgres://u:{CANARY}/{CANARY}@[{address}/db"),
        format!("postgres://{address}:{CANARY}/db"),
        format!("postgres://u:{CANARY}%ff@{address}/db?port={CANARY}"),
        format!("postgres://u:{CANARY}@{address}/db?sslmode={CANARY}"),
        format!("postgres://u:{CANARY}@{address}/db?secret={CANARY}"),
        format!("postgres://u:{CANARY}@{address}/db?options={CANARY}"),
        format!("host=x password={CANARY}"),
        format!("http://u:{CANARY}@{address}/db"),
        CANARY.to_owned(),
    ] {
        for options in [
            PostgresStore::options().timeout(Duration::from_secs(2)),
            PostgresStore::options().timeout(Duration::from_secs(2)).behind_pooler(&url),
        ] {
            let error = options.connect(&url).await.expect_err("a URL that leads nowhere");
            if !url.contains("options") {
                all.push_str(&said(&error));
            }
        }
    }
    let refused = PostgresStore::options().client_certificate(CANARY, CANARY).connect(&good).await.unwrap_err();
    all.push_str(&said(&refused));

    // While the server works, and after it has stopped.
    let own = Server::start().unwrap();
    let (address, schema) = (own.address(), fresh_schema());
    let url = format!("postgres://postgres:{CANARY}@{address}/postgres");
    let options = PostgresStore::options().schema(&schema).timeout(Duration::from_millis(500)).behind_pooler(&url);
    let store = options.connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    let _watch = Watch::armed(&store).await;
    store.append(&a(), Append::new([Event::text("x")])).await.unwrap();
    own.kill();
    for _ in 0..3 {
        all.push_str(&said(&store.append(&a(), Append::new([Event::text("x")])).await.unwrap_err()));
    }
    until("the listener is without a server", async || store.stats().reconnects >= 2).await;
    write!(all, "{store:?} {:?}", store.stats()).unwrap();
    drop(store);
    let logged = logged.0.lock().unwrap();
    assert!(logged.contains("cannot use PostgreSQL"), "something was logged: {logged}");
    for (what, text) in [("an error or debug", &*all), ("the log", &*logged)] {
        let at = text.find(CANARY).map(|at| &text[at.saturating_sub(200)..text.len().min(at + 50)]);
        assert_eq!(at, None, "{what}");
    }
}

fn tls(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/tls").join(name)
}

/// A server that accepts encrypted connections from `ada` only, and plain ones from `postgres`.
fn both_ways() -> Option<(Server, String)> {
    let server = Server::start()?;
    server.encrypt(&tls(""));
    server.also_plain();
    let encrypted = server.url().replace("postgres@", "ada:pa%24s%20w%C3%B6rd@");
    Some((server, encrypted))
}

/// The pooler next to the application may be plain, while the route around it is encrypted.
#[tokio::test]
async fn the_listener_is_encrypted_as_its_own_url_says() {
    let Some((server, encrypted)) = both_ways() else { return };
    let trusting =
        |authority: &str| format!("{encrypted}?sslmode=verify-full&sslrootcert={}", tls(authority).display());
    let connect = async |url: &str, listener: &str| {
        let store = PostgresStore::options().behind_pooler(listener).connect(url).await.unwrap();
        store.migrate().await.unwrap();
        store
    };
    for (url, listener) in [(server.url(), trusting("ca.pem")), (trusting("ca.pem"), server.url())] {
        let store = connect(&url, &listener).await;
        let mut watch = Watch::armed(&store).await;
        let other = connect(&url, &listener).await;
        let head = other.append(&a(), Append::new([Event::text("x")])).await.unwrap().head;
        watch.until("a head", |change| matches!(change, Change::Head(_, at) if *at == head)).await;
    }
    // A listener that does not trust the server receives nothing, whatever the other URL trusts.
    let store = connect(&trusting("ca.pem"), &trusting("other-ca.pem")).await;
    let _changes = store.changes();
    let heard = timeout(Duration::from_secs(3), until("it hears", async || store.stats().listening)).await;
    assert!(heard.is_err() && store.stats().reconnects > 0);
}

/// Optional encryption is no encryption once an attacker in between claims that it is not supported.
#[tokio::test]
async fn a_url_with_optional_encryption_is_refused() {
    let Some(server) = server::shared() else { return };
    for mode in ["prefer", "allow", "", "on"] {
        for url in [format!("{}?sslmode={mode}", server.url()), server.url()] {
            let listener = format!("{}?sslmode={mode}", server.url());
            let refused = PostgresStore::options().behind_pooler(listener).connect(&url).await.expect_err(mode);
            assert!(
                *refused.kind() == OpenErrorKind::Settings && said(&refused).contains("verify-full"),
                "{refused:?}"
            );
        }
    }
    PostgresStore::connect(&format!("{}?sslmode=disable", server.url())).await.unwrap();
}

/// New connections use the current password.
#[tokio::test]
async fn passwords_can_change_while_the_store_is_open() {
    let Some((server, _)) = both_ways() else { return };
    let password = Arc::new(Mutex::new("pa$s wörd".to_owned()));
    let asked = Arc::new(AtomicUsize::new(0));
    let ask = {
        let (password, asked) = (Arc::clone(&password), Arc::clone(&asked));
        move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let password = password.lock().unwrap().clone();
            async move { Ok(password) }
        }
    };
    let url = format!("{}?sslmode=verify-full&sslrootcert={}", server.url(), tls("ca.pem").display());
    let url = url.replace("postgres@", "ada@");
    let options = PostgresStore::options().connections(1).timeout(Duration::from_secs(2));
    let store = options.password(ask).connect(&url).await.unwrap();
    store.migrate().await.unwrap();
    let first = asked.load(Ordering::SeqCst);
    assert!(first >= 1);
    server.script(b"alter role ada password 'another'; select pg_terminate_backend(pid) from pg_stat_activity where usename = 'ada'");
    until("the old one is refused", async || store.heads(&[a()]).await.is_err()).await;
    *password.lock().unwrap() = "another".to_owned();
    until("the new one is accepted", async || store.heads(&[a()]).await.is_ok()).await;
    assert!(asked.load(Ordering::SeqCst) > first);
}
