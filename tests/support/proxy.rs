//! A TCP proxy between the service and a server that can do what networks do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What the proxy does with bytes and connections, changed at any time.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// New connections are closed at once.
    pub refuse: bool,
    /// Bytes towards the server disappear.
    pub swallow_up: bool,
    /// Bytes towards the service disappear.
    pub swallow_down: bool,
    /// Bytes are held back for so long, in both directions.
    pub latency: Duration,
    /// Bytes a second towards the server; 0: no limit.
    pub rate: usize,
    /// A connection is cut so long after it was made.
    pub cut_after: Option<Duration>,
    /// A connection is cut after so many bytes towards the server.
    pub cut_after_bytes: Option<u64>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    open: Mutex<Vec<TcpStream>>,
    accepted: AtomicU64,
    /// So many connections are still to be cut at their first byte.
    to_be_cut: AtomicU64,
    recorded: Mutex<Option<Vec<u8>>>,
    passed: AtomicU64,
    stop: AtomicBool,
}

pub struct Proxy {
    pub port: u16,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Passes everything on to a port of this machine.
    pub fn start(to: u16) -> Proxy {
        Proxy::listening(TcpListener::bind("127.0.0.1:0").expect("bind"), to)
    }

    /// The same on a given socket.
    pub fn listening(listener: TcpListener, to: u16) -> Proxy {
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            behaviour: Mutex::default(),
            open: Mutex::default(),
            accepted: AtomicU64::new(0),
            to_be_cut: AtomicU64::new(0),
            recorded: Mutex::new(None),
            passed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let with = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if with.stop.load(Ordering::Relaxed) {
                    return;
                }
                with.accepted.fetch_add(1, Ordering::Relaxed);
                if !with.behaviour().refuse {
                    relay(stream, to, &with);
                }
            }
        });
        Proxy {
            port: address.port(),
            address,
            shared,
        }
    }

    pub fn set(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().expect("behaviour") = behaviour;
    }

    /// Back to passing everything on at once.
    pub fn heal(&self) {
        self.set(Behaviour::default());
    }

    /// Cuts all connections now.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().expect("open").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Cuts the next connections, so many, at their first byte towards the server.
    pub fn cut_next(&self, count: u64) {
        self.shared.to_be_cut.store(count, Ordering::Relaxed);
    }

    /// Connections accepted so far, those that only look whether somebody listens included.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Bytes that have come, from both sides.
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Records from now on what goes towards the server.
    pub fn record(&self) {
        *self.shared.recorded.lock().expect("recorded") = Some(Vec::new());
    }

    pub fn recorded(&self) -> Vec<u8> {
        self.shared
            .recorded
            .lock()
            .expect("recorded")
            .clone()
            .unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.cut();
        drop(TcpStream::connect_timeout(
            &self.address,
            Duration::from_secs(1),
        ));
    }
}

impl Shared {
    fn behaviour(&self) -> Behaviour {
        self.behaviour.lock().expect("behaviour").clone()
    }

    fn takes_a_cut(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        self.to_be_cut
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }
}

fn relay(service: TcpStream, to: u16, shared: &Arc<Shared>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else {
        return;
    };
    drop(service.set_nodelay(true));
    drop(server.set_nodelay(true));
    let mut open = shared.open.lock().expect("open");
    open.retain(|stream| stream.peer_addr().is_ok());
    for (from, into, upward) in [(&service, &server, true), (&server, &service, false)] {
        if let (Ok(from), Ok(into), Ok(keep)) =
            (from.try_clone(), into.try_clone(), from.try_clone())
        {
            open.push(keep);
            let shared = shared.clone();
            std::thread::spawn(move || pump(from, into, upward, &shared));
        }
    }
}

/// Moves bytes in one direction. Latency is kept by a queue, so that it delays without
/// narrowing.
fn pump(mut from: TcpStream, into: TcpStream, upward: bool, shared: &Arc<Shared>) {
    let begun = Instant::now();
    let (queue, delayed) = crossbeam_channel::bounded::<(Instant, Vec<u8>)>(1024);
    let writer_shared = shared.clone();
    let mut writer_into = into.try_clone().expect("clone");
    let writer = std::thread::spawn(move || {
        for (read, bytes) in delayed {
            let latency = writer_shared.behaviour().latency;
            std::thread::sleep((read + latency).saturating_duration_since(Instant::now()));
            if writer_into.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 16 * 1024];
    let mut passed = 0u64;
    drop(from.set_read_timeout(Some(Duration::from_millis(20))));
    loop {
        let behaviour = shared.behaviour();
        let over = behaviour
            .cut_after
            .is_some_and(|time| begun.elapsed() >= time);
        let full = upward
            && behaviour
                .cut_after_bytes
                .is_some_and(|bytes| passed >= bytes);
        if over || full || shared.stop.load(Ordering::Relaxed) {
            break;
        }
        let room = match behaviour.cut_after_bytes {
            Some(bytes) if upward => usize::try_from(bytes - passed)
                .unwrap_or(buffer.len())
                .clamp(1, buffer.len()),
            _ if upward && behaviour.rate > 0 => (behaviour.rate / 50).clamp(1, buffer.len()),
            _ => buffer.len(),
        };
        let count = match from.read(&mut buffer[..room]) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                continue;
            }
            Err(_) => break,
        };
        if upward && passed == 0 && shared.takes_a_cut() {
            break;
        }
        passed += count as u64;
        shared.passed.fetch_add(count as u64, Ordering::Relaxed);
        if upward {
            if let Some(recorded) = shared.recorded.lock().expect("recorded").as_mut() {
                recorded.extend_from_slice(&buffer[..count]);
            }
            if behaviour.rate > 0 {
                std::thread::sleep(Duration::from_secs_f64(
                    count as f64 / behaviour.rate as f64,
                ));
            }
        }
        if (upward && behaviour.swallow_up) || (!upward && behaviour.swallow_down) {
            continue;
        }
        if queue
            .send((Instant::now(), buffer[..count].to_vec()))
            .is_err()
        {
            break;
        }
    }
    drop(queue);
    drop(writer.join());
    drop(from.shutdown(Shutdown::Both));
    drop(into.shutdown(Shutdown::Both));
}
