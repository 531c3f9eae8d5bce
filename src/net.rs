//! The way to a TCP connection, for both servers.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};

/// How often a wait looks whether it has become pointless.
pub const SLICE: Duration = Duration::from_millis(250);

/// Why no address of a host could be reached.
#[derive(Debug)]
pub enum Unreached {
    /// The name cannot be resolved.
    Name(io::Error),
    NoAddress,
    /// What the last address said.
    Refused(io::Error),
}

/// Connects to the first of the addresses of a host that answers, and gives each of them so much
/// time. The error is that of the last one; `None`: there are no addresses.
pub fn dial(
    addresses: impl Iterator<Item = SocketAddr>,
    timeout: Duration,
) -> Option<io::Result<TcpStream>> {
    let mut last = None;
    for address in addresses {
        let attempt = TcpStream::connect_timeout(&address, timeout);
        if attempt.is_ok() {
            return Some(attempt);
        }
        last = Some(attempt);
    }
    last
}

/// Resolves the name, tries its addresses one after the other, closes again, and says which one
/// has answered. Blocks as long as the resolver does.
///
/// # Errors
/// Why there is none.
pub fn reach(host: &str, port: u16, timeout: Duration) -> Result<SocketAddr, Unreached> {
    let addresses = (host, port).to_socket_addrs().map_err(Unreached::Name)?;
    match dial(addresses, timeout) {
        None => Err(Unreached::NoAddress),
        Some(stream) => stream
            .and_then(|stream| stream.peer_addr())
            .map_err(Unreached::Refused),
    }
}

/// Does work that may block for long on a thread of its own. `None`: it took longer than
/// `patience`, or `give_up`, which is asked at least four times a second, did not want to wait any
/// longer; the thread then ends by itself.
pub fn aside<T: Send + 'static>(
    patience: Duration,
    give_up: &mut dyn FnMut() -> bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = bounded(1);
    let begun = Instant::now();
    thread::Builder::new()
        .name("dial".into())
        // The receiver may have gone.
        .spawn(move || drop(sender.send(work())))
        .ok()?;
    loop {
        match receiver.recv_timeout(SLICE) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if give_up() || begun.elapsed() >= patience {
            return None;
        }
    }
}
