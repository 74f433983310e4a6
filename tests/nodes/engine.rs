//! A common interface to the servers: a URL, and a crash and a restart with what was acknowledged. `None` where one is
//! not installed, which in CI is a failure.

use super::{Directory, Nats, Postgres, Redis, nats_server, redis_server};

/// What several nodes share.
pub trait Engine {
    fn url(&self) -> String;
    /// Kills it, as in a crash.
    fn kill(&mut self);
    /// Restarts it with what it had acknowledged.
    fn start_again(&mut self);
}

pub fn redis() -> Option<Blocking> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(redis_server::Server::start(&["--appendonly", "yes", "--appendfsync", "always"]))?;
    Some(Blocking { server, runtime })
}

pub fn nats() -> Option<Nats> {
    nats_server::servers().first().map(|binary| Nats::start(binary))
}

/// A server that only `ada` may use, with the password `secret`.
pub fn nats_with_password() -> Option<Nats> {
    let config = "authorization { user: ada, password: secret }".to_owned();
    nats_server::servers().first().map(|binary| Nats::with_config(binary, Some(config)))
}

pub fn postgres() -> Option<Postgres> {
    Postgres::start()
}

/// A Redis server for synchronous callers.
pub struct Blocking {
    server: Redis,
    runtime: tokio::runtime::Runtime,
}

impl Blocking {
    pub fn command(&self, words: &[&str]) -> String {
        self.runtime.block_on(self.server.command(words))
    }
}

impl Engine for Blocking {
    fn url(&self) -> String {
        self.server.url()
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn start_again(&mut self) {
        self.runtime.block_on(self.server.run());
    }
}

impl Engine for Nats {
    fn url(&self) -> String {
        Nats::url(self)
    }

    fn kill(&mut self) {
        Nats::kill(self);
    }

    fn start_again(&mut self) {
        self.run();
    }
}

impl Engine for Postgres {
    fn url(&self) -> String {
        Postgres::url(self)
    }

    fn kill(&mut self) {
        Postgres::kill(self);
    }

    fn start_again(&mut self) {
        self.resume();
    }
}

/// A file, which is always available.
pub struct File(Directory);

impl File {
    pub fn new() -> Self {
        Self(Directory::new("nodes"))
    }
}

impl Engine for File {
    fn url(&self) -> String {
        format!("file:{}", self.0.0.join("events").display())
    }

    fn kill(&mut self) {}

    fn start_again(&mut self) {}
}
