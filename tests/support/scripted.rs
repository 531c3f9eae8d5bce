//! A broker that does what a test says, in both versions of MQTT, and keeps what arrives.
//!
//! It is honest until it is told otherwise:
//! ```ignore
//! let broker = Scripted::start();
//! broker.on(Kind::Subscribe, Answer::Code(0x87));           // one kind of packet
//! broker.script(|packet| match (packet.kind, packet.nth) {  // or whatever a packet calls for
//!     (Kind::Connect, _) if packet.version == 5 => Answer::Nothing,
//!     (Kind::Publish, 0) => Answer::Many(vec![Answer::Honest, Answer::Close]),
//!     _ => Answer::Honest,
//! });
//! broker.be_honest();
//! ```
//! `message` and `packet::publish` make bytes for `Answer::Raw` and `Scripted::send`.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::packet::{self, connack, varint};
pub use super::packet::{Kind, Packet};

/// What to do about a packet.
#[derive(Clone)]
pub enum Answer {
    /// What a good broker answers.
    Honest,
    Nothing,
    /// The right packet with this code: for CONNECT, SUBSCRIBE (for each filter) and PUBLISH.
    /// PUBACK and the rest of MQTT 3.1.1 have no code, and are sent without.
    Code(u8),
    /// These bytes, whatever they are.
    Raw(Vec<u8>),
    /// Writes by itself: what is too large to be kept, or takes its time.
    Write(Arc<WriteTo>),
    /// Nothing else on this connection happens before.
    After(Duration, Box<Answer>),
    Many(Vec<Answer>),
    /// FIN.
    Close,
    /// RST.
    Reset,
}

impl Answer {
    pub fn after(delay: Duration, answer: Answer) -> Answer {
        Answer::After(delay, Box::new(answer))
    }

