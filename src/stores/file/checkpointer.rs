//! Checkpoints the WAL on a thread of its own while others write: a checkpoint waits for the disk, and writers should
//! not. It never restarts the WAL, which needs a moment without writers (see `wal`).

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use rusqlite::Connection;

use super::{
    checkpoint::{self, CheckpointMode},
    connection,
    core::Core,
};

/// Requests checkpoints from the thread, which ends when this is dropped.
pub(super) struct Checkpointer {
    request: SyncSender<()>,
}

impl Checkpointer {
    pub(super) fn start(core: Arc<Core>) -> std::io::Result<Self> {
        let (request, requests) = sync_channel(1);
        thread::Builder::new().name("events-ckpt".into()).spawn(move || run(&core, &requests))?;
        Ok(Self { request })
    }

    /// Requests a checkpoint, unless one is already requested.
    pub(super) fn request(&self) {
        _ = self.request.try_send(());
    }
}

fn run(core: &Core, requests: &Receiver<()>) {
    let mut db = None;
    for () in requests {
        let Err(error) = run_checkpoint(core, &mut db) else { continue };
        db = None;
        core.checkpoint_failed(error);
    }
}

fn run_checkpoint(core: &Core, db: &mut Option<Connection>) -> rusqlite::Result<()> {
    let db = match db {
        Some(db) => db,
        none => none.insert(connection::open_checkpointer(&core.paths, core.options.durability)?),
    };
    checkpoint::run(db, CheckpointMode::Passive).map(|_| ())
}
