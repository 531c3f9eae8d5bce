//! What the sockets of the library tell beside it, and how one is broken off: system calls, and
//! nothing of the library.

use std::ffi::c_int;
use std::io;

use super::line::How;

/// What the socket says, without taking anything from it.
pub fn end_of(socket: c_int) -> Option<How> {
    let mut byte = 0u8;
    // SAFETY: plain system call that writes at most one byte, to a variable of that size.
    let got = unsafe {
        libc::recv(
            socket,
            (&raw mut byte).cast(),
            1,
            libc::MSG_PEEK | libc::MSG_DONTWAIT,
        )
    };
    match got {
        0 => Some(How::Closed),
        1.. => None,
        _ => match io::Error::last_os_error().kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => None,
            io::ErrorKind::ConnectionReset => Some(How::Reset),
            kind => Some(How::Network(kind)),
        },
    }
}

/// Whether the other side has received all that the socket was given. `reset`: the socket was
/// reset, which may have come before the last acknowledgement.
pub fn is_received(socket: c_int, reset: bool) -> bool {
    let (mut queued, mut segment): (c_int, c_int) = (0, 0);
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: plain system calls that write one integer each, to variables of that size.
    unsafe {
        if libc::ioctl(socket, libc::TIOCOUTQ, &raw mut queued) != 0 {
            return false;
        }
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_MAXSEG,
            (&raw mut segment).cast(),
            &raw mut length,
        );
    }
    // A receiver may keep back its acknowledgement for one of two segments.
    let unacknowledged = if reset { 2 * segment } else { 0 };
    queued <= unacknowledged
}

/// Bytes that both sides have received from each other so far, where the system tells.
pub fn moved(socket: c_int) -> Option<u64> {
    // `tcp_info` of Linux: eight small fields, 24 of four bytes, two rates, then what was
    // acknowledged and what was received.
    let mut info = [0u64; 17];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: plain system call that writes at most `length` bytes to a variable of that size.
    let result = unsafe {
        libc::getsockopt(
            socket,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let whole = result == 0 && length as usize == size_of_val(&info);
    whole.then(|| info[15].wrapping_add(info[16]))
}

/// Breaks a connection: to both sides it is an end that came from outside.
pub fn shut(socket: c_int) -> bool {
    // SAFETY: plain system call; the library changes its descriptors only under a lock that the
    // caller holds.
    unsafe { libc::shutdown(socket, libc::SHUT_RDWR) == 0 }
}
