//! What the library can do and its Rust binding does not offer.

use std::ffi::c_int;
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

/// `MQTTASYNC_TRACE_ERROR`
const TRACE_ERROR: c_int = 5;

unsafe extern "C" {
    fn MQTTAsync_setTraceLevel(level: c_int);

    /// Writes one byte to the socket pair on which the receiving thread polls. It does not
    /// block: that socket pair is drained at every turn. No part of the API; without it the
    /// program does not link.
    fn Socket_interrupt() -> c_int;
}

/// Stops the library from writing a trace that nobody reads: by default it formats a line with
/// the local time for every packet, into a buffer in memory.
pub fn stop_trace() {
    // SAFETY: it sets two numbers of the library; no other thread has begun to use it yet.
    unsafe { MQTTAsync_setTraceLevel(TRACE_ERROR) };
}

/// Lets the library go on with what is half written, so that a slow line stays busy. A client
/// must exist.
///
/// When the socket takes only a part of a packet, the library writes the rest when its receiving
/// thread wakes up: at the next packet that arrives, or after a second. With one message in
/// flight nothing arrives, and a line of a few Mbit/s has long sent what the socket held.
pub fn nudge() {
    // SAFETY: the function takes nothing, and only sends on a socket that exists from the
    // first client to the end of the last one.
    unsafe { Socket_interrupt() };
}

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
