//! One connection to the server, opened on first use and reopened when lost. Does not know what the scripts mean.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, PushInfo, PushKind, RedisError, Value,
    aio::{MultiplexedConnection, SendError},
};
use tokio::{
    runtime::Handle,
    sync::Mutex,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    endpoint::Endpoint,
    error::{CallError, TimedOut},
    primary::{self, PrimaryTerm},
    script::Scripts,
};
use crate::{
    store::{Source, kit::Backoff},
    stores::outage_log::{OutageLog, Part},
};

/// A connection that reopens itself.
pub(super) struct Connection {
    connector: Arc<Connector>,
    /// Locked while connecting, so that one of many callers connects for all of them.
    state: Arc<Mutex<State>>,
}

/// How to connect.
struct Connector {
    endpoint: Arc<Endpoint>,
    scripts: Arc<Scripts>,
    primary: Arc<PrimaryTerm>,
    /// The term of the current connection; 0 before the first one.
    term: AtomicU64,
    /// How long one attempt to connect may take.
    attempt_timeout: Duration,
    /// Whether it was lost or could not be opened; a connection that was never needed is not down.
    down: Arc<AtomicBool>,
    outages: Arc<OutageLog>,
}

#[derive(Default)]
struct State {
    current: Option<LiveConnection>,
    /// The failed attempts since the last connection: how many, when the next one is due, and the last error.
    failed: Option<(u32, Instant, Arc<RedisError>)>,
}

/// A connection in use.
#[derive(Clone)]
struct LiveConnection {
    connection: MultiplexedConnection,
    /// Set when it is lost.
    dead: Arc<AtomicBool>,
    term: u64,
}

impl Connection {
    pub(super) fn new(
        (endpoint, scripts, primary, outages): (Arc<Endpoint>, Arc<Scripts>, Arc<PrimaryTerm>, Arc<OutageLog>),
        attempt_timeout: Duration,
    ) -> Self {
        let (term, down) = (AtomicU64::new(0), Arc::default());
        let connector = Connector { endpoint, scripts, primary, term, attempt_timeout, down, outages };
        Self { connector: Arc::new(connector), state: Arc::default() }
    }

    pub(super) fn is_down(&self) -> bool {
        let term = self.connector.term.load(Ordering::Relaxed);
        self.connector.down.load(Ordering::Relaxed) || (term != 0 && term != self.connector.primary.current())
    }

    /// Starts to reconnect after a loss, unless an attempt is running: for a node that makes no calls.
    pub(super) fn reconnect(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Ok(mut state) = Arc::clone(&self.state).try_lock_owned() else { return };
        let too_early = state.failed.as_ref().is_some_and(|(_, next, _)| *next > Instant::now());
        if self.is_down() && !too_early {
            let connector = Arc::clone(&self.connector);
            runtime.spawn(async move { connector.attempt(&mut state).await });
        }
    }

    /// Sends one command, connecting first if necessary, and returns the reply; all before `deadline`.
    pub(super) async fn send(&self, cmd: &Cmd, deadline: Instant) -> Result<Value, CallError> {
        let live = self.live_connection(deadline).await?;
        let send = || self.send_with(&live, deadline, async |connection| connection.send_packed_command(cmd).await);
        match send().await {
            Err(error) if error.is_unknown_script() => {
                self.load_scripts(&live, deadline).await?;
                send().await
            }
            answer => answer,
        }
    }

    /// Sends several commands at once, and returns their replies.
    pub(super) async fn send_all(&self, pipeline: &Pipeline, deadline: Instant) -> Result<Vec<Value>, CallError> {
        let live = self.live_connection(deadline).await?;
        match self.send_pipeline(&live, deadline, pipeline).await {
            Err(error) if error.is_unknown_script() => {
                self.load_scripts(&live, deadline).await?;
                self.send_pipeline(&live, deadline, pipeline).await
            }
            answers => answers,
        }
    }

