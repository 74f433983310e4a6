//! One connection to the server that is made when needed and made again when lost. Knows no script's meaning.

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

/// The connection, if there is one.
pub(super) struct Connection {
    connector: Arc<Connector>,
    /// LiveConnection while connecting, so that of many who need the connection one makes it.
    state: Arc<Mutex<State>>,
}

/// How to connect.
struct Connector {
    endpoint: Arc<Endpoint>,
    scripts: Arc<Scripts>,
    primary: Arc<PrimaryTerm>,
    /// The term of the connection, 0 while there was none.
    term: AtomicU64,
    /// How long one attempt to connect may take.
    attempt_timeout: Duration,
    /// Whether it was lost or never came about; a connection that nobody needed yet is not down.
    down: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    current: Option<LiveConnection>,
    /// Failed attempts since the last connection, the time of the next one, and why the last one failed.
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
        endpoint: Arc<Endpoint>,
        scripts: Arc<Scripts>,
        primary: Arc<PrimaryTerm>,
        attempt_timeout: Duration,
    ) -> Self {
        let (term, down) = (AtomicU64::new(0), Arc::default());
        Self {
            connector: Arc::new(Connector { endpoint, scripts, primary, term, attempt_timeout, down }),
            state: Arc::default(),
        }
    }

    pub(super) fn is_down(&self) -> bool {
        let term = self.connector.term.load(Ordering::Relaxed);
        self.connector.down.load(Ordering::Relaxed) || (term != 0 && term != self.connector.primary.current())
    }

    /// Begins to connect again when the connection is lost, unless somebody is at it: for a node that makes no calls.
    pub(super) fn reconnect(&self) {
        let Ok(runtime) = Handle::try_current() else { return };
        let Ok(mut state) = Arc::clone(&self.state).try_lock_owned() else { return };
        let too_early = state.failed.as_ref().is_some_and(|(_, next, _)| *next > Instant::now());
        if self.is_down() && !too_early {
            let connector = Arc::clone(&self.connector);
            runtime.spawn(async move { connector.attempt(&mut state).await });
        }
    }

    /// Sends one command, connecting first if need be, and returns its answer; all before `deadline`.
    pub(super) async fn send(&self, cmd: &Cmd, deadline: Instant) -> Result<Value, CallError> {
        let held = self.held(deadline).await?;
        let send = || self.sent(&held, deadline, async |connection| connection.send_packed_command(cmd).await);
        match send().await {
            Err(error) if error.is_unknown_script() => {
                self.load_scripts(&held, deadline).await?;
                send().await
            }
            answer => answer,
        }
    }

    /// Sends several commands at once, and returns their answers.
    pub(super) async fn send_all(&self, pipeline: &Pipeline, deadline: Instant) -> Result<Vec<Value>, CallError> {
        let held = self.held(deadline).await?;
        match self.all_sent(&held, deadline, pipeline).await {
            Err(error) if error.is_unknown_script() => {
                self.load_scripts(&held, deadline).await?;
                self.all_sent(&held, deadline, pipeline).await
            }
            answers => answers,
        }
    }

    /// Sends what reads, and returns the answers if they are those of a primary.
    pub(super) async fn ask(&self, asked: Pipeline, deadline: Instant) -> Result<Vec<Value>, CallError> {
        let (held, asked) = (self.held(deadline).await?, primary::with_probe(asked));
        let ask = || {
            self.sent(&held, deadline, async |connection| {
                let answers = connection.send_packed_commands(&asked, 0, asked.len()).await?;
                primary::without_probe_reply(answers).map(Value::Array)
            })
        };
        let answers = match ask().await {
            Err(error) if error.is_unknown_script() => {
                self.load_scripts(&held, deadline).await?;
                ask().await
            }
            answers => answers,
        };
        match answers? {
            Value::Array(answers) => Ok(answers),
            other => Ok(vec![other]),
        }
    }

    /// Somebody flushed the scripts. Nothing was done without them, so the call can be made again.
    async fn load_scripts(&self, held: &LiveConnection, deadline: Instant) -> Result<(), CallError> {
        let load = async |connection: &mut MultiplexedConnection| {
            self.connector.load_scripts(connection).await?;
            Ok(Value::Nil)
        };
        self.sent(held, deadline, load).await.map(drop)
    }

    async fn all_sent(
        &self,
        held: &LiveConnection,
        deadline: Instant,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, CallError> {
        let send = async |connection: &mut MultiplexedConnection| {
            connection.send_packed_commands(pipeline, 0, pipeline.len()).await.map(Value::Array)
        };
        match self.sent(held, deadline, send).await? {
            Value::Array(answers) => Ok(answers),
            other => Ok(vec![other]),
        }
    }

    async fn sent(
        &self,
        held: &LiveConnection,
        deadline: Instant,
        send: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<Value>,
    ) -> Result<Value, CallError> {
        let mut connection = held.connection.clone();
        let answer = match timeout_at(deadline, send(&mut connection)).await {
            Ok(answer) => answer.and_then(Value::extract_error).map_err(CallError::from),
            Err(_) => Err(CallError::NoResponse(Box::new(TimedOut(self.connector.attempt_timeout)))),
        };
        if answer.as_ref().is_err_and(CallError::breaks_connection) {
            self.lost(held);
        }
        if answer.as_ref().is_err_and(CallError::is_from_replica) {
            self.connector.primary.end(held.term);
        }
        answer
    }

    fn lost(&self, held: &LiveConnection) {
        if !held.dead.swap(true, Ordering::Relaxed) {
            self.connector.down.store(true, Ordering::Relaxed);
            tracing::warn!("lost a connection to the Redis server");
        }
    }

    /// The connection, made if need be. While attempts fail they are spread out, and callers wait until their deadline.
    async fn held(&self, deadline: Instant) -> Result<LiveConnection, CallError> {
        let late = |_| CallError::NotSent(Box::new(TimedOut(self.connector.attempt_timeout)));
        loop {
            let mut state = timeout_at(deadline, Arc::clone(&self.state).lock_owned()).await.map_err(late)?;
            let term = self.connector.primary.current();
            let good = |held: &&LiveConnection| held.term == term && !held.dead.load(Ordering::Relaxed);
            if let Some(held) = state.current.as_ref().filter(good) {
                return Ok(held.clone());
            }
            state.current = None;
            let next = state.failed.as_ref().map(|(_, next, error)| (*next, Arc::clone(error)));
            match next.filter(|(next, _)| *next > Instant::now()) {
                Some((next, error)) if next >= deadline => return Err(CallError::NotSent(Box::new(error))),
                Some((next, _)) => {
                    drop(state);
                    sleep_until(next).await;
                }
                None => {
                    // A task of its own: an attempt takes its time, whatever the deadline of the caller who needs it first.
                    let connector = Arc::clone(&self.connector);
                    let attempt = tokio::spawn(async move { connector.attempt(&mut state).await });
                    _ = timeout_at(deadline, attempt).await.map_err(late)?;
                }
            }
        }
    }
}

