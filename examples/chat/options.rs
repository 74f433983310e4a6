//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use super::store::StoreUrl;

pub(crate) struct Options {
    pub(crate) listen: SocketAddr,
    pub(crate) database: PathBuf,
    /// Where the events are stored; by default in a file next to the database.
    pub(crate) store: Option<StoreUrl>,
}

impl Options {
    /// `None` when help was asked for.
    pub(crate) fn parse() -> Result<Option<Self>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options =
            Self { listen: SocketAddr::from(([127, 0, 0, 1], 3000)), database: "chat.db".into(), store: None };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("listen") => options.listen = arguments.value()?.parse()?,
                Long("database") => options.database = arguments.value()?.into(),
                Long("store") => options.store = Some(arguments.value()?.parse()?),
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
A chat over Server-Sent Events and long polling.

  --listen ADDRESS   where to listen; port 0 picks a free one [127.0.0.1:3000]
  --database PATH    the SQLite file with the messages; the events are stored next to it, in PATH with the
                     extension .events. Processes with the same PATH are one chat. [chat.db]
  --store URL        store the events elsewhere: memory:, file:PATH, or (if built with the feature of that name)
                     redis://..., nats://..., postgres://... Processes that share it must share PATH too.
  --help";
