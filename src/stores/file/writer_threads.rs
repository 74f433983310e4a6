//! The writer's threads: what they wait for, and what they do then.

use std::{sync::Arc, thread, time::Duration};

use super::{
    core::Core,
    durability::Acknowledger,
    request::PendingReplies,
    request_queue::Wake,
    write_queue::WriteQueue,
};

/// Starts a thread for each promise. They end when nobody can ask any more.
pub(super) fn start(core: &Arc<Core>, write_queue: &Arc<WriteQueue>, acknowledgers: Vec<Acknowledger>) -> std::io::Result<()> {
    for acknowledger in acknowledgers {
        // Dropped also when a turn panics, or a thread cannot be started: nobody must wait for an answer that never comes.
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
        // Those who asked meanwhile found the writer at work.
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
