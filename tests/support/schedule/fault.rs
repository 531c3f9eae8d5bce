//! The kinds of faults that a schedule is made of.

/// What a schedule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    ServiceKilled,
    ServiceTerminated,
    BrokerRestarted,
    BrokerFrozen,
    BrokerFrozenServiceKilled,
    ConnectionCut,
    HoleBothWays,
    HoleToBroker,
    HoleFromBroker,
    ConnectionsRefused,
    Latency,
    Trickle,
    RedisRestarted,
    RedisFrozen,
    RedisLoading,
    RedisClientsKilled,
    EnabledToggled,
    RedisFull,
    IntervalChanged,
    Burst,
    /// Counted apart: it repeats measurements on purpose.
    CursorRewound,
}

/// All but the rewind, which comes less often.
pub const FAULTS: [Fault; 20] = [
    Fault::ServiceKilled,
    Fault::ServiceTerminated,
    Fault::BrokerRestarted,
    Fault::BrokerFrozen,
    Fault::BrokerFrozenServiceKilled,
    Fault::ConnectionCut,
    Fault::HoleBothWays,
    Fault::HoleToBroker,
    Fault::HoleFromBroker,
    Fault::ConnectionsRefused,
    Fault::Latency,
    Fault::Trickle,
    Fault::RedisRestarted,
    Fault::RedisFrozen,
    Fault::RedisLoading,
    Fault::RedisClientsKilled,
    Fault::EnabledToggled,
    Fault::RedisFull,
    Fault::IntervalChanged,
    Fault::Burst,
];

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Fault::ServiceKilled => "service killed",
            Fault::ServiceTerminated => "service terminated",
            Fault::BrokerRestarted => "broker restarted",
            Fault::BrokerFrozen => "broker frozen",
            Fault::BrokerFrozenServiceKilled => "broker frozen, service killed",
            Fault::ConnectionCut => "connection cut",
            Fault::HoleBothWays => "black hole, both ways",
            Fault::HoleToBroker => "black hole, to the broker",
            Fault::HoleFromBroker => "black hole, from the broker",
            Fault::ConnectionsRefused => "connections refused",
            Fault::Latency => "latency",
            Fault::Trickle => "trickle",
            Fault::RedisRestarted => "Redis restarted",
            Fault::RedisFrozen => "Redis frozen",
            Fault::RedisLoading => "Redis loading",
            Fault::RedisClientsKilled => "Redis clients killed",
            Fault::EnabledToggled => "enabled toggled",
            Fault::RedisFull => "Redis full",
            Fault::IntervalChanged => "interval changed",
            Fault::Burst => "burst of measurements",
            Fault::CursorRewound => "cursor rewound",
        }
    }
}