impl Connector {
    async fn attempt(&self, state: &mut State) {
        let failed = state.failed.as_ref().map_or(0, |(count, ..)| *count);
        match tokio::time::timeout(self.attempt_timeout, self.connect(failed)).await {
            Ok(Ok(held)) => {
                if state.failed.take().is_some() {
                    tracing::info!("connected to the Redis server again");
                }
                self.term.store(held.term, Ordering::Relaxed);
                state.current = Some(held);
                self.down.store(false, Ordering::Relaxed);
            }
            Ok(Err(error)) => self.failed(state, error),
            Err(_) => self.failed(state, RedisError::from((ErrorKind::Io, "the Redis server does not answer"))),
        }
    }

    fn failed(&self, state: &mut State, error: RedisError) {
        self.down.store(true, Ordering::Relaxed);
        let count = state.failed.as_ref().map_or(0, |(count, ..)| *count);
        if count == 0 {
            tracing::warn!(%error, "cannot connect to the Redis server; trying again");
        }
        state.failed = Some((count.saturating_add(1), Instant::now() + retry_delay(count), Arc::new(error)));
    }

    async fn connect(&self, failed: u32) -> redis::RedisResult<LiveConnection> {
        let (dead, term) = (Arc::new(AtomicBool::new(false)), self.primary.current());
        let lost = on_loss(Arc::clone(&dead), Arc::clone(&self.down));
        let mut connection = open_connection(&self.endpoint, failed, lost).await?;
        primary::check_probe_reply(connection.send_packed_command(&primary::probe()).await?)?;
        self.load_scripts(&mut connection).await?;
        Ok(LiveConnection { connection, dead, term })
    }

    async fn load_scripts(&self, connection: &mut MultiplexedConnection) -> redis::RedisResult<()> {
        let known = connection.send_packed_command(&self.scripts.exists()).await?;
        let missing = self.scripts.load(&known);
        if missing.is_empty() { Ok(()) } else { missing.exec_async(connection).await }
    }
}

/// How long to wait after so many failed attempts: 50 ms to 1 s, and up to half more or less, so that the nodes of an
/// application do not come back all at once.
pub(super) fn retry_delay(failed: u32) -> Duration {
    let most = Duration::from_millis(50 << failed.min(6)).min(Duration::from_secs(1));
    most.mul_f64(0.5 + fastrand::f64())
}

/// A connection whose every call has its own deadline, after so many attempts that failed. The driver's default of 500 ms would end all that wait longer.
pub(super) async fn open_connection(
    endpoint: &Endpoint,
    failed: u32,
    pushed: impl Fn(PushInfo) -> Result<(), SendError> + Send + Sync + 'static,
) -> redis::RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_write_backpressure_boundary(64 << 10)
        .set_push_sender(pushed);
    endpoint.client(failed).await?.get_multiplexed_async_connection_with_config(&config).await
}

fn on_loss(dead: Arc<AtomicBool>, down: Arc<AtomicBool>) -> impl Fn(PushInfo) -> Result<(), SendError> {
    move |info| {
        if info.kind == PushKind::Disconnection {
            // The connection that came after a call had already given this one up stays up.
            if !dead.swap(true, Ordering::Relaxed) {
                down.store(true, Ordering::Relaxed);
                tracing::warn!("lost a connection to the Redis server");
            }
        }
        Ok(())
    }
}