    pub fn write(
        write: impl Fn(&mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Answer {
        Answer::Write(Arc::new(write))
    }
}

type WriteTo = dyn Fn(&mut TcpStream) -> io::Result<()> + Send + Sync;
type Script = Box<dyn FnMut(&Packet) -> Answer + Send>;

struct Inner {
    script: Mutex<Option<Script>>,
    /// Properties of the CONNACK of MQTT 5.
    announced: Mutex<Vec<u8>>,
    seen: Mutex<Seen>,
    stop: AtomicBool,
}

#[derive(Default)]
struct Seen {
    packets: Vec<Packet>,
    connections: usize,
    /// Connections on which a packet has arrived.
    open: HashMap<usize, TcpStream>,
}

impl Inner {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct Scripted {
    pub port: u16,
    inner: Arc<Inner>,
    listeners: Vec<(SocketAddr, JoinHandle<()>)>,
}

impl Scripted {
    /// An honest broker on a free port of 127.0.0.1.
    pub fn start() -> Scripted {
        Scripted::at(&[Ipv4Addr::LOCALHOST.into()])
    }

    /// At several addresses, all with one port; `Packet::at` says which was used.
    pub fn at(addresses: &[IpAddr]) -> Scripted {
        for _ in 0..20 {
            let port = super::free_port();
            if let Some(broker) = Scripted::on_port(addresses, port) {
                return broker;
            }
        }
        panic!("no port is free at {addresses:?}");
    }

    /// `None`: the port is taken.
    pub fn on_port(addresses: &[IpAddr], port: u16) -> Option<Scripted> {
        let listeners: io::Result<Vec<TcpListener>> = addresses
            .iter()
            .map(|address| TcpListener::bind((*address, port)))
            .collect();
        let inner = Arc::new(Inner {
            script: Mutex::new(None),
            announced: Mutex::default(),
            seen: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let listen = |listener: TcpListener| {
            let address = listener.local_addr().expect("address");
            let inner = inner.clone();
            (address, thread::spawn(move || accept(&listener, &inner)))
        };
        let listeners = listeners.ok()?.into_iter().map(listen).collect();
        Some(Scripted {
            port,
            inner,
            listeners,
        })
    }

    /// Asks for each packet what to do, on all connections from now on.
    pub fn script(&self, script: impl FnMut(&Packet) -> Answer + Send + 'static) {
        *self.inner.script.lock().expect("script") = Some(Box::new(script));
    }

    /// Answers packets of one kind in this way and all others honestly.
    pub fn on(&self, kind: Kind, answer: Answer) {
        self.script(move |packet| match packet.kind {
            same if same == kind => answer.clone(),
            _ => Answer::Honest,
        });
    }

    pub fn be_honest(&self) {
        self.script(|_| Answer::Honest);
    }

    /// Properties of an honest CONNACK of MQTT 5, as bytes without their length.
    pub fn announce(&self, properties: &[u8]) {
        *self.inner.announced.lock().expect("announced") = properties.to_vec();
    }

    /// The largest packet that it says to take.
    pub fn announce_maximum_packet(&self, bytes: u32) {
        self.announce(&[&[0x27][..], &bytes.to_be_bytes()].concat());
    }

    /// Sends bytes now, on all open connections.
    pub fn send(&self, bytes: &[u8]) {
        for stream in self.inner.seen().open.values_mut() {
            drop(stream.write_all(bytes));
        }
    }

    /// Closes all open connections (FIN).
    pub fn cut(&self) {
        for (_, stream) in self.inner.seen().open.drain() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// TCP connections so far; one of the service's attempts makes two, of which one is empty.
    pub fn tcp_connections(&self) -> usize {
        self.inner.seen().connections
    }

    /// CONNECT packets so far.
    pub fn connects(&self) -> usize {
        self.count(Kind::Connect)
    }

    pub fn count(&self, kind: Kind) -> usize {
        let seen = self.inner.seen();
        seen.packets.iter().filter(|one| one.kind == kind).count()
    }

    /// All packets in the order of their arrival.
    pub fn packets(&self) -> Vec<Packet> {
        self.inner.seen().packets.clone()
    }

    /// All messages on a topic in the order of their arrival.
    pub fn messages(&self, topic: &str) -> Vec<Packet> {
        let seen = self.inner.seen();
        seen.packets
            .iter()
            .filter(|packet| packet.kind == Kind::Publish && packet.topic == topic)
            .cloned()
            .collect()
    }

    /// The IDs of all measurements that have arrived, repetitions included, whatever was
    /// answered.
    pub fn ids(&self) -> Vec<(u64, u64)> {
        let seen = self.inner.seen();
        seen.packets
            .iter()
            .filter(|packet| packet.kind == Kind::Publish && packet.topic.ends_with("/values"))
            .flat_map(|packet| super::receiver::ids_of(&packet.payload))
            .collect()
    }

    /// Forgets all packets, for tests that run long. The number of a packet goes on.
    pub fn forget(&self) {
        self.inner.seen().packets.clear();
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
        for (address, thread) in self.listeners.drain(..) {
            // Wakes it up.
            drop(TcpStream::connect(address));
            drop(thread.join());
        }
        self.cut();
    }
}

fn accept(listener: &TcpListener, inner: &Arc<Inner>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if inner.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut seen = inner.seen();
        let number = seen.connections;
        seen.connections += 1;
        drop(seen);
        let inner = inner.clone();
        thread::spawn(move || {
            drop(serve(stream, &inner, number));
            inner.seen().open.remove(&number);
        });
    }
}

/// Serves one connection to its end.
fn serve(mut stream: TcpStream, inner: &Inner, number: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let at = stream.local_addr()?;
    // The kinds of packets so far, and the version that the CONNECT has named.
    let (mut counts, mut version) = ([0; 16], 4);
    loop {
        let (first, body) = read_packet(&mut stream)?;
        let mut packet = Packet::decode(first, body, version);
        version = packet.version;
        packet.connection = number;
        packet.at = at;
        packet.nth = counts[usize::from(first >> 4)];
        counts[usize::from(first >> 4)] += 1;
        // The answer may be long in coming; whoever waits for the packet sees it before.
        let mut seen = inner.seen();
        seen.packets.push(packet.clone());
        if packet.kind == Kind::Connect {
            seen.open.insert(number, stream.try_clone()?);
        }
        drop(seen);
        let answer = match inner.script.lock().expect("script").as_mut() {
            Some(script) => script(&packet),
            None => Answer::Honest,
        };
        if !reply(&mut stream, inner, &packet, answer)? {
            return Ok(());
        }
    }
}

/// `false`: the connection is at its end.
fn reply(
    stream: &mut TcpStream,
    inner: &Inner,
    packet: &Packet,
    answer: Answer,
) -> io::Result<bool> {
    match answer {
        Answer::Honest if packet.kind == Kind::Disconnect => return Ok(false),
        Answer::Honest if packet.kind == Kind::Connect => {
            let announced = inner.announced.lock().expect("announced").clone();
            stream.write_all(&connack(packet.version, 0, &announced))?;
        }
        Answer::Honest => stream.write_all(&packet.answer(None))?,
        Answer::Nothing => {}
        Answer::Code(code) => stream.write_all(&packet.answer(Some(code)))?,
        Answer::Raw(bytes) => stream.write_all(&bytes)?,
        Answer::Write(write) => write(stream)?,
        Answer::After(delay, answer) => {
            thread::sleep(delay);
            return reply(stream, inner, packet, *answer);
        }
        Answer::Many(answers) => {
            for answer in answers {
                if !reply(stream, inner, packet, answer)? {
                    return Ok(false);
                }
            }
        }
        Answer::Close => {
            stream.shutdown(Shutdown::Both)?;
            return Ok(false);
        }
        Answer::Reset => {
            let at_once = Some(Duration::ZERO);
            rustix::net::sockopt::set_socket_linger(&*stream, at_once)?;
            // The last descriptor of the socket has to go.
            inner.seen().open.remove(&packet.connection);
            return Ok(false);
        }
    }
    Ok(true)
}

fn read_packet(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut first = [0];
    stream.read_exact(&mut first)?;
    let length = varint(|| {
        let mut byte = [0];
        stream.read_exact(&mut byte).map(|()| byte[0])
    })?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((first[0], body))
}

/// A message as an honest broker sends it, in the version of a connection. See
/// `packet::publish`.
pub fn message(version: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    packet::publish(version, topic.as_bytes(), payload, 0x32, 1)
}
