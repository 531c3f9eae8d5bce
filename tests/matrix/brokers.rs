//! The brokers: how each is installed and started, and what it can be told.
//!
//! Each has two users with the password `secret`: `backend` may do everything, `device` publishes
//! only below `iot-projekt`. Where a broker can limit packets, it takes 20,000 bytes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::site::Site;
use crate::support::certificates::Certificates;
use crate::support::free_port;

/// Bytes of the largest packet, where a broker can be told.
pub const LIMIT: usize = 20_000;

/// A broker and the way to it.
pub struct Broker {
    pub name: &'static str,
    /// What the service is to speak (`mqtt.version`).
    pub protocol: &'static str,
    pub way: Way,
    /// Installs it, and gives its version.
    pub install: fn(&Site) -> Result<String, String>,
    /// Writes what it reads at its start.
    pub prepare: fn(&Place) -> Result<(), String>,
    pub start: fn(&Place) -> Command,
    /// It takes `LIMIT` bytes and no more.
    pub limited: bool,
    /// It knows who may publish what.
    pub rules: bool,
}

/// Which port of a broker the service uses; everybody else uses the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    First,
    Second,
    /// The second one, with TLS.
    Tls,
}

/// Where one broker runs.
pub struct Place {
    pub site: Site,
    pub folder: PathBuf,
    pub ports: [u16; 4],
}

impl Place {
    /// A new folder and free ports.
    pub fn new(site: &Site, name: &str) -> Result<Place, String> {
        let folder = site.path(&format!("run/{name}"));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let ports = std::array::from_fn(|_| free_port());
        Ok(Place {
            site: site.clone(),
            folder,
            ports,
        })
    }

    /// For a broker in an unpacked Debian release, the same in there is /work.
    fn write(&self, name: &str, text: &str) -> Result<(), String> {
        fs::write(self.folder.join(name), text).map_err(|error| format!("{name}: {error}"))
    }

    fn script(&self, name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/matrix")
            .join(name)
    }
}

const NOTHING: Broker = Broker {
    name: "",
    protocol: "auto",
    way: Way::First,
    install: |_| Err("it is in no registry".into()),
    prepare: |_| Ok(()),
    start: |_| Command::new("false"),
    limited: false,
    rules: true,
};

const MOSQUITTO: Broker = Broker {
    install: |site| site.debian("trixie", "mosquitto"),
    prepare: |place| mosquitto(place, "trixie"),
    start: |place| start_mosquitto(place, "trixie"),
    limited: true,
    ..NOTHING
};
const OLD_MOSQUITTO: Broker = Broker {
    install: |site| site.debian("bookworm", "mosquitto"),
    prepare: |place| mosquitto(place, "bookworm"),
    start: |place| start_mosquitto(place, "bookworm"),
    ..MOSQUITTO
};
const RUMQTTD: Broker = Broker {
    install: |site| site.cargo("rumqttd", "0.20.0"),
    prepare: rumqttd,
    start: |place| {
        let mut command = Command::new(place.site.path("cargo-rumqttd/bin/rumqttd"));
        command
            .arg("--config")
            .arg(place.folder.join("rumqttd.toml"));
        command
    },
    limited: true,
    rules: false,
    ..NOTHING
};

pub const BROKERS: [Broker; 15] = [
    Broker {
        name: "Mosquitto",
        ..MOSQUITTO
    },
    Broker {
        name: "Mosquitto over TLS",
        way: Way::Tls,
        ..MOSQUITTO
    },
    Broker {
        name: "Mosquitto as 3.1.1",
        protocol: "3.1.1",
        ..MOSQUITTO
    },
    Broker {
        name: "Mosquitto as 3.1.1 over TLS",
        protocol: "3.1.1",
        way: Way::Tls,
        ..MOSQUITTO
    },
    Broker {
        name: "Mosquitto of Debian 12",
        ..OLD_MOSQUITTO
    },
    Broker {
        name: "RabbitMQ",
        install: |site| site.debian("trixie", "rabbitmq-server"),
        prepare: |place| {
            rabbitmq(
                place,
                &format!("mqtt.max_packet_size_authenticated = {LIMIT}\n"),
            )
        },
        start: |place| start_rabbitmq(place, "trixie"),
        limited: true,
        ..NOTHING
    },
    Broker {
        name: "RabbitMQ of Debian 12",
        install: |site| site.debian("bookworm", "rabbitmq-server"),
        prepare: |place| rabbitmq(place, ""),
        start: |place| start_rabbitmq(place, "bookworm"),
        ..NOTHING
    },
    Broker {
        name: "ejabberd",
        install: |site| site.debian("trixie", "ejabberd"),
        prepare: ejabberd,
        start: start_ejabberd,
        ..NOTHING
    },
    Broker {
        name: "NATS",
        install: |site| site.debian("trixie", "nats-server"),
        prepare: nats,
        start: |place| {
            let mut command = place.site.inside("trixie", &place.folder);
            command.args(["nats-server", "-c", "/work/nats.conf"]);
            command
        },
        ..NOTHING
    },
    Broker {
        name: "aedes",
        install: |site| site.npm("aedes", "1.2.0"),
        start: |place| node(place, "aedes"),
        ..NOTHING
    },
    Broker {
        name: "mosca as 3.1.1",
        // A CONNECT of MQTT 5 ends its process.
        protocol: "3.1.1",
        install: |site| site.npm("mosca", "2.8.3"),
        start: |place| node(place, "mosca"),
        ..NOTHING
    },
    Broker {
        name: "amqtt",
        install: |site| site.python("amqtt", "0.12.1", ("3", &[])),
        start: |place| python(place, "amqtt"),
        ..NOTHING
    },
    Broker {
        name: "hbmqtt",
        // Nothing newer can run it.
        install: |site| site.python("hbmqtt", "0.9.6", ("3.8", &["websockets==8.1"])),
        start: |place| python(place, "hbmqtt"),
        rules: false,
        ..NOTHING
    },
    Broker {
        name: "rumqttd, listener of MQTT 5",
        way: Way::Second,
        ..RUMQTTD
    },
    Broker {
        name: "rumqttd, listener of 3.1.1",
        ..RUMQTTD
    },
];

