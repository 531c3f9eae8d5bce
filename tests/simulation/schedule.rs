//! What a seed stands for: a device, a broker and a Redis, and the faults that befall them.

use std::time::Duration;

use mqtt_handler::model::compression::Compression;
use mqtt_handler::model::measurement::BatchLimits;
use mqtt_handler::{bridge, link};

use crate::broker::{Limit, Manner, Speaks};
use crate::random::Random;

/// A moment that a fault may wait for, so that it hits between two actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Published,
    Arrived,
    Acknowledged,
    Saved,
    Copied,
    Handshake,
}

/// How a black hole ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heals {
    /// What was on its way arrives.
    Resumes,
    /// The connection is cut.
    Cuts,
}

/// What somebody else writes to the cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// So many entries back from where it is.
    Back(u64),
    BackInclusive(u64),
    Ahead(u64),
    All,
    Now,
    /// Above everything in the stream.
    Beyond,
    BareTime,
    Spaced,
    Garbage,
    Deleted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Killed,
    Terminated,
    BrokerRestarts {
        gently: bool,
    },
    BrokerFrozen,
    BrokerDeaf,
    BrokerForbids,
    /// Refuses every list, the empty one as well, in words that could be meant for what it holds.
    BrokerRefuses,
    BrokerQuota,
    BrokerCutsHandshake,
    BrokerSilentToFive,
    BrokerBadCredentials,
    BrokerUnavailable,
    BrokerKicks,
    BrokerRefusesSubscriptions,
    /// Confirms a list, then sends what it must not, or ends the connection.
    BrokerMisbehaves {
        hangs_up: bool,
    },
    Cut,
    HoleBoth(Heals),
    HoleUp(Heals),
    HoleDown(Heals),
    Refused,
    Latency,
    Slow,
    /// Whatever is tried by itself meets the client's own time-out.
    LineTimesOut,
    RedisRestarts,
    RedisForgets {
        millis: u64,
    },
    RedisFrozen,
    RedisLoading,
    RedisClientsKilled,
    RedisFull,
    RedisReadOnly,
    RedisLatency,
    NoCopies,
    StreamDeleted,
    /// Renamed, and back over whatever was written meanwhile.
    StreamAway,
    StreamRewritten {
        hours_back: u64,
    },
    WaitingDeleted {
        count: u64,
    },
    SentDeleted {
        count: u64,
    },
    Trimmed {
        keep: u64,
    },
    IdsRaised,
    StreamOfOtherType,
    CursorSet(Cursor),
    CursorOfOtherType,
    Disabled,
    Interval {
        millis: u64,
    },
    ClockSteps {
        seconds: i64,
    },
    LateMessages,
    Burst {
        count: u64,
    },
    Poison {
        count: u64,
    },
    Large,
}

impl Fault {
    /// Its name, without numbers.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        let letters = |c: char| !c.is_alphabetic() && c != '(';
        let name = text.split(letters).next().unwrap_or_default();
        let name = name.trim_end_matches('(');
        let close = if name.contains('(') { ")" } else { "" };
        format!("{name}{close}")
    }

    /// What is in the stream is another one afterwards, or less.
    fn makes_another_stream(&self) -> bool {
        matches!(
            self,
            Fault::StreamDeleted
                | Fault::StreamAway
                | Fault::StreamRewritten { .. }
                | Fault::WaitingDeleted { .. }
                | Fault::Trimmed { .. }
                | Fault::RedisForgets { .. }
                | Fault::IdsRaised
                | Fault::StreamOfOtherType
        )
    }

    /// The stream before the present one is known again, no other one.
    fn hides_the_one_before(&self) -> bool {
        use Fault::{StreamDeleted, StreamOfOtherType, StreamRewritten};
        matches!(
            self,
            StreamDeleted | StreamRewritten { .. } | StreamOfOtherType
        )
    }

    /// The loss that it causes cannot be counted exactly by anybody.
    fn blurs_losses(&self) -> bool {
        matches!(
            self,
            Fault::RedisForgets { .. }
                | Fault::IdsRaised
                | Fault::CursorSet(_)
                | Fault::CursorOfOtherType
                | Fault::StreamOfOtherType
        )
    }
}

