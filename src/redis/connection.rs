//! The connection to Redis: requests go out, and complete replies come in as they are.
//!
//! The library's own connection takes every reply apart into values. This one leaves that to
//! who asked, so that a page can be read in place; for everything else it is a connection of
//! the library like any other.

use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use ::redis::{ConnectionLike, RedisResult, Value};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::reply::{Scan, Walk};
use crate::net;

/// Room for replies that is set aside before they come: enough for the page of a usual list.
/// What is not needed of it is never touched, and costs nothing.
const ROOM: usize = 64 << 10;
/// Room is added in steps of at most this.
const MOST_MORE: usize = 1 << 20;
/// Behind a large string there is hardly more than the line ends of a small one.
const LINE_ENDS: usize = 256;

pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects. Everything on the connection is bounded by `timeout`: also a frozen server
    /// accepts connections.
    ///
    /// # Errors
    /// As the system gives them, of the last address that was tried.
    pub fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<Connection> {
        let no_address = || io::Error::new(ErrorKind::NotFound, "the name has no address");
        let stream = net::dial((host, port).to_socket_addrs()?, timeout)
            .unwrap_or_else(|| Err(no_address()))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Connection { stream })
    }

    /// Sends a request and gives the bytes of its replies, complete.
    ///
    /// # Errors
    /// As the system gives them; `FileTooLarge` as soon as the replies have more than `limit`
    /// bytes. The connection is of no use afterwards: the rest of the replies may still come.
    pub fn exchange(
        &mut self,
        request: &[u8],
        replies: usize,
        limit: usize,
    ) -> io::Result<Vec<u8>> {
        self.stream.write_all(request)?;
        let mut bytes = Vec::with_capacity(ROOM);
        let mut scan = Scan::new(replies);
        loop {
            if bytes.len() > limit {
                return Err(ErrorKind::FileTooLarge.into());
            }
            if bytes.len() == bytes.capacity() {
                // A large string has told its length, many small ones have not: doubling would take
                // up to twice of it.
                let more = (bytes.len() / 2).min(MOST_MORE);
                let room = scan.announced().unwrap_or(0).max(bytes.len() + more);
                bytes.reserve_exact(room + LINE_ENDS - bytes.len());
            }
            match rustix::io::read(&self.stream, spare_capacity(&mut bytes)) {
                Ok(0) => return Err(farewell(&bytes)),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            match scan.advance(&bytes) {
                Ok(None) => {}
                Ok(Some(end)) if end == bytes.len() => break,
                Ok(Some(_)) | Err(_) => {
                    return Err(io::Error::new(
                        ErrorKind::InvalidData,
                        "what answers there does not speak the protocol of Redis",
                    ));
                }
            }
        }
        Ok(bytes)
    }
}

/// Why the server has closed the connection: what it does not take for a client, it tells in one
/// line first.
fn farewell(last_words: &[u8]) -> io::Error {
    match last_words.strip_prefix(b"-") {
        Some(words) => {
            let words = String::from_utf8_lossy(words);
            io::Error::new(ErrorKind::ConnectionRefused, words.trim_end().to_string())
        }
        None => ErrorKind::UnexpectedEof.into(),
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        Walk::new(&self.exchange(command, 1, usize::MAX)?, 0).value()
    }

    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let replies = self.exchange(commands, offset + count, usize::MAX)?;
        let mut walk = Walk::new(&replies, 0);
        for _ in 0..offset {
            walk.value()?.extract_error()?;
        }
        (0..count).map(|_| walk.value()).collect()
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        ::redis::cmd("PING").query::<Value>(self).is_ok()
    }

    fn is_open(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{Shutdown, TcpListener};

    /// What a client hears of a server that says this and then nothing more.
    fn heard(said: &'static [u8]) -> io::Result<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(said)?;
            stream.shutdown(Shutdown::Write)?;
            // Until the client has gone, so that nothing is cut short.
            stream.read_to_end(&mut Vec::new())
        });
        let mut connection = Connection::connect("127.0.0.1", port, Duration::from_secs(60))?;
        let heard = connection.exchange(b"*1\r\n$4\r\nPING\r\n", 2, 50);
        drop(connection);
        drop(server.join());
        heard
    }

    #[test]
    fn complete_replies_are_given_as_they_are() {
        assert_eq!(
            heard(b"+OK\r\n:1\r\n").ok(),
            Some(b"+OK\r\n:1\r\n".to_vec())
        );
    }

    #[test]
    fn the_last_words_of_a_server_that_closes_are_the_reason() {
        let said = b"-ERR max number of clients reached\r\n";
        let reason = heard(said).map_err(|error| error.to_string());
        assert_eq!(reason, Err("ERR max number of clients reached".into()));
        let silent = heard(b"+OK\r\n").map_err(|error| error.kind());
        assert_eq!(silent, Err(ErrorKind::UnexpectedEof));
    }

    #[test]
    fn more_than_was_asked_for_is_no_reply() {
        let reason = heard(b"+OK\r\n+OK\r\n+OK\r\n").map_err(|error| error.kind());
        assert_eq!(reason, Err(ErrorKind::InvalidData));
    }

    #[test]
    fn what_is_larger_than_the_limit_is_not_read_to_its_end() {
        let said = b"$100\r\n01234567890123456789012345678901234567890123456789";
        let reason = heard(said).map_err(|error| error.kind());
        assert_eq!(reason, Err(ErrorKind::FileTooLarge));
    }
}
