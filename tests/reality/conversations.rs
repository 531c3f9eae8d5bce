//! The same conversation with a real Mosquitto and with the broker in memory, and what the link
//! is told on either side: without the times, and without the words for people.

use std::time::{Duration, Instant};

use mqtt_handler::config::Config;
use mqtt_handler::link::{Attempt, Input, NotSubscribed};
use mqtt_handler::model::message::{Message, Protocol};
use mqtt_handler::mqtt::{Broker, Connection};
use tempfile::TempDir;

use crate::broker::{Limit, Speaks};
use crate::schedule::{Fault, Plan};
use crate::support::{Mosquitto, signal, wait_until};
use crate::world::World;

/// What is done with the broker.
#[derive(Clone, Copy, Debug)]
enum Do {
    Connect,
    Subscribe,
    /// A message of so many bytes to the topic of the measurements; what befalls the broker
    /// when the message has arrived there.
    Publish(usize, Option<Deed>),
    Befalls(Deed),
    /// Waits for the end of the connection.
    Ends,
    Close,
}

/// What befalls the broker.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// kill -9
    Killed,
    /// SIGTERM
    Stopped,
    StartsAgain,
    Frozen,
    Thawed,
    /// Another client takes the same client ID.
    Kicks,
}

/// How the broker is set up on both sides.
#[derive(Clone, Copy, Default)]
struct Rules {
    bad_password: bool,
    forbids: bool,
    limit: Option<Limit>,
}

/// For an answer that comes, and for one that does not.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(1);
/// Mosquitto takes none that is shorter than a second, and the library looks every few.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

fn attempt(protocol: Protocol, frozen: bool) -> Attempt {
    Attempt {
        protocol,
        keep_alive: KEEP_ALIVE,
        patience: patience(frozen),
        will: false,
    }
}

fn patience(frozen: bool) -> Duration {
    if frozen { SHORT } else { PATIENCE }
}

fn list(bytes: usize) -> Message {
    Message::list("values", vec![b'x'; bytes])
}

/// What an input says, without words.
fn said(input: &Input) -> String {
    match input {
        Input::Connected { maximum_packet, .. } => {
            format!("connected, at most {maximum_packet:?}")
        }
        Input::NotConnected(why) => format!("not connected: {:?}", why.kind),
        Input::Subscribed(Ok(())) => "subscribed".into(),
        Input::Subscribed(Err(NotSubscribed::Refused(_))) => "not subscribed: refused".into(),
        Input::Subscribed(Err(NotSubscribed::Silent)) => "not subscribed: silent".into(),
        Input::SubscribedLate { filter, result } => format!("{filter} late: {result:?}"),
        Input::Subscribed(Err(NotSubscribed::Ended(ended))) => {
            format!("not subscribed: ended by {:?}", ended.by)
        }
        Input::Published(Ok(())) => "published".into(),
        Input::Published(Err(why)) => format!("not published: {:?}", why.cause),
        Input::Ended(ended) => format!("ended by {:?}", ended.by),
        other => format!("{other:?}"),
    }
}

struct Real {
    mosquitto: Mosquitto,
    broker: Broker,
    protocol: Protocol,
    connection: Option<Connection>,
    frozen: bool,
    /// The end of this connection was told.
    told: bool,
    heard: Vec<String>,
}

