//! All that crosses the border to the C library beside its Rust binding.
//!
//! Five functions of the library are led through this file by the linker (see build.rs): the one
//! that opens a socket, the one that looks for what TLS has read already, the two that read and the
//! one that writes. They are internal ones and have no guarantee; hence the exact version in Cargo.toml. Read together with the library's
//! MQTTPacket.c (`MQTTPacket_Factory`), WebSocket.c, Socket.c and SSLSocket.c.
//!
//! All reading and writing happens under the global lock of the library, `mqttasync_mutex`, apart
//! from the rest of a packet that a socket took only in part.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use super::line::{How, Line};
use super::registry::{Entry, entries, line_at};
use super::{gate, socket};

/// `MQTTASYNC_TRACE_ERROR`
const TRACE_ERROR: c_int = 5;
const COMPLETE: c_int = 0;
const SOCKET_ERROR: c_int = -1;
/// `TCPSOCKET_INTERRUPTED`: not everything could be read or written.
const INTERRUPTED: c_int = -22;

/// The beginning of `networkHandles`: which socket a client has.
#[repr(C)]
pub struct Net {
    socket: c_int,
}

/// What follows the head of a packet.
#[repr(C)]
pub struct PacketBuffers {
    count: c_int,
    buffers: *mut *mut c_char,
    lengths: *mut usize,
    frees: *mut c_int,
    mask: [u8; 4],
}

unsafe extern "C" {
    fn MQTTAsync_setTraceLevel(level: c_int);

    /// Writes one byte to the socket pair on which the receiving thread polls. It does not
    /// block: that socket pair is drained at every turn.
    fn Socket_interrupt() -> c_int;
    fn Socket_noPendingWrites(socket: c_int) -> c_int;
    fn SSLSocket_addPendingRead(socket: c_int);
    fn MQTTPacket_send_pingreq(net: *mut Net, client: *const c_char) -> c_int;
    fn MQTTAsync_lock_mutex(mutex: *mut c_void);
    fn MQTTAsync_unlock_mutex(mutex: *mut c_void);
    static mqttasync_mutex: *mut c_void;
    static socket_mutex: *mut c_void;

    fn __real_Socket_new(
        address: *const c_char,
        length: usize,
        port: c_int,
        socket: *mut c_int,
        timeout: c_long,
    ) -> c_int;
    fn __real_SSLSocket_getPendingRead() -> c_int;
    fn __real_WebSocket_getch(net: *mut Net, byte: *mut c_char) -> c_int;
    fn __real_WebSocket_getdata(net: *mut Net, bytes: usize, actual: *mut usize) -> *mut c_char;
    fn __real_WebSocket_putdatas(
        net: *mut Net,
        head: *mut *mut c_char,
        head_length: *mut usize,
        rest: *mut PacketBuffers,
    ) -> c_int;
}

/// A line that the library may use as long as this lives. It has to end before the client does.
pub struct Registration {
    /// Stands in the place of the port, so that it is recognised when a socket is opened for it.
    pub number: c_int,
    line: Arc<Line>,
}

impl Registration {
    pub fn new(line: Arc<Line>) -> Registration {
        static NEXT: AtomicI32 = AtomicI32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) & c_int::MAX;
        entries().push(Entry {
            number,
            net: 0,
            line: line.clone(),
        });
        Registration { number, line }
    }

    /// Writes a PINGREQ. `false`: a packet is still being written, or the connection has ended.
    pub fn ping(&self) -> bool {
        self.with_socket(|net, socket| {
            // SAFETY: `with_socket` holds the lock under which the library writes, `net` is
            // alive, and the empty text that names the client only goes into a trace.
            is_written(socket) && unsafe { MQTTPacket_send_pingreq(net, c"".as_ptr()) } == COMPLETE
        })
    }

    /// Breaks the connection: the library takes it as an end that came from outside.
    pub fn cut(&self) {
        self.with_socket(|_, socket| socket::shut(socket));
    }

    /// Calls with the client's `Net` and its open socket, under the library's lock; `false`
    /// without a socket.
    fn with_socket(&self, act: impl FnOnce(*mut Net, c_int) -> bool) -> bool {
        let net = entries()
            .iter()
            .find(|entry| entry.number == self.number)
            .map_or(0, |entry| entry.net) as *mut Net;
        if net.is_null() {
            return false;
        }
        // SAFETY: the mutex exists from the first client on and is never replaced. `net` belongs
        // to the client that this registration was made for, which outlives it; its socket only
        // changes under this lock.
        unsafe {
            MQTTAsync_lock_mutex(mqttasync_mutex);
            let socket = (*net).socket;
            let result = socket > 0 && act(net, socket);
            MQTTAsync_unlock_mutex(mqttasync_mutex);
            result
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        entries().retain(|entry| !Arc::ptr_eq(&entry.line, &self.line));
    }
}

