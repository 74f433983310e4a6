//! A real Redis server for one test: on a free port, in a folder of its own, ended by its process id.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A running server. Dropping it ends it and removes its folder.
pub(crate) struct Server {
    child: Option<Child>,
    port: u16,
    folder: PathBuf,
    settings: Vec<String>,
}

impl Server {
    /// Starts a server without persistence, with further settings as on the command line. Returns `None`, with a
    /// message, when Redis is not installed; in CI that is a failure.
    pub(crate) async fn start(settings: &[&str]) -> Option<Self> {
        if !is_installed() {
            let why = "no `redis-server` is installed; in Debian: apt-get install redis-server";
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("=== SKIPPED: {why} ===");
            return None;
        }
        static SERVERS: AtomicU32 = AtomicU32::new(0);
        let nth = SERVERS.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tower-events-redis-{}-{nth}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { child: None, port: 0, folder, settings };
        server.run().await;
        Some(server)
    }

    /// Starts the process; on the same port if it had one before.
    pub(crate) async fn run(&mut self) {
        assert!(self.child.is_none(), "it runs");
        for _ in 0..20 {
            if self.port == 0 {
                self.port = free_port();
            }
            let mut command = Command::new("redis-server");
            command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--dir"]).arg(&self.folder);
            command.args(["--logfile", "log", "--save", ""]).args(&self.settings);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            self.child = Some(child.expect("redis-server starts"));
            if self.answers(Duration::from_secs(20)).await {
                return;
            }
            // Another process may have taken the port in between.
            self.kill();
            self.port = 0;
        }
        panic!("redis-server does not start: {:?}", std::fs::read_to_string(self.folder.join("log")));
    }

    async fn answers(&mut self, call_timeout: Duration) -> bool {
        let end = Instant::now() + call_timeout;
        while Instant::now() < end {
            let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            if ended {
                return false;
            }
            if self.try_command(&["PING"]).await.is_some_and(|answer| answer.starts_with("+PONG")) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.addr())
    }

    /// The process id, while it runs.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Kills the process (`SIGKILL`).
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }

    /// Suspends the process, or resumes it.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal} {id}");
    }

    /// Sends one command on a connection of its own; returns the raw reply.
    pub(crate) async fn command(&self, words: &[&str]) -> String {
        self.try_command(words).await.unwrap_or_else(|| panic!("no reply to {words:?}"))
    }

    async fn try_command(&self, words: &[&str]) -> Option<String> {
        let mut stream = TcpStream::connect(self.addr()).await.ok()?;
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        // A reply may have any length, so it is read until the server closes the connection because of `QUIT`.
        stream.write_all(b"*1\r\n$4\r\nQUIT\r\n").await.ok()?;
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Some(answer.strip_suffix("+OK\r\n").unwrap_or(&answer).to_owned())
    }

    /// Makes this server a replica, and waits until both sides report it: the primary does so last, and refuses a
    /// failover until then.
    pub(crate) async fn follow(&self, primary: &Self) {
        let answer = self.command(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]).await;
        assert!(answer.starts_with("+OK"), "{answer}");
        let line = format!("ip=127.0.0.1,port={},state=online,", self.port);
        let end = Instant::now() + Duration::from_secs(60);
        while self.info("master_link_status").await != "up"
            || !primary.command(&["INFO", "replication"]).await.contains(&line)
        {
            assert!(Instant::now() < end, "the replica does not follow");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A field of `INFO`.
    pub(crate) async fn info(&self, field: &str) -> String {
        self.try_info(field).await.unwrap_or_else(|| panic!("no reply to INFO, or no {field} in it"))
    }

    /// The same, of a server that may disconnect its clients meanwhile.
    pub(crate) async fn try_info(&self, field: &str) -> Option<String> {
        let info = self.try_command(&["INFO", "everything"]).await?;
        info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::to_owned)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn is_installed() -> bool {
    let version = Command::new("redis-server").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}
