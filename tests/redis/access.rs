//! Finding the server and authenticating: Sentinels, and passwords that change.

use std::{
    net::SocketAddr,
    path::PathBuf,
    pin::pin,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower_events::{
    RedisStore, Store,
    store::{Change, Health, Limit, OpenErrorKind, Start},
};

use super::{
    load::channel,
    server::{Server, free_port},
    support::{next, server, text, until},
};

/// A running Sentinel. Dropping it stops it.
struct Sentinel {
    child: Child,
    addr: SocketAddr,
    file: PathBuf,
}

impl Sentinel {
    async fn of(primary: &Server) -> Self {
        let port = free_port();
        let file = std::env::temp_dir().join(format!("tower-events-sentinel-{}-{port}", std::process::id()));
        let config = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 1000\n",
            primary.addr().port()
        );
        std::fs::write(&file, config).expect("a file");
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let sentinel =
            Self { child: command.spawn().expect("it starts"), addr: SocketAddr::from(([127, 0, 0, 1], port)), file };
        let answers = async || sentinel.try_command("PING").await.is_some_and(|answer| answer.starts_with("+PONG"));
        until("the Sentinel answers", Duration::from_secs(20), answers).await;
        sentinel
    }

    /// Sends a command with a short reply and waits for it; a Sentinel does not support ending a connection.
    async fn try_command(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.addr).await.ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
        let mut answer = [0; 100];
        let count = stream.read(&mut answer).await.ok()?;
        Some(String::from_utf8_lossy(&answer[..count]).into_owned())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        _ = std::fs::remove_file(&self.file);
    }
}

#[tokio::test]
async fn sentinels_lead_to_the_primary_and_to_the_next_one() {
    let (primary, replica) = (server!(), server!("--repl-diskless-sync-delay", "0"));
    replica.follow(&primary).await;
    let sentinel = Sentinel::of(&primary).await;
    // A Sentinel that is down is skipped.
    let urls = [format!("redis://127.0.0.1:{}", free_port()), format!("redis://{}", sentinel.addr)];
    let store = RedisStore::options().sentinels("main", urls.clone()).connect("redis://by-name/").await.unwrap();
    let before = store.append(&channel("a"), text("before")).await.unwrap();
    let unknown = RedisStore::options().sentinels("other", urls).connect("redis://by-name/").await;
    assert_eq!(unknown.unwrap_err().kind(), &OpenErrorKind::Settings);
    let fails_over = async || {
        sentinel.try_command("SENTINEL FAILOVER main").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        replica.try_info("role").await.is_some_and(|role| role == "master")
    };
    until("the replica becomes the primary", Duration::from_secs(60), fails_over).await;
    // A Sentinel disconnects the clients of a server whose role it changes.
    let demoted = async || primary.try_info("role").await.is_some_and(|role| role == "slave");
    until("the old primary becomes a replica", Duration::from_secs(60), demoted).await;
    let began = Instant::now();
    let after = loop {
        match store.append(&channel("a"), text("after")).await {
            Ok(after) => break after,
            Err(error) => assert!(error.is_retryable() && began.elapsed() < Duration::from_secs(30), "{error:?}"),
        }
    };
    let page = store.read(&channel("a"), Start::After(before.head.cursor), Limit::default()).await.unwrap();
    assert_eq!(page.entries, after.entries);
    until("everything is connected again", Duration::from_secs(10), async || store.health() == Health::Ready).await;
}

#[tokio::test]
async fn a_changed_password_is_asked_for() {
    let server = server!();
    let let_in = async |password: &str| {
        let rule = format!(">{password}");
        server.command(&["ACL", "SETUSER", "app", "reset", "on", &rule, "~*", "&*", "+@all"]).await;
    };
    let_in("canary-one").await;
    let current = Arc::new(Mutex::new(Ok("canary-one".to_owned())));
    let asked = Arc::clone(&current);
    let options = RedisStore::options().password(move || {
        let password = asked.lock().unwrap().clone().map_err(|()| "nobody knows".into());
        async move { password }
    });
    assert!(!format!("{options:?}").contains("canary"));
    let store = options.connect(&format!("redis://app@{}/", server.addr())).await.unwrap();
    store.append(&channel("a"), text("1")).await.unwrap();
    let_in("canary-two").await;
    *current.lock().unwrap() = Err(());
    server.command(&["CLIENT", "KILL", "USER", "app"]).await;
    let kept_out = async || store.append(&channel("a"), text("2")).await.is_err();
    until("the old password is refused", Duration::from_secs(10), kept_out).await;
    *current.lock().unwrap() = Ok("canary-two".to_owned());
    let let_in = async || store.append(&channel("a"), text("3")).await.is_ok();
    until("the new password is accepted", Duration::from_secs(20), let_in).await;
}

/// Finds the primary within a time limit, although the first Sentinel does not answer or gives an outdated answer.
async fn finds(primary: &Server, first: String) {
    let sentinel = Sentinel::of(primary).await;
    let options = RedisStore::options().sentinels("main", [first, format!("redis://{}", sentinel.addr)]);
    let store = options.timeout(Duration::from_secs(1)).open("redis://by-name/").unwrap();
    let finds = async || store.append(&channel("a"), text("x")).await.is_ok();
    until("the primary is found", Duration::from_secs(10), finds).await;
    let mut changes = pin!(store.changes());
    assert!(matches!(next(&mut changes).await, Change::Resync));
}

#[tokio::test]
async fn a_sentinel_that_does_not_answer_does_not_stop_the_next_from_being_asked() {
    let primary = server!();
    // The system accepts connections, and nothing reads from them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    finds(&primary, format!("redis://{}", silent.local_addr().unwrap())).await;
}

#[tokio::test]
async fn a_sentinel_with_an_outdated_primary_does_not_stop_the_next_from_being_asked() {
    let (primary, mut old) = (server!(), server!());
    let outdated = Sentinel::of(&old).await;
    old.kill();
    finds(&primary, format!("redis://{}", outdated.addr)).await;
}

#[tokio::test]
async fn an_error_of_connecting_says_what_is_wrong_and_whether_to_retry() {
    let server = server!();
    let refused = async |url: String| {
        let options = RedisStore::options().timeout(Duration::from_millis(300));
        let error = options.connect(&url).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("the Redis server") && !text.contains("canary"), "{text}");
        (error.kind().clone(), error.is_retryable())
    };
    let nowhere = format!("redis://app:canary@127.0.0.1:{}/", free_port());
    assert_eq!(refused(nowhere).await, (OpenErrorKind::Unreachable, true));
    assert_eq!(refused(format!("redis://app:canary@{}/", server.addr())).await, (OpenErrorKind::Denied, false));
    assert_eq!(refused(format!("redis://app:canary@{}/canary", server.addr())).await, (OpenErrorKind::Settings, false));
    // A key of another application.
    server.command(&["SET", "{tower-events}:place", "x"]).await;
    assert_eq!(refused(server.url()).await, (OpenErrorKind::Foreign, false));
}
