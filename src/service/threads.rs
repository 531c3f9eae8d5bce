//! The threads of the service: started by name, watched, and joined at the end.
//!
//! A thread that panics, ends by itself or makes no progress ends the process: a container that
//! restarts is better than one that looks alive. Progress is a beat of its pulse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{error, info, warn};

use crate::service::shutdown::{GRACE, Shutdown};

/// A thread without a beat for so long hangs; the longest lawful wait is far shorter.
pub const STALLED: Duration = Duration::from_secs(300);
/// What the end may take beyond the grace of the threads.
const MARGIN: Duration = Duration::from_millis(700);

/// Why the service ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the thread {0} ended unexpectedly; the process ends, so that it is started anew")]
    Ended(String),
    #[error(
        "the thread {0} has made no progress for {1} s; the process ends, so that it is started anew"
    )]
    Stalled(&'static str, u64),
    #[error("the thread {0} cannot be started: {1}")]
    Spawn(&'static str, std::io::Error),
}

/// Beaten by a thread to say that it goes on.
#[derive(Clone)]
pub struct Pulse {
    start: Instant,
    /// Milliseconds from `start` to the last beat.
    last: Arc<AtomicU64>,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse {
            start: Instant::now(),
            last: Arc::default(),
        }
    }
}

impl Pulse {
    pub fn beat(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Time since the last beat.
    pub fn age(&self) -> Duration {
        self.start
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// The running threads, and the news of their end.
pub struct Threads {
    running: Vec<Running>,
    ended_tx: Sender<String>,
    ended: Receiver<String>,
}

struct Running {
    name: &'static str,
    thread: JoinHandle<()>,
    pulse: Pulse,
}

/// Reports the end of its thread, a panic included.
struct EndNotice(&'static str, Sender<String>);

impl Drop for EndNotice {
    fn drop(&mut self) {
        drop(self.1.send(self.0.to_string()));
    }
}

impl Default for Threads {
    fn default() -> Threads {
        let (ended_tx, ended) = bounded(8);
        Threads {
            running: Vec::new(),
            ended_tx,
            ended,
        }
    }
}

impl Threads {
    /// Starts a thread that beats `pulse`.
    ///
    /// # Errors
    /// The system refuses.
    pub fn spawn(
        &mut self,
        name: &'static str,
        pulse: Pulse,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), Failure> {
        let notice = EndNotice(name, self.ended_tx.clone());
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                let _notice = notice;
                run();
            });
        let thread = thread.map_err(|error| Failure::Spawn(name, error))?;
        self.running.push(Running {
            name,
            thread,
            pulse,
        });
        Ok(())
    }

    /// Watches the threads until the end is asked for, and then waits for them a little longer
    /// than they allow themselves.
    ///
    /// # Errors
    /// A thread that ended by itself, or makes no progress for `stalled`.
    pub fn supervise(self, shutdown: &Shutdown, stalled: Duration) -> Result<(), Failure> {
        while !shutdown.requested() {
            crossbeam_channel::select! {
                recv(self.ended) -> name => {
                    if !shutdown.requested() {
                        return Err(Failure::Ended(name.unwrap_or_default()));
                    }
                }
                recv(shutdown.receiver()) -> _ => {}
                default(stalled / 10) => {}
            }
            if let Some(thread) = self
                .running
                .iter()
                .find(|thread| thread.pulse.age() >= stalled)
            {
                return Err(Failure::Stalled(thread.name, thread.pulse.age().as_secs()));
            }
        }
        self.join();
        Ok(())
    }

    fn join(self) {
        info!("stopping");
        let deadline = Instant::now() + GRACE + MARGIN;
        while self
            .running
            .iter()
            .any(|running| !running.thread.is_finished())
        {
            // A notice comes a moment before the thread has really ended.
            let wait = deadline.min(Instant::now() + Duration::from_millis(50));
            let news = self.ended.recv_deadline(wait);
            if news == Err(RecvTimeoutError::Timeout) && Instant::now() >= deadline {
                let late = self
                    .running
                    .iter()
                    .filter(|running| !running.thread.is_finished());
                let late: Vec<&str> = late.map(|running| running.name).collect();
                warn!(
                    "{} did not end in time; the cursor in Redis is what is confirmed",
                    late.join(", ")
                );
                return;
            }
        }
        for running in self.running {
            if running.thread.join().is_err() {
                error!("the thread {} panicked while stopping", running.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::shutdown;

    #[test]
    fn a_thread_that_panics_ends_the_service() {
        let (_trigger, shutdown) = shutdown::channel();
        let mut threads = Threads::default();
        threads
            .spawn("doomed", Pulse::default(), || panic!("on purpose"))
            .unwrap();
        let failure = threads.supervise(&shutdown, STALLED).unwrap_err();
        assert!(
            failure
                .to_string()
                .starts_with("the thread doomed ended unexpectedly")
        );
    }

    #[test]
    fn a_thread_without_progress_ends_the_service() {
        let (_trigger, shutdown) = shutdown::channel();
        let mut threads = Threads::default();
        let (_keep, forever) = bounded::<()>(0);
        let wait = forever.clone();
        threads
            .spawn("stuck", Pulse::default(), move || {
                let _ = wait.recv();
            })
            .unwrap();
        let failure = threads
            .supervise(&shutdown, Duration::from_millis(50))
            .unwrap_err();
        assert!(
            failure
                .to_string()
                .starts_with("the thread stuck has made no progress")
        );
    }

    #[test]
    fn threads_that_end_when_asked_are_joined() {
        let (trigger, shutdown) = shutdown::channel();
        let mut threads = Threads::default();
        let asked = shutdown.clone();
        threads
            .spawn(
                "obedient",
                Pulse::default(),
                move || while !asked.sleep(STALLED) {},
            )
            .unwrap();
        drop(trigger);
        assert!(threads.supervise(&shutdown, STALLED).is_ok());
    }
}