#[derive(Clone, Debug)]
pub struct Planned {
    pub at: Duration,
    /// It begins when this happens for the first time from then on.
    pub trigger: Option<Trigger>,
    pub lasts: Duration,
    pub fault: Fault,
}

/// The device and its servers.
#[derive(Clone, Debug)]
pub struct Setup {
    pub redis_counts: bool,
    pub speaks: Speaks,
    pub limit: Limit,
    pub latest: bool,
    /// The broker closes the connection on it.
    pub latest_closes: bool,
    pub status: bool,
    pub status_bytes: usize,
    pub status_manner: Option<Manner>,
    pub subscriptions: usize,
    pub subscription_manner: Option<Manner>,
    pub interval: Duration,
    pub batch: BatchLimits,
    pub keep_sent: Option<u64>,
    /// Redis has room for so many.
    pub room: Option<usize>,
    /// Bytes of payload a second while a backlog is sent; 0: no limit.
    pub catch_up: u64,
    pub ack_timeout: Duration,
    pub keep_alive: Duration,
    /// Measurements that wait at first, and how often one more comes.
    pub backlog: u64,
    pub every: Duration,
    pub pad: usize,
}

impl Setup {
    pub fn bridge_rules(&self) -> bridge::Rules {
        bridge::Rules {
            interval: self.interval,
            batch: self.batch,
            keep_sent: self.keep_sent,
            catch_up: self.catch_up,
            ack_timeout: self.ack_timeout,
            topic: "values".into(),
            latest: self.latest,
        }
    }

    pub fn link_rules(&self) -> link::Rules {
        link::Rules {
            address: "broker".into(),
            wanted: link::Wanted::Auto,
            insecure: false,
            keep_alive: self.keep_alive,
            ack_timeout: self.ack_timeout,
            values: "values".into(),
            compression: self.batch.compression,
            filters: ["all", "own"][..self.subscriptions]
                .iter()
                .map(ToString::to_string)
                .collect(),
            status: self.status.then(|| ("status".into(), b"offline".to_vec())),
            latest: self.latest.then(|| "latest".into()),
        }
    }