/// Whether the library has handed all of its packets to the socket.
fn is_written(socket: c_int) -> bool {
    // SAFETY: both exist from the first client on; this lock guards the list that is looked at.
    // The library, too, takes it inside of `mqttasync_mutex`, never the other way round.
    unsafe {
        MQTTAsync_lock_mutex(socket_mutex);
        let nothing_pending = Socket_noPendingWrites(socket) != 0;
        MQTTAsync_unlock_mutex(socket_mutex);
        nothing_pending
    }
}

/// Whether the other side has received everything. `reset`: see `socket::is_received`.
fn is_drained(socket: c_int, reset: bool) -> bool {
    socket::is_received(socket, reset) && is_written(socket)
}

/// Reads through `read`, and reports an end to the line.
///
/// # Safety
/// `net` is what the library has passed.
unsafe fn reading<T>(
    net: *mut Net,
    line: &Line,
    read: impl FnOnce() -> T,
    failed: impl FnOnce(&T) -> bool,
) -> T {
    // SAFETY: the library reads under its lock, where this field does not change.
    let socket = unsafe { (*net).socket };
    // Before: what a socket says of its end it says once.
    let seen = socket::end_of(socket);
    let result = read();
    if failed(&result) {
        // A TLS session may end while its socket stands.
        let how = seen
            .or_else(|| socket::end_of(socket))
            .unwrap_or(How::Closed);
        let reset = how == How::Reset;
        line.ends(how, is_drained(socket, reset));
    }
    result
}

/// Opens the socket of a client, to the address that its line has.
///
/// # Safety
/// Called by the library only, with its own arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_Socket_new(
    _name: *const c_char,
    _length: usize,
    number: c_int,
    socket: *mut c_int,
    timeout: c_long,
) -> c_int {
    let line = entries()
        .iter_mut()
        .find(|entry| entry.number == number)
        .map(|entry| {
            // The socket is the first field of the client's `Net`.
            entry.net = socket as usize;
            entry.line.clone()
        });
    let Some(line) = line else {
        // SAFETY: the library passes a place for the result.
        unsafe { *socket = SOCKET_ERROR };
        return SOCKET_ERROR;
    };
    let host = line.host();
    let port = c_int::from(line.address.port());
    // SAFETY: the function copies `length` bytes of the text, which lives until it returns.
    unsafe { __real_Socket_new(host.as_ptr().cast(), host.len(), port, socket, timeout) }
}

/// The socket of which TLS has read more than was asked for.
///
/// The receiving thread asks without the lock under which others take a socket from the same list,
/// when they close it: both would free the same element.
///
/// # Safety
/// Called by the library only.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_SSLSocket_getPendingRead() -> c_int {
    // SAFETY: the mutex exists from the first client on, and this thread runs from then on. It does
    // not hold the lock here, and takes it next in any case.
    unsafe {
        MQTTAsync_lock_mutex(mqttasync_mutex);
        let socket = __real_SSLSocket_getPendingRead();
        MQTTAsync_unlock_mutex(mqttasync_mutex);
        socket
    }
}

/// Reads one byte of the head of a packet.
///
/// # Safety
/// Called by the library only, with its own arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_WebSocket_getch(net: *mut Net, byte: *mut c_char) -> c_int {
    let Some(line) = line_at(net as usize) else {
        return SOCKET_ERROR;
    };
    // SAFETY: as in `reading`.
    let socket = unsafe { (*net).socket };
    if line.is_unanswered(Instant::now(), || socket::moved(socket)) {
        return SOCKET_ERROR;
    }
    // SAFETY: both pointers come from the library, which calls with valid ones.
    let result = unsafe {
        reading(
            net,
            &line,
            || __real_WebSocket_getch(net, byte),
            |result| *result != COMPLETE && *result != INTERRUPTED,
        )
    };
    if result != COMPLETE {
        line.head_again();
        return result;
    }
    // SAFETY: COMPLETE says that the byte was written.
    let byte = unsafe { *byte.cast::<u8>() };
    if line.head_byte(byte) {
        COMPLETE
    } else {
        SOCKET_ERROR
    }
}

