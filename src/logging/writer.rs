//! The way to stderr, which may be a full pipe or a stopped terminal.
//!
//! A thread of its own writes, and it alone may hang. Whoever logs puts a line into a bounded
//! queue and goes on; what finds it full is dropped and counted, and the number is told as soon
//! as lines can be written again, in the place where they are missing.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Lines that wait, each of at most 1000 bytes.
const QUEUE: usize = 1024;
/// Before a descriptor that takes nothing now, or nothing at all, is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a wait for the queue to become empty looks.
const LOOK: Duration = Duration::from_millis(5);

/// A line, and how many were dropped just before it.
struct Entry {
    missing: u64,
    line: Vec<u8>,
}

/// Counts since the start.
#[derive(Default)]
struct Counts {
    /// Dropped and not yet told.
    missing: AtomicU64,
    queued: AtomicU64,
    /// Written, or given up.
    done: AtomicU64,
}

/// Where lines are put.
pub struct Queue {
    entries: Sender<Entry>,
    counts: Arc<Counts>,
}

/// Makes a line of the number of lines that are missing.
type Tell = Box<dyn Fn(u64) -> Vec<u8> + Send>;

impl Queue {
    /// Starts the thread. Without it, which only a system without room for a thread brings
    /// about, every line is dropped.
    pub fn start(to: impl Write + Send + 'static, tell: Tell) -> Queue {
        let (entries, queue) = bounded(QUEUE);
        let counts = Arc::new(Counts::default());
        let writer = Writer {
            to,
            queue,
            counts: counts.clone(),
            tell,
            broken: false,
        };
        drop(
            std::thread::Builder::new()
                .name("log".into())
                .spawn(move || writer.run()),
        );
        Queue { entries, counts }
    }

    /// Never blocks.
    pub fn put(&self, line: Vec<u8>) {
        let missing = self.counts.missing.swap(0, Ordering::Relaxed);
        self.counts.queued.fetch_add(1, Ordering::Relaxed);
        if self.entries.try_send(Entry { missing, line }).is_err() {
            self.counts.queued.fetch_sub(1, Ordering::Relaxed);
            self.counts
                .missing
                .fetch_add(missing + 1, Ordering::Relaxed);
        }
    }

    /// Waits until all is written, as long as it goes on: at most `pause` without a line that
    /// is written, and `limit` in all.
    pub fn drain(&self, pause: Duration, limit: Duration) {
        let begun = Instant::now();
        let (mut done, mut since) = (self.counts.done.load(Ordering::Relaxed), begun);
        while done < self.counts.queued.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            let now = self.counts.done.load(Ordering::Relaxed);
            if now != done {
                (done, since) = (now, Instant::now());
            }
            if since.elapsed() >= pause || begun.elapsed() >= limit {
                return;
            }
        }
    }
}

struct Writer<W> {
    to: W,
    queue: Receiver<Entry>,
    counts: Arc<Counts>,
    tell: Tell,
    /// The last line ended in the middle.
    broken: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        while let Ok(entry) = self.queue.recv() {
            self.tell(entry.missing);
            if !self.write(&entry.line) {
                self.counts.missing.fetch_add(1, Ordering::Relaxed);
            }
            if self.queue.is_empty() {
                // What was dropped meanwhile is told now, not with the next event.
                let missing = self.counts.missing.swap(0, Ordering::Relaxed);
                self.tell(missing);
            }
            self.counts.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn tell(&mut self, missing: u64) {
        if missing > 0 && !self.write(&(self.tell)(missing)) {
            self.counts.missing.fetch_add(missing, Ordering::Relaxed);
        }
    }

    /// Writes a line to its end, however long it takes; whether that was possible.
    fn write(&mut self, line: &[u8]) -> bool {
        if self.broken && !self.write_all(b"\n") {
            return false;
        }
        self.broken = false;
        self.write_all(line)
    }

    fn write_all(&mut self, mut rest: &[u8]) -> bool {
        let whole = rest.len();
        while !rest.is_empty() {
            match self.to.write(rest) {
                Ok(written) if written > 0 => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody who shares the descriptor has made it so.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
                _ => {
                    self.broken |= rest.len() < whole;
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;

    /// Takes three bytes at a time, and nothing while it is held.
    #[derive(Clone, Default)]
    struct Slow {
        taken: Arc<Mutex<Vec<u8>>>,
        calls: u64,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls % 3 == 0 {
                return Err(ErrorKind::Interrupted.into());
            }
            let some = &bytes[..bytes.len().min(3)];
            self.taken.lock().unwrap().extend_from_slice(some);
            Ok(some.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Fails once in the middle of a line.
    #[derive(Default)]
    struct Full {
        calls: u64,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls {
                1 => {
                    self.taken.lock().unwrap().extend_from_slice(&bytes[..2]);
                    Ok(2)
                }
                2 => Err(ErrorKind::StorageFull.into()),
                _ => {
                    self.taken.lock().unwrap().extend_from_slice(bytes);
                    Ok(bytes.len())
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tell() -> Tell {
        Box::new(|missing| format!("{missing} missing\n").into_bytes())
    }

    #[test]
    fn lines_come_whole_and_in_order_and_the_missing_ones_are_counted_in_their_place() {
        let to = Slow::default();
        let (taken, held) = (to.taken.clone(), to.taken.clone());
        let queue = Queue::start(to, tell());
        let guard = held.lock().unwrap();
        for n in 0..3000 {
            queue.put(format!("line {n}\n").into_bytes());
        }
        drop(guard);
        queue.drain(Duration::from_secs(10), Duration::from_secs(60));
        queue.put(b"the end\n".to_vec());
        queue.drain(Duration::from_secs(10), Duration::from_secs(60));
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        let mut next = 0;
        for line in text.lines() {
            if let Some(number) = line.strip_prefix("line ") {
                assert_eq!(number.parse(), Ok(next));
                next += 1;
            } else if let Some(missing) = line.strip_suffix(" missing") {
                next += missing.parse::<u64>().unwrap();
            } else {
                assert_eq!((line, next), ("the end", 3000));
            }
        }
        assert!(text.contains("missing\n") && text.ends_with("the end\n"));
    }

    #[test]
    fn nobody_waits_for_a_line_that_is_never_taken() {
        let to = Slow::default();
        let held = to.taken.clone();
        let queue = Queue::start(to, tell());
        let _guard = held.lock().unwrap();
        queue.put(b"x\n".to_vec());
        let begun = Instant::now();
        queue.drain(Duration::from_millis(50), Duration::from_secs(60));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_line_after_a_broken_one_begins_at_the_margin() {
        let to = Full::default();
        let taken = to.taken.clone();
        let queue = Queue::start(to, tell());
        queue.put(b"broken\n".to_vec());
        queue.drain(Duration::from_secs(10), Duration::from_secs(60));
        queue.put(b"whole\n".to_vec());
        queue.drain(Duration::from_secs(10), Duration::from_secs(60));
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("br\n"), "{text}");
        assert!(
            text.contains("\nwhole\n") && text.contains("1 missing\n"),
            "{text}"
        );
    }
}
