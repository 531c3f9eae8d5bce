//! TLS in front of a server that has none: what it writes at once goes out in one record.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod, SslStream};

use super::certificates::Certificates;

/// So long one direction is listened to before it is the other one's turn.
const TURN: Duration = Duration::from_millis(5);

/// Takes connections for a port of this machine, as `localhost`; gives its own port. It lives as
/// long as the test.
pub fn start(certificates: &Certificates, to: u16) -> u16 {
    listen(certificates, move |outside| {
        outside
            .get_ref()
            .set_read_timeout(Some(TURN))
            .expect("time-out");
        let inside = TcpStream::connect(("127.0.0.1", to)).expect("server");
        inside.set_read_timeout(Some(TURN)).expect("time-out");
        relay(outside, inside);
    })
}

/// Takes connections as `localhost`, and serves each in a thread of its own; gives its port.
pub fn listen(
    certificates: &Certificates,
    serve: impl Fn(SslStream<TcpStream>) + Copy + Send + 'static,
) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("TLS");
    acceptor
        .set_private_key_file(certificates.path("good.key"), SslFiletype::PEM)
        .and_then(|()| acceptor.set_certificate_chain_file(certificates.path("good.pem")))
        .expect("certificate");
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let acceptor = acceptor.clone();
            std::thread::spawn(move || {
                if let Ok(stream) = acceptor.accept(stream) {
                    serve(stream);
                }
            });
        }
    });
    port
}

fn relay(mut outside: impl Read + Write, mut inside: impl Read + Write) {
    while pass(&mut outside, &mut inside) && pass(&mut inside, &mut outside) {}
}

/// `false`: one side has ended.
fn pass(from: &mut impl Read, to: &mut impl Write) -> bool {
    let mut piece = [0; 1 << 16];
    match from.read(&mut piece) {
        Ok(0) => false,
        Ok(count) => to.write_all(&piece[..count]).is_ok(),
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}
