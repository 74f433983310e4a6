//! A nats-server for one test: on a free port of the loopback interface, in a temporary folder, ended by its process
//! id.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// The servers to test with: those named by `NATS_SERVER` (separated by `:`), or else the installed one. If there is
/// none, that is a failure in CI, and a skip elsewhere.
pub fn servers() -> Vec<PathBuf> {
    let named = std::env::var("NATS_SERVER").unwrap_or_default();
    let mut found: Vec<_> = named.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect();
    if found.is_empty() {
        let search = std::env::var("PATH").unwrap_or_default();
        let folders = search.split(':').chain(["/usr/sbin", "/usr/local/sbin"]);
        found.extend(folders.map(|folder| Path::new(folder).join("nats-server")).find(|path| runs(path)));
    }
    if found.is_empty() {
        assert!(std::env::var("CI").is_err(), "no nats-server: install Debian's package of that name");
        eprintln!("=== SKIPPED: no nats-server in PATH and no NATS_SERVER ===");
    }
    found
}

fn runs(path: &Path) -> bool {
    Command::new(path).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|done| done.success())
}

/// A running server; dropping it ends it and removes its folder.
pub struct Server {
    binary: PathBuf,
    folder: PathBuf,
    port: u16,
    config: Option<String>,
    child: Option<Child>,
}

impl Server {
    pub fn start(binary: &Path) -> Self {
        Self::with_config(binary, None)
    }

    /// With further lines of configuration.
    pub fn with_config(binary: &Path, config: Option<String>) -> Self {
        static SERIAL: AtomicUsize = AtomicUsize::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("tower-events-nats-{}-{serial}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let mut server = Self { binary: binary.to_owned(), folder, port: free_port(), config, child: None };
        server.run();
        server
    }

    /// Starts it again after [`Server::kill`], on the same port with what it had stored.
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it is running already");
        let mut command = Command::new(&self.binary);
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"]).arg(self.store());
        if let Some(config) = &self.config {
            let path = self.folder.join("config");
            std::fs::write(&path, config).expect("a configuration");
            command.arg("-c").arg(path);
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.folder.join("log"));
        command.stdout(Stdio::null()).stderr(log.expect("a log"));
        self.child = Some(command.spawn().expect("nats-server starts"));
        let until = Instant::now() + Duration::from_secs(20);
        while !self.greets() {
            assert!(Instant::now() < until, "nats-server did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn greets(&self) -> bool {
        let Ok(stream) = TcpStream::connect_timeout(&self.addr(), Duration::from_secs(1)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).is_ok() && line.contains("\"jetstream\":true")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.addr())
    }

    /// The process id, while it runs.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// The folder of its storage.
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// Whether its process has not ended by itself.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("the process is killed");
        child.wait().expect("its end");
    }

    /// As `kill -TERM`: it saves its state.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        self.child.take().expect("it runs").wait().expect("its end");
    }

    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill");
        assert!(sent.success(), "kill {signal}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let is_alive = self.child.as_mut().map(|child| child.try_wait());
            eprintln!("the server ({is_alive:?}) said:\n{}", self.log());
        }
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
        _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
