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

/// Starts a proxy in front of these nodes; `None` if it is not installed.
pub(crate) type Start = fn(name: &str, nodes: [SocketAddr; 2]) -> Option<Proxy>;

pub(crate) fn nginx(name: &str, nodes: [SocketAddr; 2]) -> Option<Proxy> {
    let arguments = ["-e", "stderr", "-p", ".", "-g", "daemon off; pid nginx.pid;", "-c", "nginx.conf"];
    // The default paths for temporary files are writable only by root.
    let temp_paths =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {kind};"));
    let http = format!("http {{ access_log off; {}", temp_paths.join(" "));
    start(name, ("nginx", &arguments), nodes, &[("http {", &http)])
}

pub(crate) fn haproxy(name: &str, nodes: [SocketAddr; 2]) -> Option<Proxy> {
    start(name, ("haproxy", &["-db", "-f", "haproxy.cfg"]), nodes, &[])
}

pub(crate) fn caddy(name: &str, nodes: [SocketAddr; 2]) -> Option<Proxy> {
    start(name, ("caddy", &["run", "--adapter", "caddyfile", "--config", "Caddyfile"]), nodes, &[])
}

/// The last argument is the configuration file. `changes` replace texts in it.
fn start(
    name: &str,
    (program, arguments): (&str, &[&str]),
    nodes: [SocketAddr; 2],
    changes: &[(&str, &str)],
) -> Option<Proxy> {
    let binary = find(program)?;
    let (directory, address) = (Directory::new(&format!("{program}-{name}")), free_address());
    let file = arguments.last().unwrap();
    let mut text = fs::read_to_string(examples().join(file)).unwrap();
    let used = [address, nodes[0], nodes[1]].map(|address| address.to_string());
    for (from, to) in zip(["127.0.0.1:8080", "127.0.0.1:3001", "127.0.0.1:3002"], used.iter().map(String::as_str))
        .chain(changes.iter().copied())
    {
        assert!(text.contains(from), "{from:?} is not in {file}");
        text = text.replace(from, to);
    }
    fs::write(directory.0.join(file), text).unwrap();
    let log = fs::File::create(directory.0.join("log")).unwrap();
    let mut command = Command::new(binary);
    command.args(arguments).current_dir(&directory.0).env("HOME", &directory.0).stdin(Stdio::null());
    let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let mut proxy = Proxy { address, child, directory };
    proxy.wait_until_it_listens();
    Some(proxy)
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