    /// Sends commands that only read, and returns their replies if a primary gave them.
    pub(super) async fn ask(&self, pipeline: Pipeline, deadline: Instant) -> Result<Vec<Value>, CallError> {
        let (live, pipeline) = (self.live_connection(deadline).await?, primary::with_probe(pipeline));
        let ask = || {
            self.send_with(&live, deadline, async |connection| {
                let answers = connection.send_packed_commands(&pipeline, 0, pipeline.len()).await?;
                primary::without_probe_reply(answers).map(Value::Array)
            })
        };
        let answers = match ask().await {
            Err(error) if error.is_unknown_script() => {
                self.load_scripts(&live, deadline).await?;
                ask().await
            }
            answers => answers,
        };
        match answers? {
            Value::Array(answers) => Ok(answers),
            other => Ok(vec![other]),
        }
    }

    /// The server's script cache was flushed. A call without its script did nothing, so it can be repeated.
    async fn load_scripts(&self, live: &LiveConnection, deadline: Instant) -> Result<(), CallError> {
        let load = async |connection: &mut MultiplexedConnection| {
            self.connector.load_scripts(connection).await?;
            Ok(Value::Nil)
        };
        self.send_with(live, deadline, load).await.map(drop)
    }

    async fn send_pipeline(
        &self,
        live: &LiveConnection,
        deadline: Instant,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, CallError> {
        let send = async |connection: &mut MultiplexedConnection| {
            connection.send_packed_commands(pipeline, 0, pipeline.len()).await.map(Value::Array)
        };
        match self.send_with(live, deadline, send).await? {
            Value::Array(answers) => Ok(answers),
            other => Ok(vec![other]),
        }
    }

    async fn send_with(
        &self,
        live: &LiveConnection,
        deadline: Instant,
        send: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<Value>,
    ) -> Result<Value, CallError> {
        let mut connection = live.connection.clone();
        let answer = match timeout_at(deadline, send(&mut connection)).await {
            Ok(answer) => answer.and_then(Value::extract_error).map_err(CallError::from),
            Err(_) => Err(CallError::NoResponse(Box::new(TimedOut(self.connector.attempt_timeout)))),
        };
        if answer.as_ref().is_err_and(CallError::breaks_connection) {
            self.lost(live);
        }
        if answer.as_ref().is_err_and(CallError::is_from_replica) {
            self.connector.primary.end(live.term);
        }
        answer
    }

    fn lost(&self, live: &LiveConnection) {
        note_lost(&live.dead, &self.connector.down, &self.connector.outages);
    }

    /// The connection, opened if necessary. While attempts fail they are spaced out, and callers wait until their
    /// deadline.
    async fn live_connection(&self, deadline: Instant) -> Result<LiveConnection, CallError> {
        // Why the last attempt failed says more than that no later one ended in time.
        let mut last = None;
        let timed_out = |last: Option<Arc<RedisError>>| {
            let timeout = TimedOut(self.connector.attempt_timeout);
            CallError::NotSent(last.map_or_else(|| Source::from(timeout), Source::from))
        };
        loop {
            let Ok(mut state) = timeout_at(deadline, Arc::clone(&self.state).lock_owned()).await else {
                return Err(timed_out(last));
            };
            let term = self.connector.primary.current();
            let is_usable = |live: &&LiveConnection| live.term == term && !live.dead.load(Ordering::Relaxed);
            if let Some(live) = state.current.as_ref().filter(is_usable) {
                return Ok(live.clone());
            }
            state.current = None;
            let next = state.failed.as_ref().map(|(_, next, error)| (*next, Arc::clone(error)));
            if let Some((_, error)) = &next {
                last = Some(Arc::clone(error));
            }
            match next.filter(|(next, _)| *next > Instant::now()) {
                Some((next, error)) if next >= deadline => return Err(CallError::NotSent(Box::new(error))),
                Some((next, _)) => {
                    drop(state);
                    sleep_until(next).await;
                }
                None => {
                    // In a task of its own: an attempt may outlast the deadline of the caller that needed it first.
                    let connector = Arc::clone(&self.connector);
                    let attempt = tokio::spawn(async move { connector.attempt(&mut state).await });
                    if timeout_at(deadline, attempt).await.is_err() {
                        return Err(timed_out(last));
                    }
                }
            }
        }
    }
}

impl Connector {
    async fn attempt(&self, state: &mut State) {
        let failed_attempts = state.failed.as_ref().map_or(0, |(count, ..)| *count);
        match tokio::time::timeout(self.attempt_timeout, self.connect(failed_attempts)).await {
            Ok(Ok(live)) => {
                state.failed = None;
                if self.outages.recovered(Part::Calls) {
                    tracing::info!("connected to the Redis server again");
                }
                self.term.store(live.term, Ordering::Relaxed);
                state.current = Some(live);
                self.down.store(false, Ordering::Relaxed);
            }
            Ok(Err(error)) => self.failed(state, error),
            Err(_) => self.failed(state, RedisError::from((ErrorKind::Io, "the Redis server does not answer"))),
        }
    }