    fn random(random: &mut Random) -> Setup {
        let odd = |random: &mut Random| random.percent(12);
        let manners = [Manner::Refuses, Manner::Closes, Manner::Silent];
        let limit = if random.percent(70) {
            Limit::None
        } else {
            let bytes = random.pick(&[700, 1500, 4000]);
            random.pick(&[
                Limit::Announced(bytes),
                Limit::Closes(bytes),
                Limit::Says(bytes),
                Limit::Refuses(bytes),
            ])
        };
        let speaks = if odd(random) {
            random.pick(&[Speaks::OldSays, Speaks::OldCloses, Speaks::OldSilent])
        } else {
            Speaks::Five
        };
        Setup {
            redis_counts: random.percent(75),
            speaks,
            limit,
            status: random.percent(50),
            status_bytes: random.pick(&[100, 100, 100, 2000]),
            status_manner: odd(random).then(|| random.pick(&manners)),
            subscriptions: 1 + random.below(2) as usize,
            subscription_manner: odd(random).then(|| random.pick(&manners)),
            interval: Duration::from_millis(random.pick(&[0, 200, 1000, 1000, 3000])),
            batch: BatchLimits {
                max_bytes: random.pick(&[600, 3000, 65536]),
                max_count: random.pick(&[1, 4, 20, 100]),
                compression: Compression::None,
            },
            keep_sent: random.percent(30).then(|| random.pick(&[0, 3, 30])),
            room: None,
            catch_up: 0,
            ack_timeout: Duration::from_secs(random.pick(&[3, 3, 10, 30])),
            keep_alive: Duration::from_secs(random.pick(&[5, 5, 20, 60])),
            backlog: random.pick(&[0, 5, 60, 150]),
            every: Duration::from_millis(random.pick(&[150, 400, 1000, 3000])),
            pad: random.pick(&[0, 0, 20, 200]),
            latest: false,
            latest_closes: false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub setup: Setup,
    pub faults: Vec<Planned>,
}

impl Plan {
    pub fn new(seed: u64) -> Plan {
        let mut random = Random::new(seed ^ 0x5851_F42D_4C95_7F2D);
        let mut setup = Setup {
            // Of its own, so that a seed stays what it was.
            catch_up: Random::new(seed ^ 0xD1B5_4A32_D192_ED03).pick(&[0, 0, 0, 2000, 20_000]),
            ..Setup::random(&mut random)
        };
        let count = random.pick(&[1, 2, 3, 4, 6, 9]);
        let mut faults: Vec<Planned> = (0..count).map(|_| planned(&mut random)).collect();
        // The same here.
        let mut own = Random::new(seed ^ 0xA076_1D64_78BD_642F);
        if own.percent(8) {
            faults.push(Planned {
                at: own.millis(200, 40_000),
                trigger: None,
                lasts: own.millis(300, 15_000),
                fault: Fault::StreamAway,
            });
        }
        if random.percent(20) {
            together(&mut random, &mut setup, &mut faults);
        }
        if own.percent(1) {
            flaps(&mut own, &mut setup, &mut faults);
        }
        let mut own = Random::new(seed ^ 0x2545_F491_4F6C_DD1D);
        // A broker that hangs up may cost a subscription an hour.
        let refuses = |planned: &Planned| planned.fault == Fault::BrokerRefusesSubscriptions;
        if own.percent(2) && !faults.iter().any(refuses) {
            faults.push(misbehaves(&mut own));
        }
        // What cannot be trimmed makes no room: what lies before a cursor that is ahead of the stream.
        let stays = |planned: &Planned| planned.fault == Fault::CursorSet(Cursor::Beyond);
        if setup.limit == Limit::None && !faults.iter().any(stays) && random.percent(50) {
            let more = random.pick(&[20, 80, 150]);
            setup.room = setup.keep_sent.map(|keep| keep as usize + more);
        }
        let mut plan = Plan {
            seed,
            setup,
            faults,
        };
        // Where the stream stays the same one, so that there is one newest measurement.
        plan.setup.latest = seed % 2 == 0 && !plan.has(Fault::makes_another_stream);
        plan.setup.batch.compression = Random::new(seed ^ 0x9FB2_1C65_1E98_DF25).pick(&[
            Compression::None,
            Compression::None,
            Compression::None,
            Compression::Gzip,
        ]);
        plan.setup.latest_closes = plan.setup.latest && seed % 10 == 0;
        plan
    }

    /// When the last fault is over.
    pub fn end(&self) -> Duration {
        let ends = self.faults.iter().map(|planned| planned.at + planned.lasts);
        ends.max().unwrap_or_default().max(Duration::from_secs(5))
    }

    /// Every loss can be counted.
    pub fn counts_losses(&self) -> bool {
        let away = self.has(|fault| *fault == Fault::StreamAway);
        let hidden = away && self.has(Fault::hides_the_one_before);
        // Behind poison without a copy, a stream that comes back is sent again.
        let again = away && self.has(|fault| *fault == Fault::NoCopies);
        // What is written meanwhile with older IDs looks as if it had grown into the one that is back.
        let older = |fault: &Fault| matches!(fault, Fault::ClockSteps { seconds } if *seconds < 0);
        let older = away && self.has(older);
        !hidden && !again && !older && !self.has(Fault::blurs_losses)
    }

    pub fn has(&self, test: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(|planned| test(&planned.fault))
    }
}

fn planned(random: &mut Random) -> Planned {
    use Trigger::{Acknowledged, Arrived, Copied, Handshake, Published, Saved};
    let triggers = [Published, Arrived, Acknowledged, Saved, Copied, Handshake];
    Planned {
        at: random.millis(200, 40_000),
        trigger: random.percent(50).then(|| random.pick(&triggers)),
        lasts: match random.below(4) {
            0 => random.millis(8000, 25_000),
            _ => random.millis(100, 5000),
        },
        fault: fault(random),
    }
}

/// Adds faults that meet on real devices, and that chance alone would rarely bring together.
fn together(random: &mut Random, setup: &mut Setup, faults: &mut Vec<Planned>) {
    let begin = random.millis(500, 20_000);
    let heals = heals(random);
    let planned = |after: u64, lasts: u64, fault| Planned {
        at: begin + Duration::from_millis(after),
        trigger: None,
        lasts: Duration::from_millis(lasts),
        fault,
    };
    match random.below(9) {
        // Poison that cannot be copied, a trim before it, and bursts behind it.
        0 => {
            (setup.interval, setup.keep_sent) = (Duration::ZERO, Some(0));
            let count = 5 + random.below(60);
            faults.push(planned(
                0,
                random.pick(&[4000, 15_000, 30_000]),
                Fault::NoCopies,
            ));
            faults.push(planned(100, 100, Fault::Poison { count: 1 }));
            let bursts = (1..6).map(|nth| nth * random.below(6000));
            faults.extend(bursts.map(|at| planned(at, 100, Fault::Burst { count })));
        }
        // The broker is away until Redis is full.
        1 => faults.extend([
            planned(0, 15_000, Fault::Refused),
            planned(1000, 100, Fault::Burst { count: 50 }),
            planned(random.below(12_000), 20_000, Fault::RedisFull),
        ]),
        // A line that flaps.
        2 => faults.extend((0..5).map(|nth| planned(nth * 9000, 6000, Fault::HoleBoth(heals)))),
        // A handshake is cut, and the topic is forbidden.
        3 => faults.extend([
            planned(0, 12_000, Fault::BrokerForbids),
            planned(random.below(3000), 3000, Fault::BrokerCutsHandshake),
        ]),
        // The stream is another one, and the process as well.
        4 => faults.extend([
            planned(random.below(1000), 100, Fault::StreamDeleted),
            planned(random.below(3000), 2000, Fault::Killed),
            planned(
                random.below(3000),
                300,
                Fault::StreamRewritten { hours_back: 5 },
            ),
        ]),
        // Poison on a bad line.
        5 => faults.extend([
            planned(0, 100, Fault::Poison { count: 2 }),
            planned(random.below(9000), 4000, Fault::HoleBoth(heals)),
            planned(random.below(19_000), 100, Fault::BrokerKicks),
            planned(random.below(29_000), 100, Fault::Cut),
        ]),
        _ => alone(random, setup, faults, planned),
    }
}

/// The same where nothing else may happen, because what is expected is more exact.
fn alone(
    random: &mut Random,
    setup: &mut Setup,
    faults: &mut Vec<Planned>,
    planned: impl Fn(u64, u64, Fault) -> Planned,
) {
    faults.clear();
    (setup.limit, setup.speaks) = (Limit::None, Speaks::Five);
    (setup.status_manner, setup.subscription_manner) = (None, None);
    (setup.ack_timeout, setup.keep_alive) = (Duration::from_secs(3), Duration::from_secs(5));
    match random.below(3) {
        // A line that is good for half a minute at a time.
        0 => faults.extend((0..5).map(|nth| Planned {
            trigger: Some(Trigger::Published),
            ..planned(nth * 29_000, 300, Fault::BrokerKicks)
        })),
        // Lists that are not answered.
        1 => faults.push(planned(0, 15_000 + random.below(40_000), Fault::BrokerDeaf)),
        // Commands are refused for a while, and measurements never rest.
        _ => {
            setup.every = Duration::from_millis(150);
            faults.push(planned(0, 15_000, Fault::BrokerRefusesSubscriptions));
            faults.push(planned(200, 300, Fault::BrokerKicks));
        }
    }
}

/// The line goes silent as soon as a measurement is tried by itself, and this side gives it up: again and
/// again at the same one.
fn flaps(random: &mut Random, setup: &mut Setup, faults: &mut Vec<Planned>) {
    (setup.limit, setup.speaks) = (Limit::None, Speaks::Five);
    setup.batch.max_count = 1;
    *faults = vec![Planned {
        at: random.millis(500, 20_000),
        trigger: None,
        lasts: random.millis(40_000, 90_000),
        fault: Fault::LineTimesOut,
    }];
}

/// For so long that it shows how often the service comes back.
fn misbehaves(random: &mut Random) -> Planned {
    Planned {
        at: random.millis(500, 20_000),
        trigger: None,
        lasts: random.millis(60_000, 150_000),
        fault: Fault::BrokerMisbehaves {
            hangs_up: random.percent(50),
        },
    }
}

fn heals(random: &mut Random) -> Heals {
    random.pick(&[Heals::Resumes, Heals::Cuts])
}

fn fault(random: &mut Random) -> Fault {
    match random.below(5) {
        0 => of_the_device(random),
        1 => of_the_broker(random),
        2 => of_the_network(random),
        3 => of_redis(random),
        _ => by_others(random),
    }
}

fn of_the_device(random: &mut Random) -> Fault {
    match random.below(8) {
        0..=2 => Fault::Killed,
        3..=4 => Fault::Terminated,
        5 => Fault::ClockSteps {
            seconds: random.pick(&[-18_000, -60, -2, 2, 60, 18_000]),
        },
        _ => Fault::LateMessages,
    }
}

fn of_the_broker(random: &mut Random) -> Fault {
    match random.below(14) {
        0..=1 => Fault::BrokerRestarts { gently: true },
        2..=3 => Fault::BrokerRestarts { gently: false },
        4 => Fault::BrokerFrozen,
        5 => Fault::BrokerDeaf,
        6 => Fault::BrokerForbids,
        7 => Fault::BrokerQuota,
        8 => Fault::BrokerCutsHandshake,
        9 => Fault::BrokerSilentToFive,
        10 => Fault::BrokerBadCredentials,
        11 => Fault::BrokerUnavailable,
        12 => Fault::BrokerRefuses,
        _ => Fault::BrokerKicks,
    }
}

fn of_the_network(random: &mut Random) -> Fault {
    match random.below(10) {
        0..=2 => Fault::Cut,
        3 => Fault::HoleBoth(heals(random)),
        4 => Fault::HoleUp(heals(random)),
        5 => Fault::HoleDown(heals(random)),
        6 => Fault::Refused,
        7 => Fault::Latency,
        _ => Fault::Slow,
    }
}

fn of_redis(random: &mut Random) -> Fault {
    match random.below(13) {
        0..=1 => Fault::RedisRestarts,
        2..=3 => Fault::RedisForgets {
            millis: random.pick(&[10, 300, 1000, 2000]),
        },
        4..=5 => Fault::RedisFrozen,
        6 => Fault::RedisLoading,
        7 => Fault::RedisClientsKilled,
        8 => Fault::RedisFull,
        9 => Fault::RedisReadOnly,
        10 => Fault::RedisLatency,
        _ => Fault::NoCopies,
    }
}

fn by_others(random: &mut Random) -> Fault {
    match random.below(20) {
        0..=5 => Fault::CursorSet(cursor(random)),
        6 => Fault::CursorOfOtherType,
        7 => Fault::StreamDeleted,
        8 => Fault::StreamRewritten {
            hours_back: random.below(7),
        },
        9..=10 => Fault::WaitingDeleted {
            count: 1 + random.below(10),
        },
        11 => Fault::SentDeleted {
            count: 1 + random.below(10),
        },
        12..=13 => Fault::Trimmed {
            keep: random.below(40),
        },
        14 => Fault::IdsRaised,
        15 => Fault::StreamOfOtherType,
        16 => Fault::Disabled,
        17 => Fault::Interval {
            millis: random.pick(&[0, 100, 1000, 20_000]),
        },
        18 => random.pick(&[Fault::Burst { count: 50 }, Fault::Large]),
        _ => Fault::Poison {
            count: 1 + random.below(3),
        },
    }
}

fn cursor(random: &mut Random) -> Cursor {
    let count = 1 + random.below(30);
    random.pick(&[
        Cursor::Back(count),
        Cursor::BackInclusive(count),
        Cursor::Ahead(count),
        Cursor::All,
        Cursor::Now,
        Cursor::Beyond,
        Cursor::BareTime,
        Cursor::Spaced,
        Cursor::Garbage,
        Cursor::Deleted,
    ])
}
