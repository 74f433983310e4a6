//! The writer's threads: they wait for requests, serve them and do background work.

use std::{sync::Arc, thread, time::Duration};

use super::{
    core::Core, durability::Acknowledger, request::PendingReplies, request_queue::Wake, write_queue::WriteQueue,
};

/// Starts a thread per acknowledger. They end when the store's handles are dropped.
pub(super) fn start(
    core: &Arc<Core>,
    write_queue: &Arc<WriteQueue>,
    acknowledgers: Vec<Acknowledger>,
) -> std::io::Result<()> {
    for acknowledger in acknowledgers {
        // Also dropped if the thread panics or fails to start: no caller may wait for a reply that never comes.
        let (core, end) = (Arc::clone(core), EndQueueOnDrop(Arc::clone(write_queue)));
        thread::Builder::new().name("events-writer".into()).spawn(move || run(&core, &end.0, acknowledger))?;
    }
    Ok(())
}

fn run(core: &Core, write_queue: &WriteQueue, acknowledger: Acknowledger) {
    let mut pause = Duration::ZERO;
    loop {
        let wake = write_queue.queue.wait(write_queue.spin_time(), pause);
        let Ok(mut writer) = write_queue.writer.lock() else { return };
        let replies = match wake {
            Wake::Requested => writer.serve(&write_queue.queue),
            Wake::Timeout => {
                writer.tidy();
                PendingReplies::default()
            }
            Wake::Closed => return,
        };
        writer.retry();
        pause = writer.pause();
        let has_more = writer.wal_should_restart;
        drop(writer);
        // Tasks that submitted requests meanwhile have found the writer locked.
        if has_more || !write_queue.queue.is_empty() {
            write_queue.queue.wake_thread();
        }
        acknowledger.acknowledge(core, replies);
    }
}

struct EndQueueOnDrop(Arc<WriteQueue>);

impl Drop for EndQueueOnDrop {
    fn drop(&mut self) {
        self.0.queue.end();
    }
}