    fn failed(&self, state: &mut State, error: RedisError) {
        self.down.store(true, Ordering::Relaxed);
        let count = state.failed.as_ref().map_or(0, |(count, ..)| *count);
        if self.outages.failed(Part::Calls) {
            tracing::warn!(%error, "cannot connect to the Redis server; trying again");
        }
        state.failed = Some((count.saturating_add(1), Instant::now() + RETRY.delay(count), Arc::new(error)));
    }

    async fn connect(&self, failed_attempts: u32) -> redis::RedisResult<LiveConnection> {
        let (dead, term) = (Arc::new(AtomicBool::new(false)), self.primary.current());
        let lost = on_loss(Arc::clone(&dead), Arc::clone(&self.down), Arc::clone(&self.outages));
        let mut connection = open_connection(&self.endpoint, failed_attempts, lost).await?;
        primary::check_probe_reply(connection.send_packed_command(&primary::probe()).await?)?;
        self.load_scripts(&mut connection).await?;
        Ok(LiveConnection { connection, dead, term })
    }

    async fn load_scripts(&self, connection: &mut MultiplexedConnection) -> redis::RedisResult<()> {
        let known = connection.send_packed_command(&self.scripts.exists_command()).await?;
        let missing = self.scripts.load(&known);
        if missing.is_empty() { Ok(()) } else { missing.exec_async(connection).await }
    }
}

/// How long to wait after attempts to connect that failed.
pub(super) const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

/// Opens a connection, after that many failed attempts. Every call has its own deadline, so the driver's default of 500
/// ms is off: it would end calls that are meant to wait longer.
pub(super) async fn open_connection(
    endpoint: &Endpoint,
    failed_attempts: u32,
    pushed: impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static,
) -> redis::RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_write_backpressure_boundary(64 << 10)
        .set_push_sender(pushed);
    endpoint.client(failed_attempts).await?.get_multiplexed_async_connection_with_config(&config).await
}

fn on_loss(
    dead: Arc<AtomicBool>,
    down: Arc<AtomicBool>,
    outages: Arc<OutageLog>,
) -> impl Fn(PushInfo) -> Result<(), SendError> {
    move |info| {
        if info.kind == PushKind::Disconnection {
            note_lost(&dead, &down, &outages);
        }
        Ok(())
    }
}

/// A call may have given the connection up already; a newer one then stays up.
fn note_lost(dead: &AtomicBool, down: &AtomicBool, outages: &OutageLog) {
    if !dead.swap(true, Ordering::Relaxed) {
        down.store(true, Ordering::Relaxed);
        if outages.failed(Part::Calls) {
            tracing::warn!("lost the connection to the Redis server");
        }
    }
}
