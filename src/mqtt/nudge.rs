//! Keeps a slow line busy.
//!
//! When the socket takes only a part of a packet, the library writes the rest when its receiving
//! thread wakes up: at the next packet that arrives, or after a second. With one message in
//! flight nothing arrives, and on a line of 1 Mbit/s that second is mostly spent idle. The
//! library has a way to wake that thread, for its own connects; it is no part of its API.

use std::ffi::c_int;
use std::time::Duration;

/// How often to nudge while a confirmation is awaited. What the socket holds lasts for longer
/// than this on any line that is slow enough to leave a packet half written.
pub const EVERY: Duration = Duration::from_millis(50);
/// A packet up to this size goes into the buffer of any socket as a whole.
pub const UNDIVIDED: usize = 16 << 10;

unsafe extern "C" {
    /// Writes one byte to the socket pair on which the receiving thread polls. It does not
    /// block: that socket pair is drained at every turn.
    fn Socket_interrupt() -> c_int;
}

/// Lets the library go on with what is half written. A client must exist.
pub fn nudge() {
    // SAFETY: the function takes nothing, and only sends on a socket that exists from the
    // first client to the end of the last one.
    unsafe { Socket_interrupt() };
}
