//! Behind PgBouncer in transaction mode, which gives every transaction another connection and forwards no
//! notifications.

use std::{
    io::Write as _,
    process::{Child, Stdio},
};

use tower_events::{
    Event, Store,
    store::{Append, Change},
    stores::postgres::PostgresStore,
    testing::run_all,
};

use super::{
    harness::{Clocks, Postgres, Statements, Stores, fresh_schema},
    server::{self, Server, as_user, free_port},
    support::{Watch, a, until},
};

struct Pooler {
    url: String,
    child: Child,
}

impl Pooler {
    /// `None`, with a message, when PgBouncer is not installed.
    fn start(server: &Server) -> Option<Self> {
        let program =
            ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| std::fs::exists(path).unwrap());
        let Some(program) = program else {
            eprintln!("=== SKIPPED: PgBouncer is not installed (apt install pgbouncer) ===");
            return None;
        };
        let (port, folder) = (free_port(), server.folder().join(format!("pooler{:x}", fastrand::u64(..))));
        let configuration = format!(
            "[databases]\npostgres = host=127.0.0.1 port={} dbname=postgres user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 5\nmax_client_conn = 500\nunix_socket_dir =\nlogfile = {}/log\n",
            server.address().port(),
            folder.display(),
        );
        // It ends when its standard input does, together with this process at the latest.
        let script = r#"mkdir "$0"; printf '%s' "$2" > "$0/ini"; "$1" -q "$0/ini" & cat > /dev/null; kill $!"#;
        let mut child = as_user("sh")
            .args(["-c", script])
            .arg(&folder)
            .args([program, &configuration])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().flush().unwrap();
        Some(Self { url: server.url_at(([127, 0, 0, 1], port).into()), child })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        _ = self.child.wait();
    }
}

async fn pooler(server: &Server) -> Option<Pooler> {
    let pooler = Pooler::start(server)?;
    let options = PostgresStore::options().behind_pooler(&pooler.url);
    until("the pooler answers", async || options.clone().connect(&pooler.url).await.is_ok()).await;
    Some(pooler)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_clause_holds_behind_a_pooler() {
    let Some(server) = server::shared() else { return };
    let Some(pooler) = pooler(server).await else { return };
    let (stores, clock, statements) = (Stores::Many, Clocks::Ours, Statements::Unprepared);
    run_all(&Postgres { server, stores, clock, statements, pooler: Some(pooler.url.clone()) }).await;
}

/// Listening through such a pooler works without an error and receives nothing: the store detects this, and makes
/// readers check repeatedly.
#[tokio::test]
async fn a_listener_behind_a_pooler_becomes_a_poll() {
    let Some(server) = server::shared() else { return };
    let Some(pooler) = pooler(server).await else { return };
    let options = PostgresStore::options().schema(fresh_schema()).behind_pooler(&pooler.url);
    let store = options.connect(&pooler.url).await.unwrap();
    store.migrate().await.unwrap();
    let mut watch = Watch::armed(&store).await;
    for _ in 0..2 {
        store.append(&a(), Append::new([Event::text("x")])).await.unwrap();
        watch.until("another resync", |change| matches!(change, Change::Resync)).await;
    }
    assert!(store.stats().reconnects >= 2);
}
