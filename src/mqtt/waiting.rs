//! Waiting for what the library has promised.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// How often to nudge while a confirmation is awaited: about as long as a line of 10 Mbit/s
/// takes for what the socket holds.
pub const NUDGE_EVERY: Duration = Duration::from_millis(50);
/// A packet up to this size goes into the buffer of any socket as a whole.
pub const UNDIVIDED: usize = 16 << 10;

/// Waits for what a token stands for, at most for `time`. The binding's own wait keeps a thread
/// for its timers, which wakes up for every message.
pub fn wait<Token: Future + Unpin>(token: &mut Token, time: Duration) -> Option<Token::Output> {
    let waker = Waker::from(Arc::new(Waiting(thread::current())));
    let mut context = Context::from_waker(&waker);
    let begun = Instant::now();
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *token).poll(&mut context) {
            return Some(output);
        }
        match time.checked_sub(begun.elapsed()) {
            Some(left) => thread::park_timeout(left),
            None => return None,
        }
    }
}

struct Waiting(Thread);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
