//! The nodes: example servers on one file, on addresses that stay while the processes change.

use std::net::SocketAddr;

use crate::{
    free,
    program::{Directory, Example},
};

pub(crate) struct Nodes {
    pub(crate) addresses: [SocketAddr; 2],
    running: [Option<Example>; 2],
    directory: Directory,
}

impl Nodes {
    pub(crate) fn start(name: &str) -> Self {
        let nodes = Self { addresses: [free(), free()], running: [None, None], directory: Directory::new(name) };
        Self { running: [Some(nodes.run(0)), Some(nodes.run(1))], ..nodes }
    }

    pub(crate) fn start_again(&mut self, which: usize) {
        self.running[which] = Some(self.run(which));
    }

    /// Stops one as a service manager does, and waits until it has ended.
    pub(crate) fn stop(&mut self, which: usize) {
        self.running[which].take().unwrap().stop("TERM");
    }

    /// How many streams and polls this one has.
    pub(crate) fn readers(&self, which: usize) -> u64 {
        self.running[which].as_ref().unwrap().get("/healthz").json()["readers"].as_u64().unwrap()
    }

    fn run(&self, which: usize) -> Example {
        let store = format!("file:{}", self.directory.0.join("events").display());
        let listen = self.addresses[which].to_string();
        let settings = ["--drain", "1", "--retention-events", "100000"];
        Example::start("server", &[&["--listen", &listen, "--store", &store], &settings[..]].concat())
    }
}
