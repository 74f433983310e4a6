//! The nodes: example servers that share a file, on addresses that stay the same over restarts.

use std::net::SocketAddr;

use crate::{
    free_address,
    program::{Directory, Example},
};

pub(crate) struct Nodes {
    pub(crate) addresses: [SocketAddr; 2],
    running: [Option<Example>; 2],
    directory: Directory,
    options: &'static [&'static str],
}

impl Nodes {
    /// `name` differs from that of each test that may run at the same time.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// With further options of the server.
    pub(crate) fn start_with(name: &str, options: &'static [&'static str]) -> Self {
        let addresses = [free_address(), free_address()];
        let nodes = Self { addresses, running: [None, None], directory: Directory::new(name), options };
        Self { running: [Some(nodes.run(0)), Some(nodes.run(1))], ..nodes }
    }

    pub(crate) fn start_again(&mut self, which: usize) {
        self.running[which] = Some(self.run(which));
    }

    /// Stops a node as a service manager does, and waits until it has exited.
    pub(crate) fn stop(&mut self, which: usize) {
        self.running[which].take().unwrap().stop("TERM");
    }

    /// How many open streams and waiting polls a node has.
    pub(crate) fn readers(&self, which: usize) -> u64 {
        self.running[which].as_ref().unwrap().get("/healthz").json()["readers"].as_u64().unwrap()
    }

    fn run(&self, which: usize) -> Example {
        let store = format!("file:{}", self.directory.0.join("events").display());
        let listen = self.addresses[which].to_string();
        let settings = ["--drain", "1", "--retention-events", "100000"];
        Example::start("server", &[&["--listen", &listen, "--store", &store], &settings[..], self.options].concat())
    }
}
