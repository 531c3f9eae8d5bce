//! A subscriber on a second, independent MQTT library, with a session that survives restarts
//! of the broker.

use std::collections::HashSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

use super::wait_until;

/// A message as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub at: Instant,
}

#[derive(Default)]
struct Seen {
    messages: Vec<Arrived>,
    /// IDs of measurements in the order of their arrival, repetitions included.
    ids: Vec<(u64, u64)>,
    distinct: HashSet<(u64, u64)>,
}

pub struct Receiver {
    client: Client,
    options: MqttOptions,
    filters: Vec<String>,
    seen: Arc<Mutex<Seen>>,
    subscribed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Receiver {
    /// Subscribes to the filters with QoS 1; returns when the broker has acknowledged it.
    pub fn start(port: u16, filters: &[&str]) -> Receiver {
        Receiver::start_as(port, filters, None)
    }

    pub fn start_as(port: u16, filters: &[&str], credentials: Option<(&str, &str)>) -> Receiver {
        // Two of one name would take the connection from each other for ever.
        static NTH: AtomicUsize = AtomicUsize::new(0);
        let name = format!("receiver-{port}-{}", NTH.fetch_add(1, Ordering::Relaxed));
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        options
            .set_clean_session(false)
            .set_max_packet_size(200_000_000, 1_000_000)
            .set_keep_alive(Duration::from_secs(60));
        if let Some((name, password)) = credentials {
            options.set_credentials(name, password);
        }
        let seen = Arc::new(Mutex::new(Seen::default()));
        let subscribed = Arc::new(AtomicUsize::new(0));
        let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
        let (client, stop) = listen(
            options.clone(),
            filters.clone(),
            seen.clone(),
            subscribed.clone(),
        );
        let receiver = Receiver {
            client,
            options,
            filters,
            seen,
            subscribed,
            stop,
        };
        wait_until("the receiver has subscribed", || {
            receiver.subscribed() == receiver.filters.len()
        });
        receiver
    }

    /// Subscriptions that a broker has acknowledged so far: they are made again where it has lost
    /// the session.
    pub fn subscribed(&self) -> usize {
        self.subscribed.load(Ordering::Relaxed)
    }

    /// Goes on with the same session over a new connection: the broker then sends again what it
    /// still holds for it.
    pub fn resume(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        (self.client, self.stop) = listen(
            self.options.clone(),
            self.filters.clone(),
            self.seen.clone(),
            self.subscribed.clone(),
        );
    }

    /// Publishes a message of QoS 1, for commands.
    pub fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) {
        self.client
            .publish(topic, QoS::AtLeastOnce, retain, payload)
            .expect("publish");
    }

    /// All messages on a topic, in the order of their arrival.
    pub fn messages(&self, topic: &str) -> Vec<Arrived> {
        let seen = self.seen.lock().expect("seen");
        seen.messages
            .iter()
            .filter(|message| message.topic == topic)
            .cloned()
            .collect()
    }

    /// Replies to commands, as JSON.
    pub fn replies(&self) -> Vec<serde_json::Value> {
        let replies = self.messages("iot-projekt/device/u1/response");
        replies
            .iter()
            .map(|reply| serde_json::from_slice(&reply.payload).expect("JSON"))
            .collect()
    }

    /// Replies from this one on, counted from 0.
    pub fn replies_from(&self, first: usize) -> Vec<serde_json::Value> {
        let seen = self.seen.lock().expect("seen");
        let replies = seen.messages.iter();
        replies
            .filter(|message| message.topic == "iot-projekt/device/u1/response")
            .skip(first)
            .map(|reply| serde_json::from_slice(&reply.payload).expect("JSON"))
            .collect()
    }

    /// Messages of any kind so far.
    pub fn total_messages(&self) -> usize {
        self.seen.lock().expect("seen").messages.len()
    }

    /// Lists of measurements.
    pub fn lists(&self) -> Vec<Arrived> {
        self.messages("iot-projekt/device/u1/values")
    }

    pub fn ids(&self) -> Vec<(u64, u64)> {
        self.seen.lock().expect("seen").ids.clone()
    }

    /// `distinct` for another thread.
    pub fn counter(&self) -> impl Fn() -> usize + Send + 'static {
        let seen = self.seen.clone();
        move || seen.lock().expect("seen").distinct.len()
    }

    pub fn distinct(&self) -> usize {
        self.seen.lock().expect("seen").distinct.len()
    }

    pub fn total(&self) -> usize {
        self.seen.lock().expect("seen").ids.len()
    }

    /// Forgets payloads, for tests that run long. IDs are kept.
    pub fn forget_payloads(&self) {
        self.seen.lock().expect("seen").messages.clear();
    }
}

/// Collects what arrives until the flag is raised; counts acknowledged subscriptions.
fn listen(
    options: MqttOptions,
    filters: Vec<String>,
    seen: Arc<Mutex<Seen>>,
    subscribed: Arc<AtomicUsize>,
) -> (Client, Arc<AtomicBool>) {
    let (client, mut connection) = Client::new(options, 100);
    let subscriber = client.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    std::thread::spawn(move || {
        for event in connection.iter() {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            match event {
                Ok(Event::Incoming(Packet::Publish(publish))) => seen.lock().expect("seen").note(
                    publish.topic,
                    publish.payload.to_vec(),
                    publish.qos as u8,
                ),
                Ok(Event::Incoming(Packet::ConnAck(connack))) if !connack.session_present => {
                    for filter in &filters {
                        drop(subscriber.try_subscribe(filter, QoS::AtLeastOnce));
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    subscribed.fetch_add(1, Ordering::Relaxed);
                }
                Ok(_) => {}
                // The broker is away; the library connects again at the next turn.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    });
    (client, stop)
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(self.client.try_disconnect());
    }
}

impl Seen {
    fn note(&mut self, topic: String, payload: Vec<u8>, qos: u8) {
        if topic.ends_with("/values") {
            for id in ids_of(&payload) {
                self.ids.push(id);
                self.distinct.insert(id);
            }
        }
        self.messages.push(Arrived {
            topic,
            payload,
            qos,
            at: Instant::now(),
        });
    }
}

/// A list of measurements as it was before compression, if it is compressed.
pub fn unpacked(payload: &[u8]) -> Vec<u8> {
    let mut list = Vec::new();
    if payload.starts_with(&[0x1f, 0x8b]) {
        let mut members = flate2::read::MultiGzDecoder::new(payload);
        members.read_to_end(&mut list).expect("one gzip member");
    } else {
        list.extend_from_slice(payload);
    }
    list
}

/// The IDs in a list of measurements.
pub fn ids_of(payload: &[u8]) -> Vec<(u64, u64)> {
    #[derive(serde::Deserialize)]
    struct Measurement {
        _id: String,
    }
    let list = unpacked(payload);
    let list: Vec<Measurement> = serde_json::from_slice(&list).expect("a list of measurements");
    list.iter()
        .map(|measurement| {
            let (ms, seq) = measurement._id.split_once('-').expect("an ID");
            (
                ms.parse().expect("milliseconds"),
                seq.parse().expect("a sequence"),
            )
        })
        .collect()
}

/// The measurements in the order of their first arrival.
pub fn first_arrivals(ids: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut seen = HashSet::new();
    ids.iter().filter(|id| seen.insert(**id)).copied().collect()
}