/// Reads what follows the head of a packet. The library calls it once for each try, for 0 bytes
/// as well, and takes NULL as the end of the connection.
///
/// # Safety
/// Called by the library only, with its own arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_WebSocket_getdata(
    net: *mut Net,
    bytes: usize,
    actual: *mut usize,
) -> *mut c_char {
    let Some(line) = line_at(net as usize) else {
        return std::ptr::null_mut();
    };
    if bytes == 0 {
        // The gate has judged the packet with its head. This only clears the library's buffer.
        // SAFETY: the arguments are the library's own.
        let data = unsafe { __real_WebSocket_getdata(net, bytes, actual) };
        if line.tls {
            // The library asks OpenSSL for what lies behind a packet in the same record only where
            // the packet has a body. `poll` does not see it: so it reads once more.
            // SAFETY: the library reads under its lock, which guards this list.
            unsafe { SSLSocket_addPendingRead((*net).socket) };
        }
        return data;
    }
    // SAFETY: both pointers come from the library, which calls with valid ones.
    let data = unsafe {
        reading(
            net,
            &line,
            || __real_WebSocket_getdata(net, bytes, actual),
            |data| data.is_null(),
        )
    };
    // SAFETY: with a result, the number of bytes that it has so far is set.
    if data.is_null() || unsafe { *actual } < bytes {
        line.head_again();
        return data;
    }
    // SAFETY: the buffer has as many bytes as were asked for and are there now, and nobody
    // else reads or writes it before the library goes on.
    let body = unsafe { std::slice::from_raw_parts_mut(data.cast::<u8>(), bytes) };
    // SAFETY: as in `reading`.
    let socket = unsafe { (*net).socket };
    if line.is_half_written() && is_written(socket) {
        line.written(true);
    }
    if line.body(body, || is_drained(socket, false)) {
        return data;
    }
    // SAFETY: the library passes a place for the number.
    unsafe { *actual = 0 };
    std::ptr::null_mut()
}

/// Writes a packet.
///
/// # Safety
/// Called by the library only, with its own arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __wrap_WebSocket_putdatas(
    net: *mut Net,
    head: *mut *mut c_char,
    head_length: *mut usize,
    rest: *mut PacketBuffers,
) -> c_int {
    let line = line_at(net as usize);
    // SAFETY: the library passes a head of at least one byte.
    let first = unsafe { *(*head).cast::<u8>() };
    if let Some(line) = &line {
        // SAFETY: the library passes `count` buffers with their lengths, NULL for an empty one.
        // They are read before the library may free them.
        let parts: Vec<&[u8]> = unsafe {
            (0..usize::try_from((*rest).count).unwrap_or(0))
                .map(|index| {
                    let (data, length) = (*(*rest).buffers.add(index), *(*rest).lengths.add(index));
                    if data.is_null() {
                        &[]
                    } else {
                        std::slice::from_raw_parts(data.cast::<u8>(), length)
                    }
                })
                .collect()
        };
        line.sending(first, &parts);
    }
    // SAFETY: the arguments are the library's own.
    let result = unsafe { __real_WebSocket_putdatas(net, head, head_length, rest) };
    // SAFETY: as in `reading`.
    let socket = unsafe { (*net).socket };
    if let Some(line) = line {
        line.written(result == COMPLETE);
        if gate::kind(first) == gate::PINGREQ {
            line.is_unanswered(Instant::now(), || socket::moved(socket));
        }
        if result != COMPLETE && result != INTERRUPTED {
            let how = socket::end_of(socket).unwrap_or(How::NotWritten);
            line.ends(how, false);
        }
    }
    if result == SOCKET_ERROR && gate::kind(first) == gate::PUBLISH && first & 6 != 0 {
        // The library would free such a message twice: with the command that has failed, and with
        // the list of those that wait for their acknowledgement. So it takes it as written, and
        // finds the end of the connection where it reads, as of any that breaks.
        socket::shut(socket);
        return COMPLETE;
    }
    result
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
