//! A PostgreSQL server in a temporary folder on a free port. It is stopped when its handle is dropped, or when this
//! process has ended in any way. Independent of the store.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// A running server.
pub struct Server {
    folder: PathBuf,
    programs: PathBuf,
    port: u16,
    /// More settings, as on a command line.
    settings: &'static str,
    /// Waits for its standard input to end, and then stops the server and removes the folder.
    keeper: Child,
    alive: Option<ChildStdin>,
}

/// The server that all tests of this process share; `None` when PostgreSQL is not installed, which in CI is a failure.
pub fn shared() -> Option<&'static Server> {
    static SHARED: OnceLock<Option<Server>> = OnceLock::new();
    SHARED.get_or_init(Server::start).as_ref()
}

impl Server {
    /// A server for one test.
    pub fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// A server for one test, with more settings.
    pub fn start_with(settings: &'static str) -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
            eprintln!("=== SKIPPED: PostgreSQL is not installed (apt install postgresql) ===");
            return None;
        };
        let server = Self::new(programs, settings, |programs, data| {
            let locale = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
            run(as_user(programs.join("initdb")).arg("-D").arg(data).args(locale).current_dir("/"));
        });
        Some(server)
    }

    /// A server for one test, with tables that can be kept from growing.
    pub fn start_on_small_disk() -> Option<Self> {
        let server = Self::start()?;
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/full.c");
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-ldl", "-o"]).arg(server.preloaded());
        run(compile.arg(format!("-DFULL=\"{}\"", server.full().display())));
        server.kill();
        server.resume();
        Some(server)
    }

    /// Keeps tables from growing.
    pub fn fill_disk(&self) {
        run(as_user("touch").arg(self.full()).current_dir("/"));
    }

    /// Lets them grow again.
    pub fn clear_disk(&self) {
        run(as_user("rm").arg(self.full()).current_dir("/"));
    }

    /// The file that exists while the disk is full.
    fn full(&self) -> PathBuf {
        self.folder.join("full")
    }

    /// The library that the server loads before the C library, if it exists.
    fn preloaded(&self) -> PathBuf {
        self.folder.join("full.so")
    }

    /// A standby of this server, which follows it asynchronously through `line`.
    pub fn standby(&self, line: SocketAddr) -> Self {
        Self::new(self.programs.clone(), self.settings, |programs, data| {
            let copy = ["-R", "-X", "stream", "-c", "fast", "--no-sync", "-D"];
            let mut command = as_user(programs.join("pg_basebackup"));
            command.args(["-d", &self.url_at(line)]).args(copy).arg(data).current_dir("/");
            run(&mut command);
        })
    }

    fn new(programs: PathBuf, settings: &'static str, fill: impl FnOnce(&Path, &Path)) -> Self {
        let folder =
            std::env::temp_dir().join(format!("tower-events-pg-{}-{:x}", std::process::id(), fastrand::u64(..)));
        run(as_user("mkdir").args(["-m", "755"]).arg(&folder).current_dir("/"));
        fill(&programs, &folder.join("data"));
        let (keeper, alive) = keep(&folder);
        let server = Self { port: free_port(), settings, folder, programs, keeper, alive: Some(alive) };
        server.resume();
        server
    }

    /// Promotes the standby.
    pub fn promote(&self) {
        run(as_user(self.programs.join("pg_ctl")).arg("-D").arg(self.data()).args(["-w", "promote"]).current_dir("/"));
    }

    /// Starts a server that was killed, on the same port and data.
    pub fn resume(&self) {
        let settings = format!(
            "-c listen_addresses=127.0.0.1 -c port={} -c unix_socket_directories='' -c max_connections=400 \
             -c shared_buffers=64MB -c log_min_messages=fatal {} {}",
            self.port,
            self.settings,
            std::env::var("TOWER_EVENTS_PG_SETTINGS").unwrap_or_default(),
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        // A server that was killed leaves its children and its lock file for a moment.
        loop {
            let mut start = as_user("env");
            if self.preloaded().exists() {
                start.arg(format!("LD_PRELOAD={}", self.preloaded().display()));
            }
            start
                .arg(self.programs.join("pg_ctl"))
                .arg("-D")
                .arg(self.data())
                .args(["-w", "-t", "60", "-o", &settings, "-l"])
                .arg(self.folder.join("data/log"));
            if start
                .arg("start")
                .current_dir("/")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
            {
                return;
            }
            assert!(Instant::now() < deadline, "the server does not start; see {}", self.folder.display());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Accepts only encrypted connections from now on: user `ada` with a password, and the superuser without.
    pub fn encrypt(&self, certificates: &Path) {
        let password = "create role ada superuser login password 'pa$s wörd'";
        self.script(password.as_bytes());
        self.put(&certificates.join("server.pem"), "server.crt");
        self.put(&certificates.join("server.key"), "server.key");
        self.script(b"alter system set ssl = on");
        self.rule("> ", "hostssl all ada all scram-sha-256");
    }

    /// Accepts `ada` without a password from now on, with a certificate that `authority` signed.
    pub fn ask_for_certificates(&self, authority: &Path) {
        self.put(authority, "root.crt");
        self.write(">> ", "postgresql.conf", "ssl_ca_file = 'root.crt'");
        self.rule("> ", "hostssl all ada all cert clientcert=verify-full");
    }

    /// Accepts plain connections of the superuser `postgres` too.
    pub fn also_plain(&self) {
        self.rule(">> ", "host all postgres 127.0.0.1/32 trust");
    }

    /// Makes an authentication rule the only one, or adds it.
    fn rule(&self, to: &str, rule: &str) {
        self.write(to, "pg_hba.conf", rule);
        self.kill();
        self.resume();
    }

    /// Writes a line into a file of the server, or appends it.
    fn write(&self, to: &str, file: &str, line: &str) {
        let script = format!(r#"printf '%s\n' "$1" {to} "$0""#);
        run(as_user("sh").args(["-c", &script]).arg(self.data().join(file)).arg(line).current_dir("/"));
    }

    /// Copies a file that the server's user may not be able to read.
    fn put(&self, from: &Path, to: &str) {
        let text = std::fs::read(from).unwrap();
        let mut tee = as_user("sh")
            .args(["-c", "umask 077; cat > \"$0\""])
            .arg(self.data().join(to))
            .current_dir("/")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        tee.stdin.take().unwrap().write_all(&text).unwrap();
        assert!(tee.wait().unwrap().success());
    }

    /// Kills the server with all its children, as in a crash, and waits until they are gone.
    pub fn kill(&self) {
        let pids = self.pids();
        signal("KILL", &pids);
        while pids.iter().any(|pid| is_running(*pid)) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Suspends all of its processes.
    pub fn pause(&self) {
        signal("STOP", &self.pids());
    }

    /// Resumes them.
    pub fn unpause(&self) {
        signal("CONT", &self.pids());
    }

    /// A URL to connect to it.
    pub fn url(&self) -> String {
        self.url_at(self.address())
    }

    /// A URL that leads to it through something else.
    pub fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://postgres@{address}/postgres")
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Runs one of PostgreSQL's programs against it; returns the output.
    pub fn program(&self, name: &str, args: &[&str]) -> Vec<u8> {
        let url = self.url();
        let output = Command::new(self.programs.join(name)).args(["-d", &url]).args(args).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Runs a script with psql.
    pub fn script(&self, sql: &[u8]) {
        self.try_script(sql).unwrap();
    }

    /// Runs a script with psql; returns the error output if it fails.
    pub fn try_script(&self, sql: &[u8]) -> Result<(), String> {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-d", &self.url(), "-X", "-q", "-v", "ON_ERROR_STOP=1"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = psql.stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            // It stops reading when it fails.
            scope.spawn(move || _ = stdin.write_all(sql));
            child.wait_with_output().unwrap()
        });
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// The server and its children.
    pub fn pids(&self) -> Vec<u32> {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).expect("a running server");
        let postmaster: u32 = file.lines().next().unwrap().trim().parse().unwrap();
        let children =
            std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
        std::iter::once(postmaster).chain(children.split_whitespace().map(|pid| pid.parse().unwrap())).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.alive.take());
        _ = self.keeper.wait();
    }
}

/// The folder of PostgreSQL's programs: Debian keeps those of the server out of the path.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<_> = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
    versions.sort_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    let debian = versions.into_iter().rev().map(|entry| entry.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian.chain(std::env::split_paths(&path)).find(|folder| folder.join("initdb").is_file())
}

/// PostgreSQL refuses to run as root.
pub fn as_user(program: impl AsRef<Path>) -> Command {
    static ROOT: OnceLock<bool> = OnceLock::new();
    let is_root = || Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if *ROOT.get_or_init(is_root) {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program.as_ref());
        return command;
    }
    Command::new(program.as_ref())
}

fn keep(folder: &Path) -> (Child, ChildStdin) {
    // Its standard input is never written to: it ends when this process does.
    let script = r#"cat > /dev/null
        pid=$(head -n 1 "$0/data/postmaster.pid" 2> /dev/null)
        if [ -n "$pid" ]; then
            kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children" 2> /dev/null) 2> /dev/null
            kill -INT "$pid" 2> /dev/null
            for i in $(seq 100); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
            kill -KILL "$pid" 2> /dev/null
        fi
        rm -rf "$0""#;
    let mut keeper = Command::new("setsid")
        .args(["sh", "-c", script])
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a keeper");
    let alive = keeper.stdin.take().unwrap();
    (keeper, alive)
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program that runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn signal(name: &str, pids: &[u32]) {
    _ = Command::new("kill")
        .arg(format!("-{name}"))
        .args(pids.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status();
}

fn is_running(pid: u32) -> bool {
    // A zombie has ended; only its parent has not noticed yet.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