fn mosquitto(rules: Rules) -> Mosquitto {
    let folder: TempDir = tempfile::tempdir().expect("folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
    let mut extra = String::new();
    if rules.bad_password {
        write("passwords", "").expect("passwords");
        extra += "allow_anonymous false\npassword_file {folder}/passwords\n";
    }
    if rules.forbids {
        write("acl", "topic read #\n").expect("acl");
        extra += "acl_file {folder}/acl\n";
    }
    match rules.limit {
        Some(Limit::Announced(bytes)) => extra += &format!("max_packet_size {bytes}\n"),
        Some(Limit::Refuses(bytes)) => extra += &format!("message_size_limit {bytes}\n"),
        _ => {}
    }
    Mosquitto::start_in(folder, &extra)
}

impl Real {
    fn new(protocol: Protocol, rules: Rules) -> Real {
        let mosquitto = mosquitto(rules);
        let variables = |name: &str| match name {
            "MQTT_HOST" => Some("127.0.0.1".to_string()),
            "MQTT_PORT" => Some(mosquitto.port.to_string()),
            "MQTT_CLIENT_ID" => Some("device".into()),
            "MQTT_USERNAME" => rules.bad_password.then(|| "device".into()),
            "MQTT_PASSWORD" => rules.bad_password.then(|| "wrong".into()),
            _ => None,
        };
        let config = Config::parse("", "", variables);
        let config = config.unwrap_or_else(|faults| panic!("{faults:?}"));
        Real {
            broker: Broker::new(&config.mqtt, None, 1024),
            mosquitto,
            protocol,
            connection: None,
            frozen: false,
            told: false,
            heard: Vec::new(),
        }
    }

    /// As the publisher does it: an end that has come meanwhile is told first.
    fn tell(&mut self, input: Option<Input>) {
        let ended = self.connection.as_ref().and_then(Connection::ended);
        if let Some(ended) = ended.filter(|_| !self.told) {
            self.heard.push(said(&Input::Ended(ended.clone())));
            self.told = true;
        }
        self.heard.extend(input.as_ref().map(said));
    }

    fn does(&mut self, step: Do) {
        let input = match step {
            Do::Connect => {
                let attempt = attempt(self.protocol, self.frozen);
                self.told = false;
                Some(match self.broker.connect(&attempt, |_| {}, || false) {
                    Ok(connection) => {
                        let connected = Input::Connected {
                            maximum_packet: connection.maximum_packet(),
                            retains: connection.retains(),
                        };
                        self.connection = Some(connection);
                        connected
                    }
                    Err(why) => Input::NotConnected(why),
                })
            }
            Do::Subscribe => {
                let connection = self.connection.as_ref().expect("a connection");
                let result = connection.subscribe("all", patience(self.frozen), || false);
                Some(Input::Subscribed(result))
            }
            Do::Publish(bytes, deed) => Some(self.publish(bytes, deed)),
            Do::Befalls(deed) => {
                self.befalls(deed);
                None
            }
            Do::Ends => {
                let connection = self.connection.as_ref().expect("a connection");
                wait_until("the connection has ended", || connection.ended().is_some());
                None
            }
            Do::Close => {
                if let Some(connection) = self.connection.take() {
                    connection.close();
                }
                None
            }
        };
        self.tell(input);
    }

    fn publish(&mut self, bytes: usize, deed: Option<Deed>) -> Input {
        let connection = self.connection.take().expect("a connection");
        let time = patience(self.frozen && deed.is_none());
        // It is asked after each slice of waiting: by the fourth the message has long arrived.
        let mut asked = 0;
        let result = connection.publish(list(bytes), time, || {
            asked += 1;
            if let Some(deed) = deed.filter(|_| asked == 4) {
                self.befalls(deed);
            }
            false
        });
        while let Some((filter, result)) = connection.subscribed_late() {
            let late = Input::SubscribedLate { filter, result };
            self.heard.push(said(&late));
        }
        self.connection = Some(connection);
        Input::Published(result)
    }

    fn befalls(&mut self, deed: Deed) {
        match deed {
            Deed::Killed => signal("KILL", self.mosquitto.pid()),
            Deed::Stopped => self.mosquitto.stop(),
            Deed::StartsAgain => self.mosquitto.start_again(),
            Deed::Frozen => self.mosquitto.freeze(),
            Deed::Thawed => self.mosquitto.thaw(),
            Deed::Kicks => {
                let attempt = attempt(self.protocol, false);
                let other = self.broker.connect(&attempt, |_| {}, || false);
                other.expect("the other client is connected").close();
            }
        }
        self.frozen = matches!(deed, Deed::Frozen);
    }
}

struct Simulated {
    world: World,
    protocol: Protocol,
    frozen: bool,
}

impl Simulated {
    fn new(protocol: Protocol, rules: Rules) -> Simulated {
        let mut plan = Plan::new(1);
        plan.faults.clear();
        plan.setup.speaks = Speaks::Five;
        plan.setup.limit = rules.limit.unwrap_or(Limit::None);
        plan.setup.subscription_manner = None;
        let mut world = World::new(plan, false);
        world.broker.mood.bad_credentials = u32::from(rules.bad_password);
        world.broker.mood.forbids_values = u32::from(rules.forbids);
        Simulated {
            world,
            protocol,
            frozen: false,
        }
    }

    /// Lets the world go on until then.
    fn until(&mut self, done: impl Fn(&World) -> bool) {
        let end = self.world.now + Duration::from_secs(600);
        while !done(&self.world) {
            let (at, event) = self.world.queue.pop().expect("something happens");
            assert!(at < end, "it never happens");
            self.world.now = at;
            self.world.dispatch(event);
        }
    }

    fn does(&mut self, step: Do) {
        match step {
            Do::Connect => {
                let attempt = attempt(self.protocol, self.frozen);
                self.world.connect(attempt);
            }
            Do::Subscribe => self.world.subscribe("all".into(), patience(self.frozen)),
            Do::Publish(bytes, deed) => {
                let time = patience(self.frozen && deed.is_none());
                self.world.publish(&list(bytes), time, true);
                if let Some(deed) = deed {
                    self.until(|world| !world.broker.stalled.is_empty());
                    self.befalls(deed);
                }
            }
            Do::Befalls(deed) => self.befalls(deed),
            Do::Ends => {
                let before = self.world.client.heard.len();
                self.until(|world| world.client.heard.len() > before);
            }
            Do::Close => self.world.close(),
        }
        self.until(|world| world.client.operation.is_none());
    }

    fn befalls(&mut self, deed: Deed) {
        let kill = Fault::BrokerRestarts { gently: false };
        match deed {
            Deed::Killed => self.world.begin_fault(kill, 0),
            Deed::Stopped => {
                let stop = Fault::BrokerRestarts { gently: true };
                self.world.begin_fault(stop, 0);
            }
            Deed::StartsAgain => {
                // What was frozen is a new process now.
                self.world.broker.mood.frozen = 0;
                self.world.end_fault(kill);
            }
            Deed::Frozen => self.world.begin_fault(Fault::BrokerFrozen, 0),
            Deed::Thawed => self.world.end_fault(Fault::BrokerFrozen),
            Deed::Kicks => self.world.begin_fault(Fault::BrokerKicks, 0),
        }
        self.frozen = matches!(deed, Deed::Frozen);
    }
}

/// Holds the conversation on both sides, and returns what was heard.
fn converse(protocol: Protocol, rules: Rules, steps: &[Do]) -> Vec<String> {
    let mut real = Real::new(protocol, rules);
    let mut simulated = Simulated::new(protocol, rules);
    let begun = Instant::now();
    for step in steps {
        real.does(*step);
        simulated.does(*step);
    }
    let heard: Vec<String> = simulated.world.client.heard.iter().map(said).collect();
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(heard, real.heard, "{protocol}: {steps:?} in {seconds:.1} s");
    heard
}

const BOTH: [Protocol; 2] = [Protocol::V5, Protocol::V311];

#[test]
fn a_broker_that_takes_everything() {
    use Do::{Close, Connect, Publish, Subscribe};
    for protocol in BOTH {
        let steps = [
            Connect,
            Subscribe,
            Publish(100, None),
            Publish(30_000, None),
            Close,
            Connect,
            Publish(100, None),
        ];
        let heard = converse(protocol, Rules::default(), &steps);
        assert_eq!(heard[0], "connected, at most None");
    }
}

#[test]
fn a_broker_that_refuses_the_password() {
    let rules = Rules {
        bad_password: true,
        ..Rules::default()
    };
    for protocol in BOTH {
        let heard = converse(protocol, rules, &[Do::Connect, Do::Connect]);
        assert_eq!(heard, ["not connected: NeedsPerson"; 2]);
    }
}

#[test]
fn a_broker_that_forbids_the_topic() {
    let rules = Rules {
        forbids: true,
        ..Rules::default()
    };
    let steps = [Do::Connect, Do::Publish(100, None), Do::Publish(100, None)];
    let heard = converse(Protocol::V5, rules, &steps);
    assert_eq!(heard[1..], ["not published: RefusesAll"; 2]);
    let heard = converse(Protocol::V311, rules, &steps);
    assert_eq!(heard[1..], ["published"; 2], "it says nothing");
}

#[test]
fn a_broker_with_a_limit() {
    let steps = [Do::Connect, Do::Publish(100, None), Do::Publish(2000, None)];
    let announced = Rules {
        limit: Some(Limit::Announced(1000)),
        ..Rules::default()
    };
    let heard = converse(Protocol::V5, announced, &steps[..2]);
    assert_eq!(heard, ["connected, at most Some(1000)", "published"]);
    let heard = converse(Protocol::V311, announced, &steps);
    assert_eq!(heard[2..], ["ended by Broker", "not published: Closed"]);
    let refuses = Rules {
        limit: Some(Limit::Refuses(1000)),
        ..Rules::default()
    };
    let heard = converse(Protocol::V5, refuses, &steps);
    assert_eq!(heard[2..], ["not published: TooLarge { limit: None }"]);
}

#[test]
fn a_broker_that_is_killed() {
    use Deed::{Frozen, Killed, StartsAgain};
    use Do::{Befalls, Close, Connect, Ends, Publish};
    for protocol in BOTH {
        let steps = [
            Connect,
            Befalls(Killed),
            Ends,
            Close,
            Connect,
            Befalls(StartsAgain),
            Connect,
            Publish(100, None),
            Befalls(Frozen),
            Publish(100, Some(Killed)),
        ];
        let heard = converse(protocol, Rules::default(), &steps);
        assert_eq!(heard[5..], ["ended by Broker", "not published: Closed"]);
    }
}

#[test]
fn a_broker_that_stops_or_prefers_another_client() {
    use Do::{Befalls, Close, Connect, Ends};
    for protocol in BOTH {
        for deed in [Deed::Stopped, Deed::Kicks] {
            let steps = [Connect, Befalls(deed), Ends, Close];
            converse(protocol, Rules::default(), &steps);
        }
    }
}

#[test]
fn a_broker_that_is_frozen() {
    use Deed::{Frozen, Thawed};
    use Do::{Befalls, Close, Connect, Ends, Publish, Subscribe};
    for protocol in BOTH {
        let steps = [Connect, Befalls(Frozen), Publish(100, Some(Thawed))];
        converse(protocol, Rules::default(), &steps);
        let steps = [Connect, Befalls(Frozen), Publish(100, None), Close];
        let heard = converse(protocol, Rules::default(), &steps);
        assert_eq!(heard[1..], ["not published: Silent { answers: false }"]);
        let steps = [Connect, Befalls(Frozen), Subscribe, Close, Connect];
        converse(protocol, Rules::default(), &steps);
        let steps = [
            Connect,
            Befalls(Frozen),
            Subscribe,
            Befalls(Thawed),
            Publish(100, None),
        ];
        let heard = converse(protocol, Rules::default(), &steps);
        assert_eq!(heard[2..], ["all late: Ok(())", "published"]);
        let steps = [Connect, Befalls(Frozen), Ends];
        converse(protocol, Rules::default(), &steps);
    }
}