/// A library of npm of which a script here makes a broker.
fn node(place: &Place, package: &str) -> Command {
    let script = if package == "mosca" {
        "mosca.cjs"
    } else {
        "aedes.mjs"
    };
    let mut command = Command::new("node");
    command
        .arg(place.script(script))
        .arg(place.ports[0].to_string())
        .arg(place.site.path(&format!("npm-{package}")));
    command
}

/// A library of PyPI of which a script here makes a broker.
fn python(place: &Place, package: &str) -> Command {
    let python = place.site.path(&format!("python-{package}/bin/python"));
    let mut command = Command::new(python);
    command
        .arg(place.script(&format!("{package}.py")))
        .arg(place.ports[0].to_string());
    command
}

fn mosquitto(place: &Place, release: &str) -> Result<(), String> {
    let [plain, tls, ..] = place.ports;
    Certificates::make(&place.folder);
    place.write(
        "acl",
        "user backend\ntopic readwrite #\nuser device\ntopic readwrite iot-projekt/#\n",
    )?;
    place.write("users", "backend:secret\ndevice:secret\n")?;
    let hashed = place
        .site
        .inside(release, &place.folder)
        .args(["mosquitto_passwd", "-U", "/work/users"])
        .output();
    if !hashed.is_ok_and(|output| output.status.success()) {
        return Err("unshare and chroot are not allowed here".into());
    }
    place.write(
        "mosquitto.conf",
        &format!(
            "listener {plain} 127.0.0.1\nlistener {tls} 127.0.0.1\ncertfile /work/good.pem\n\
             keyfile /work/good.key\nper_listener_settings false\nallow_anonymous false\n\
             password_file /work/users\nacl_file /work/acl\npersistence true\n\
             persistence_location /work/\nmax_queued_messages 0\nmax_packet_size {LIMIT}\nuser root\n"
        ),
    )
}

fn start_mosquitto(place: &Place, release: &str) -> Command {
    let mut command = place.site.inside(release, &place.folder);
    command.args(["mosquitto", "-c", "/work/mosquitto.conf"]);
    command
}

fn rabbitmq(place: &Place, more: &str) -> Result<(), String> {
    let port = place.ports[0];
    place.write(
        "rabbitmq.conf",
        &format!(
            "listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = false\n\
             load_definitions = /work/definitions.json\nlog.console = true\nlog.file = false\n{more}"
        ),
    )?;
    place.write("plugins", "[rabbitmq_mqtt].\n")?;
    let user = |name: &str| format!(r#"{{"name":"{name}","password":"secret","tags":""}}"#);
    let all = |name: &str| {
        format!(r#"{{"user":"{name}","vhost":"/","configure":".*","write":".*","read":".*"}}"#)
    };
    place.write(
        "definitions.json",
        &format!(
            r#"{{"vhosts":[{{"name":"/"}}],"users":[{},{}],"permissions":[{},{}],
            "topic_permissions":[{{"user":"device","vhost":"/","exchange":"amq.topic","write":"^iot-projekt\\..*","read":".*"}}]}}"#,
            user("backend"),
            user("device"),
            all("backend"),
            all("device")
        ),
    )
}

