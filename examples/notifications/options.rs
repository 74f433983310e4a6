//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) database: PathBuf,
    pub(crate) token_life: Duration,
}

impl Options {
    /// `None` when help was asked for.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;
        let listen = SocketAddr::from(([127, 0, 0, 1], 3000));
        let token_life = Duration::from_secs(15 * 60);
        let mut options = Self { listen, database: "notifications.db".into(), token_life };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("listen") => options.listen = arguments.value()?.parse()?,
                Long("database") => options.database = arguments.value()?.into(),
                Long("token-life") => options.token_life = Duration::from_secs(arguments.value()?.parse()?),
                Short('h') | Long("help") => {
                    println!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }
}

pub(crate) const HELP: &str = "\
Notifications, with tokens that expire and can be revoked.

  --listen ADDRESS      where to listen; port 0 picks a free one [127.0.0.1:3000]
  --database PATH       the SQLite file with the notifications; the events are stored next to it, in PATH with the
                        extension .events. Processes with the same PATH share all. [notifications.db]
  --token-life SECONDS  how long a token is valid [900]
  --help";
