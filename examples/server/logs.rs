//! Logs on the standard error, as text or as JSON objects. `RUST_LOG` says which: `info` by default, for example
//! `warn,tower_events=debug`.

use std::{io::IsTerminal, str::FromStr};

use tracing_subscriber::{EnvFilter, filter::LevelFilter, fmt};

/// What `--log-format` chooses.
#[derive(Clone, Copy, Default)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("unknown log format {name:?}")),
        }
    }
}

/// Writes what is logged from now on.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().init(),
    }
}
