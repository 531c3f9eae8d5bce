//! The way to a TCP connection, for both servers.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

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