/// A node of its own: its name, ports, data and cookie are not those of a system service.
fn start_rabbitmq(place: &Place, release: &str) -> Command {
    let [port, _, names, distribution] = place.ports;
    let mut command = place.site.inside(release, &place.folder);
    command
        .arg("env")
        .arg(format!("ERL_EPMD_PORT={names}"))
        .arg("ERL_EPMD_ADDRESS=127.0.0.1")
        .arg(format!("RABBITMQ_DIST_PORT={distribution}"))
        .arg(format!("RABBITMQ_NODENAME=matrix{port}@localhost"))
        .arg("RABBITMQ_CONFIG_FILE=/work/rabbitmq.conf")
        .arg("RABBITMQ_ENABLED_PLUGINS_FILE=/work/plugins")
        .arg("RABBITMQ_MNESIA_BASE=/work/data")
        .arg("RABBITMQ_LOG_BASE=/work/log")
        .arg("RABBITMQ_PID_FILE=/work/pid")
        .args(["sh", "/usr/lib/rabbitmq/bin/rabbitmq-server"]);
    command
}

fn ejabberd(place: &Place) -> Result<(), String> {
    let [port, _, names, distribution] = place.ports;
    place.write("ejabberd.yml", &EJABBERD.replace("PORT", &port.to_string()))?;
    place.write(
        "start",
        &format!(
            "export ERL_EPMD_PORT={names} ERL_EPMD_ADDRESS=127.0.0.1 ERL_LIBS=/usr/lib/x86_64-linux-gnu\n\
             export EJABBERD_CONFIG_PATH=/work/ejabberd.yml EJABBERD_LOG_PATH=/work/ejabberd.log\n\
             exec erl -noinput -sname matrix{port}@localhost -kernel inet_dist_listen_min {distribution} \
             -kernel inet_dist_listen_max {distribution} -pa /usr/lib/x86_64-linux-gnu/ejabberd-*/ebin \
             -mnesia dir '\"/work/data\"' -s ejabberd -eval '{REGISTER}'\n"
        ),
    )
}

const EJABBERD: &str = r##"hosts: [localhost]
loglevel: warning
listen:
  - {port: PORT, ip: "127.0.0.1", module: mod_mqtt, backlog: 100}
auth_method: [internal]
acl:
  backend: {user: backend@localhost}
modules:
  mod_mqtt:
    max_queue: infinity
    access_publish:
      "iot-projekt/#": [{allow: all}]
      "#": [{allow: backend}, {deny: all}]
    access_subscribe:
      "#": [{allow: all}]
"##;

/// Its users are in a table that exists only when it runs.
const REGISTER: &str = r#"Add = fun(User) -> catch ejabberd_auth:try_register(User, <<"localhost">>, <<"secret">>) end,
Wait = fun Again() -> case [Add(<<"backend">>), Add(<<"device">>)] of
    [ok, ok] -> ok; [{error, exists}, {error, exists}] -> ok; _ -> timer:sleep(100), Again() end end,
spawn(Wait)."#;

fn start_ejabberd(place: &Place) -> Command {
    let mut command = place.site.inside("trixie", &place.folder);
    command.args(["sh", "/work/start"]);
    command
}

/// MQTT is served from its streams, which are on disk.
fn nats(place: &Place) -> Result<(), String> {
    let [port, own, ..] = place.ports;
    place.write(
        "nats.conf",
        &format!(
            "server_name: matrix\nlisten: \"127.0.0.1:{own}\"\njetstream {{ store_dir: \"/work/data\" }}\n\
             mqtt {{ listen: \"127.0.0.1:{port}\", max_ack_pending: 10000 }}\n\
             authorization {{ users: [ {{ user: backend, password: secret }},\n\
             {{ user: device, password: secret, permissions: {{ publish: {{ allow: \
             [\"iot-projekt.>\", \"$MQTT.>\", \"$JS.>\", \"_INBOX.>\"] }} }} }} ] }}\n"
        ),
    )
}

fn rumqttd(place: &Place) -> Result<(), String> {
    let [old, new, metrics, console] = place.ports;
    let connections = format!(
        "connection_timeout_ms = 60000\nmax_payload_size = {LIMIT}\nmax_inflight_count = 100\n\
         dynamic_filters = true\nauth = {{ backend = \"secret\", device = \"secret\" }}\n"
    );
    place.write(
        "rumqttd.toml",
        &format!(
            "id = 0\n[router]\nid = 0\nmax_connections = 100\nmax_outgoing_packet_count = 200\n\
             max_segment_size = 104857600\nmax_segment_count = 10\n\
             [v4.1]\nname = \"v4-1\"\nlisten = \"127.0.0.1:{old}\"\nnext_connection_delay_ms = 1\n[v4.1.connections]\n{connections}\
             [v5.1]\nname = \"v5-1\"\nlisten = \"127.0.0.1:{new}\"\nnext_connection_delay_ms = 1\n[v5.1.connections]\n{connections}\
             [prometheus]\nlisten = \"127.0.0.1:{metrics}\"\ninterval = 1\n[console]\nlisten = \"127.0.0.1:{console}\"\n"
        ),
    )
}
