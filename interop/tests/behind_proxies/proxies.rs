//! The proxies, each with its file from `examples/proxies`, in which only addresses and paths are replaced.

use std::{
    env, fs,
    iter::zip,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    free_address,
    program::{Directory, PATIENCE},
};

/// A running proxy; stopped when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    child: Child,
    directory: Directory,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
    Caddy,
}

/// A text of a configuration file, and what replaces it.
pub(crate) type Change = (&'static str, String);

impl Kind {
    /// Starts a proxy with the example's file in front of these nodes; `None` if it is not installed.
    pub(crate) fn start(self, name: &str, nodes: [SocketAddr; 2]) -> Option<Proxy> {
        self.start_with(name, nodes, &[])
    }

    /// Changes the file before.
    pub(crate) fn start_with(self, name: &str, nodes: [SocketAddr; 2], changes: &[Change]) -> Option<Proxy> {
        let binary = find(self.program())?;
        let address = free_address();
        let directory = Directory::new(&format!("{}-{name}", self.program()));
        fs::write(directory.0.join(self.file()), self.text(address, nodes, changes)).unwrap();
        let log = fs::File::create(directory.0.join("log")).unwrap();
        let mut command = Command::new(binary);
        command.args(self.arguments()).current_dir(&directory.0).env("HOME", &directory.0).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut proxy = Proxy { address, child, directory };
        proxy.wait_until_it_listens();
        Some(proxy)
    }

    fn text(self, address: SocketAddr, nodes: [SocketAddr; 2], changes: &[Change]) -> String {
        let mut text = fs::read_to_string(examples().join(self.file())).unwrap();
        let mut change = |from: &str, to: &str| {
            assert!(text.contains(from), "{from:?} is not in {}", self.file());
            text = text.replace(from, to);
        };
        changes.iter().for_each(|(from, to)| change(from, to));
        for (from, to) in zip(["127.0.0.1:8080", "127.0.0.1:3001", "127.0.0.1:3002"], [address, nodes[0], nodes[1]]) {
            change(from, &to.to_string());
        }
        if matches!(self, Self::Nginx) {
            // The default paths for temporary files are writable only by root.
            let temp_paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temp_paths = temp_paths.map(|kind| format!("{kind}_temp_path {kind};")).join(" ");
            change("http {", &format!("http {{ access_log off; {temp_paths}"));
        }
        text
    }

    fn program(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Caddy => "caddy",
        }
    }

    pub(crate) fn file(self) -> &'static str {
        match self {
            Self::Nginx => "nginx.conf",
            Self::Haproxy => "haproxy.cfg",
            Self::Caddy => "Caddyfile",
        }
    }

    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Nginx => &["-e", "stderr", "-p", ".", "-g", "daemon off; pid nginx.pid;", "-c", "nginx.conf"],
            // As a service manager runs it: with a master, which can reload.
            Self::Haproxy => &["-W", "-db", "-f", "haproxy.cfg"],
            Self::Caddy => &["run", "--adapter", "caddyfile", "--config", "Caddyfile"],
        }
    }

    /// Reloads the file with these changes, as an operator does.
    pub(crate) fn reload(self, proxy: &Proxy, nodes: [SocketAddr; 2], changes: &[Change]) {
        fs::write(proxy.directory.0.join(self.file()), self.text(proxy.address, nodes, changes)).unwrap();
        let pid = proxy.child.id().to_string();
        let mut command = match self {
            Self::Nginx => Command::new("kill"),
            Self::Haproxy => Command::new("kill"),
            Self::Caddy => Command::new(find("caddy").unwrap()),
        };
        match self {
            Self::Nginx => command.args(["-HUP", &pid]),
            Self::Haproxy => command.args(["-USR2", &pid]),
            // It finds the address of its administration in the file.
            Self::Caddy => command.args(["reload", "--adapter", "caddyfile", "--config", "Caddyfile"]),
        };
        let directory = &proxy.directory.0;
        let done = command.current_dir(directory).env("HOME", directory).stdin(Stdio::null()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("examples").join("proxies")
}

/// Also searches `/usr/sbin`, where Debian puts some of the proxies, and which is not in every user's path.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).chain(["/usr/sbin".into()]).map(|folder| folder.join(program));
    let found = found.into_iter().find(|file| file.exists());
    if found.is_none() {
        let text = format!("no {program} found: install it to test the nodes behind it");
        assert!(env::var("CI").is_err(), "{text}");
        eprintln!("\n*** TESTS ARE SKIPPED: {text} ***\n");
    }
    found
}

impl Proxy {
    fn wait_until_it_listens(&mut self) {
        let began = Instant::now();
        while std::net::TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "the proxy does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(10)); // nothing announces when it listens
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.0.join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    /// Stops it by a signal that it forwards to its child processes.
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        _ = Command::new("kill").args(["-TERM", &pid]).status();
        let began = Instant::now();
        while began.elapsed() < PATIENCE && self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(10)); // the standard library has no timeout for waiting for a child
        }
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
