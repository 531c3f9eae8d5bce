use super::*;
use crate::model::compression::Compression;
use crate::model::connection::{NoConnection, NoConnectionKind};
use crate::model::packet::packet_size;

/// A link with the time of its world.
struct World {
    link: Link,
    now: Instant,
    told: Vec<Notice>,
    answers: Vec<(Origin, Result<(), Cause>)>,
    ups: Vec<(u64, usize)>,
    downs: Vec<bool>,
    closes: usize,
}

const VALUES: &str = "values";

fn rules() -> Rules {
    Rules {
        address: "broker:1883".into(),
        wanted: Wanted::Auto,
        insecure: false,
        keep_alive: Duration::from_secs(10),
        ack_timeout: Duration::from_secs(30),
        values: VALUES.into(),
        compression: Compression::None,
        filters: vec!["all".into(), "mine".into()],
        status: None,
        latest: Some("latest".into()),
    }
}

fn letter(topic: &str, bytes: usize, link: Option<u64>) -> Letter {
    Letter {
        message: Message::list(topic, vec![0; bytes]),
        patience: None,
        link,
    }
}

/// Bytes of the largest payload to a topic in a packet of so many bytes.
fn payload_within(packet: usize, topic: &str) -> usize {
    largest_payload(&Message::list(topic, Vec::new()), Protocol::V5, packet).unwrap()
}

fn broken(by: By) -> Ended {
    Ended {
        by,
        reason: "why".into(),
    }
}

fn undelivered(cause: Cause) -> Input {
    Input::Published(Err(Undelivered::new(cause, "why")))
}

impl World {
    fn new(rules: Rules) -> World {
        let now = Instant::now();
        World {
            link: Link::new(rules, now, 1),
            now,
            told: Vec::new(),
            answers: Vec::new(),
            ups: Vec::new(),
            downs: Vec::new(),
            closes: 0,
        }
    }

    /// A world in which the connection stands and both filters are subscribed to.
    fn connected(rules: Rules) -> World {
        let mut world = World::new(rules);
        world.connect(None);
        world.subscribe_all();
        world
    }

    /// The next action that has an answer, or a wait; the others are noted.
    fn next(&mut self) -> Action {
        loop {
            match self.link.next(self.now) {
                Action::Tell(notice) => self.told.push(notice),
                Action::Show => {}
                Action::Answer { origin, result } => {
                    self.answers.push((origin, result.map_err(|why| why.cause)));
                }
                Action::Up { link, limit } => self.ups.push((link, limit)),
                Action::Down { idle } => self.downs.push(idle),
                Action::Close => self.closes += 1,
                action => return action,
            }
        }
    }

    fn handle(&mut self, input: Input) {
        self.link.handle(self.now, input);
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Waits as long as it is told to, at most for `seconds`.
    fn wait_for(&mut self, seconds: u64) -> Action {
        let end = self.now + Duration::from_secs(seconds);
        loop {
            match self.next() {
                Action::Wait(until) if until > end => {
                    self.now = end;
                    return Action::Wait(until);
                }
                Action::Wait(until) => {
                    assert!(until > self.now, "a wait for nothing");
                    self.now = until;
                }
                action => return action,
            }
        }
    }

    fn attempt(&mut self) -> Attempt {
        match self.wait_for(200) {
            Action::Connect(attempt) => attempt,
            action => panic!("{action:?}"),
        }
    }

    fn connect(&mut self, maximum_packet: Option<usize>) -> Attempt {
        let attempt = self.attempt();
        self.handle(Input::Connected {
            maximum_packet,
            retains: true,
        });
        attempt
    }

    fn fail(&mut self, kind: NoConnectionKind) -> Attempt {
        let attempt = self.attempt();
        let reason = "why".into();
        self.handle(Input::NotConnected(NoConnection { kind, reason }));
        attempt
    }

    fn subscribe_all(&mut self) {
        for expected in ["all", "mine"] {
            match self.wait_for(5) {
                Action::Subscribe { filter, .. } => assert_eq!(filter, expected),
                action => panic!("{action:?}"),
            }
            self.handle(Input::Subscribed(Ok(())));
        }
    }

    fn offer(&mut self, origin: Origin, bytes: usize) {
        assert!(self.link.wants(origin));
        let link = (origin == Origin::Measurements).then_some(self.link.view().link);
        self.handle(Input::Offer(origin, letter("t", bytes, link)));
    }

    fn published(&mut self) -> (Message, Duration) {
        match self.wait_for(5) {
            Action::Publish { message, patience } => (message, patience),
            action => panic!("{action:?}"),
        }
    }

    fn waits(&mut self) -> bool {
        matches!(self.next(), Action::Wait(_))
    }

    fn has_told(&self, what: fn(&Notice) -> bool) -> bool {
        self.told.iter().any(what)
    }
}

#[test]
fn it_connects_at_once_tells_it_and_subscribes() {
    let mut world = World::new(rules());
    let begun = world.now;
    let attempt = world.connect(Some(1000));
    assert_eq!(world.now, begun);
    assert_eq!(
        (attempt.protocol, attempt.keep_alive, attempt.will),
        (Protocol::V5, Duration::from_secs(10), false)
    );
    assert_eq!(attempt.patience, VERSION_PATIENCE);
    world.subscribe_all();
    assert!(world.waits());
    assert_eq!(world.ups, [(1, payload_within(1000, VALUES))]);
    assert!(world.has_told(|notice| matches!(notice, Notice::Connected { .. })));
    assert!(!world.has_told(|notice| *notice == Notice::OldProtocol));
    assert_eq!(world.link.view().protocol, Some(Protocol::V5));
}

#[test]
fn a_broker_without_a_limit_takes_lists_of_any_size() {
    let mut world = World::new(rules());
    world.connect(None);
    world.next();
    assert_eq!(world.ups, [(1, usize::MAX)]);
}

#[test]
fn the_limit_of_a_list_leaves_room_for_what_tells_how_it_is_packed() {
    let compression = Compression::Gzip;
    let mut world = World::new(Rules {
        compression,
        ..rules()
    });
    world.connect(Some(1000));
    world.next();
    let list = Message {
        compression,
        ..Message::list(VALUES, Vec::new())
    };
    let limit = largest_payload(&list, Protocol::V5, 1000).unwrap();
    assert!(limit < payload_within(1000, VALUES));
    assert_eq!(world.ups, [(1, limit)]);
}

#[test]
fn attempts_come_later_each_time_but_never_later_than_the_outage_has_lasted() {
    let mut world = World::new(rules());
    let begun = world.now;
    let mut previous = begun;
    for _ in 0..200 {
        world.fail(NoConnectionKind::Unreachable);
        let (outage, wait) = (previous - begun, world.now - previous);
        assert!(
            wait <= outage
                .max(Duration::from_secs(1))
                .min(Duration::from_secs(60))
        );
        previous = world.now;
    }
    assert!(previous - begun > Duration::from_secs(600));
    assert!(world.has_told(|notice| matches!(
        notice,
        Notice::NoConnection {
            next: Next::After(_),
            ..
        }
    )));
    assert_eq!(world.link.view().last_error, "why");
}

/// However a broker ends one connection after the other, and whatever it has acknowledged before.
#[test]
fn connections_that_end_soon_come_ever_more_seldom() {
    for (by, acknowledged, most) in [
        (By::Gate, false, 30),
        (By::Gate, true, 30),
        (By::Broker, false, 30),
        (By::Broker, true, 400),
    ] {
        let mut world = World::new(with_status());
        world.handle(status("a"));
        let begun = world.now;
        let mut attempts = 0;
        while world.now - begun < Duration::from_secs(300) && attempts < 1000 {
            attempts += 1;
            world.connect(None);
            world.subscribe_all();
            assert_eq!(world.published().0.topic, "status");
            world.handle(Input::Published(Ok(())));
            if acknowledged {
                world.offer(Origin::Measurements, 100);
                world.published();
                world.handle(Input::Published(Ok(())));
            }
            world.handle(Input::Ended(broken(by)));
        }
        assert!(attempts <= most, "{attempts} by {by:?}, {acknowledged}");
        assert!(attempts >= 8, "{attempts} by {by:?}, {acknowledged}");
    }
}

/// A broker that restarts, or a line that breaks, while all is well.
#[test]
fn behind_a_connection_that_was_good_the_next_one_comes_at_once() {
    for by in [By::Broker, By::Line] {
        let mut world = World::new(rules());
        for _ in 0..50 {
            world.connect(None);
            world.subscribe_all();
            world.offer(Origin::Measurements, 100);
            world.published();
            world.handle(Input::Published(Ok(())));
            world.pass(10);
            world.handle(Input::Ended(broken(by)));
            let ended = world.now;
            world.fail(NoConnectionKind::Unreachable);
            assert!(world.now - ended <= Duration::from_secs(1), "{by:?}");
        }
    }
}

#[test]
fn a_broker_that_speaks_no_version_at_all_is_not_asked_in_haste() {
    let mut world = World::new(rules());
    let begun = world.now;
    let mut attempts = 0;
    while world.now - begun < Duration::from_secs(300) && attempts < 1000 {
        world.fail(NoConnectionKind::OtherVersion);
        attempts += 1;
    }
    assert!(attempts <= 60, "{attempts}");
}

#[test]
fn what_a_person_must_mend_is_tried_slowly() {
    let mut world = World::new(rules());
    world.fail(NoConnectionKind::NeedsPerson);
    let begun = world.now;
    world.attempt();
    assert!(world.now - begun >= Duration::from_secs(8));
}

#[test]
fn an_attempt_that_was_given_up_is_not_a_failure() {
    let mut world = World::new(rules());
    world.fail(NoConnectionKind::GivenUp);
    assert!(world.told.is_empty());
    assert_eq!(world.link.view().last_error, "");
}

#[test]
fn measurements_are_carried_by_the_old_protocol_only_after_two_failures_around_a_trial() {
    let mut world = World::new(rules());
    assert_eq!(world.fail(NoConnectionKind::Silent).protocol, Protocol::V5);
    let trial = world.connect(None);
    assert_eq!(
        (trial.protocol, trial.patience),
        (Protocol::V311, CONNECT_PATIENCE)
    );
    assert!(!world.link.wants(Origin::Measurements));
    assert_eq!(world.fail(NoConnectionKind::Closed).protocol, Protocol::V5);
    assert_eq!((world.closes, world.ups.len()), (1, 0));
    assert_eq!(world.connect(None).protocol, Protocol::V311);
    world.next();
    assert_eq!(world.ups.len(), 1);
    assert!(world.has_told(|notice| *notice == Notice::OldProtocol));
    assert!(world.has_told(|notice| matches!(
        notice,
        Notice::NoConnection {
            next: Next::Version(Protocol::V311),
            ..
        }
    )));
}

#[test]
fn one_message_is_in_flight_and_each_is_answered_once() {
    let mut world = World::connected(rules());
    world.offer(Origin::Measurements, 10);
    let (message, patience) = world.published();
    assert_eq!((message.topic.as_str(), patience.as_secs()), ("t", 30));
    world.offer(Origin::Commands, 10);
    assert!(world.waits(), "one is in flight");
    world.handle(Input::Published(Ok(())));
    world.published();
    world.handle(Input::Published(Ok(())));
    assert!(world.waits());
    assert_eq!(
        world.answers,
        [(Origin::Measurements, Ok(())), (Origin::Commands, Ok(()))]
    );
}

#[test]
fn the_patience_of_a_letter_counts() {
    let mut world = World::connected(rules());
    let mut letter = letter("t", 1, None);
    letter.patience = Some(Duration::from_secs(120));
    world.handle(Input::Offer(Origin::Commands, letter));
    assert_eq!(world.published().1.as_secs(), 120);
}

#[test]
fn nothing_larger_than_the_broker_takes_is_published() {
    let mut world = World::new(rules());
    world.connect(Some(100));
    world.subscribe_all();
    let fits = payload_within(100, "t");
    world.offer(Origin::Commands, fits);
    assert_eq!(world.published().0.payload.len(), fits);
    world.handle(Input::Published(Ok(())));
    world.offer(Origin::Commands, 100);
    assert!(world.waits());
    let limit = Some(fits);
    assert_eq!(
        world.answers[1],
        (Origin::Commands, Err(Cause::TooLarge { limit }))
    );
}

#[test]
fn a_refusal_in_words_leaves_the_connection_as_it_is() {
    for cause in [
        Cause::Refused,
        Cause::RefusesAll,
        Cause::TooLarge { limit: None },
    ] {
        let mut world = World::connected(rules());
        world.offer(Origin::Measurements, 1);
        world.published();
        world.handle(undelivered(cause));
        assert!(world.waits());
        assert_eq!(world.answers, [(Origin::Measurements, Err(cause))]);
        assert!(world.downs.is_empty() && world.link.wants(Origin::Measurements));
    }
}

#[test]
fn a_connection_on_which_an_answer_is_missing_is_given_up() {
    for cause in [
        Cause::Silent { answers: true },
        Cause::Silent { answers: false },
        Cause::Lost,
        Cause::Closed,
    ] {
        let mut world = World::connected(rules());
        world.offer(Origin::Measurements, 1);
        world.published();
        world.handle(undelivered(cause));
        world.attempt();
        assert_eq!(world.answers, [(Origin::Measurements, Err(cause))]);
        assert_eq!((world.downs.as_slice(), world.closes), (&[false][..], 1));
    }
}

#[test]
fn the_answer_comes_before_the_end_and_the_end_comes_once() {
    let mut world = World::connected(rules());
    world.offer(Origin::Measurements, 1);
    world.published();
    world.handle(Input::Ended(broken(By::Broker)));
    assert!(!world.link.wants(Origin::Measurements));
    assert!(world.waits() && world.downs.is_empty());
    world.handle(undelivered(Cause::Closed));
    world.handle(Input::Ended(broken(By::Broker)));
    world.attempt();
    assert_eq!(world.downs, [false]);
    assert_eq!(world.link.view().protocol, None);
}

#[test]
fn a_list_that_comes_too_late_for_its_connection_is_returned() {
    let mut world = World::connected(rules());
    world.handle(Input::Ended(broken(By::Broker)));
    world.handle(Input::Offer(Origin::Measurements, letter("t", 1, Some(1))));
    world.connect(None);
    world.subscribe_all();
    world.handle(Input::Offer(Origin::Measurements, letter("t", 1, Some(1))));
    assert!(world.waits());
    assert_eq!(
        world.answers,
        [(Origin::Measurements, Err(Cause::NotSent)); 2]
    );
    assert_eq!(world.downs, [true]);
}

#[test]
fn a_list_that_waits_when_the_connection_ends_is_returned_and_a_reply_is_kept() {
    let mut world = World::connected(rules());
    world.offer(Origin::Commands, 1);
    world.published();
    world.offer(Origin::Commands, 2);
    world.offer(Origin::Measurements, 3);
    world.handle(undelivered(Cause::Lost));
    world.connect(None);
    world.subscribe_all();
    assert_eq!(world.published().0.payload.len(), 2);
    assert_eq!(
        world.answers,
        [
            (Origin::Commands, Err(Cause::Lost)),
            (Origin::Measurements, Err(Cause::NotSent))
        ]
    );
}

#[test]
fn a_line_too_slow_for_a_ping_behind_a_message_gets_a_longer_keep_alive() {
    let mut world = World::connected(rules());
    let mut keep_alives = Vec::new();
    for _ in 0..9 {
        world.offer(Origin::Measurements, 1);
        world.published();
        world.handle(Input::Ended(broken(By::Line)));
        world.handle(undelivered(Cause::Lost));
        keep_alives.push(world.connect(None).keep_alive.as_secs());
        world.subscribe_all();
    }
    assert_eq!(keep_alives, [20, 40, 80, 160, 320, 640, 640, 640, 640]);
    world.offer(Origin::Measurements, 1);
    world.published();
    world.handle(Input::Published(Ok(())));
    world.handle(Input::Ended(broken(By::Line)));
    assert_eq!(world.connect(None).keep_alive.as_secs(), 10);
}

#[test]
fn a_refused_subscription_is_tried_again_after_a_minute_whatever_flows() {
    let mut world = World::new(rules());
    world.connect(None);
    assert!(matches!(world.next(), Action::Subscribe { .. }));
    world.handle(Input::Subscribed(Err(NotSubscribed::Refused("no".into()))));
    assert!(matches!(world.next(), Action::Subscribe { .. }));
    world.handle(Input::Subscribed(Ok(())));
    assert!(world.has_told(|notice| matches!(notice, Notice::SubscriptionRefused { .. })));
    let refused = world.now;
    let again = loop {
        world.offer(Origin::Measurements, 1);
        match world.next() {
            Action::Publish { .. } => {}
            Action::Subscribe { filter, .. } => break filter,
            action => panic!("{action:?}"),
        }
        world.handle(Input::Published(Ok(())));
        world.pass(1);
    };
    assert_eq!(
        (again.as_str(), (world.now - refused).as_secs()),
        ("all", 60)
    );
}

#[test]
fn a_subscription_that_costs_two_connections_is_left_out_for_an_hour() {
    let mut world = World::new(rules());
    let connection = |world: &mut World, costs: bool| {
        world.connect(None);
        loop {
            match world.wait_for(5) {
                Action::Subscribe { filter, .. } if filter == "all" => {
                    assert!(costs, "it is left out");
                    let ended = NotSubscribed::Ended(broken(By::Broker));
                    return world.handle(Input::Subscribed(Err(ended)));
                }
                Action::Subscribe { .. } => world.handle(Input::Subscribed(Ok(()))),
                _ => return,
            }
        }
    };
    connection(&mut world, true);
    connection(&mut world, true);
    connection(&mut world, false);
    assert!(world.has_told(|notice| matches!(notice, Notice::SubscriptionLeftOut { .. })));
    let begun = world.now;
    match world.wait_for(4000) {
        Action::Subscribe { filter, .. } => assert_eq!(filter, "all"),
        action => panic!("{action:?}"),
    }
    assert!(world.now - begun > Duration::from_secs(3500));
}

#[test]
fn a_line_that_breaks_while_subscribing_is_not_held_against_the_subscription() {
    let mut world = World::new(rules());
    for _ in 0..5 {
        world.connect(None);
        match world.wait_for(5) {
            Action::Subscribe { filter, .. } => assert_eq!(filter, "all"),
            action => panic!("{action:?}"),
        }
        let ended = NotSubscribed::Ended(broken(By::Line));
        world.handle(Input::Subscribed(Err(ended)));
    }
    assert_eq!(world.downs.len(), 4);
}

#[test]
fn after_a_subscription_that_cost_a_connection_a_measurement_goes_first() {
    let mut world = World::new(rules());
    world.connect(None);
    assert!(matches!(world.next(), Action::Subscribe { .. }));
    let ended = NotSubscribed::Ended(broken(By::Broker));
    world.handle(Input::Subscribed(Err(ended)));
    world.connect(None);
    assert!(matches!(world.link.next(world.now), Action::Tell(_)));
    world.link.handle(
        world.now,
        Input::Offer(Origin::Measurements, letter("t", 1, Some(2))),
    );
    // The one that is not doubtful comes first, then the measurement.
    match world.next() {
        Action::Subscribe { filter, .. } => assert_eq!(filter, "mine"),
        action => panic!("{action:?}"),
    }
    world.handle(Input::Subscribed(Ok(())));
    world.published();
    world.handle(Input::Published(Ok(())));
    assert!(matches!(world.next(), Action::Subscribe { .. }));
}

#[test]
fn a_subscription_without_an_answer_does_not_cost_the_connection() {
    let mut world = World::new(rules());
    for round in 0..2 {
        world.connect(None);
        for _ in 0..2 {
            assert!(matches!(world.wait_for(5), Action::Subscribe { .. }));
            world.pass(10);
            world.handle(Input::Subscribed(Err(NotSubscribed::Silent)));
        }
        assert!(matches!(world.wait_for(1), Action::Wait(_)));
        world.offer(Origin::Measurements, 1);
        world.published();
        world.handle(Input::Published(Ok(())));
        assert!(matches!(world.wait_for(1), Action::Wait(_)));
        assert_eq!(world.told.len(), 1 + round * 4, "{:?}", world.told);
        world.handle(Input::Ended(broken(By::Line)));
    }
}

#[test]
fn behind_a_subscription_without_an_answer_a_measurement_goes_before_the_next_one() {
    let mut world = World::new(with_status());
    world.connect(None);
    assert!(matches!(world.wait_for(5), Action::Subscribe { .. }));
    world.offer(Origin::Measurements, 1);
    world.handle(status("a"));
    world.handle(Input::Subscribed(Err(NotSubscribed::Silent)));
    for topic in ["status", "t"] {
        assert_eq!(world.published().0.topic, topic);
        world.handle(Input::Published(Ok(())));
    }
    assert!(matches!(world.next(), Action::Subscribe { .. }));
}

/// A connection on which a subscription is not waited for, because a measurement waits.
fn with_open_subscription() -> World {
    let mut world = World::new(rules());
    world.connect(None);
    match world.next() {
        Action::Subscribe { patience, .. } => assert_eq!(patience.as_secs(), 10),
        action => panic!("{action:?}"),
    }
    world.handle(Input::Subscribed(Err(NotSubscribed::Silent)));
    world.offer(Origin::Measurements, 1);
    world.published();
    world
}

fn answered_late(result: Result<(), NotSubscribed>) -> Input {
    Input::SubscribedLate {
        filter: "all".into(),
        result,
    }
}

#[test]
fn an_answer_to_a_subscription_may_come_behind_a_measurement() {
    for refused in [false, true] {
        let mut world = with_open_subscription();
        world.handle(Input::Published(Ok(())));
        world.offer(Origin::Measurements, 1);
        // What waits already does not wait for the other one either.
        match world.next() {
            Action::Subscribe { patience, .. } => assert_eq!(patience, Duration::ZERO),
            action => panic!("{action:?}"),
        }
        world.handle(Input::Subscribed(Ok(())));
        world.published();
        world.pass(9);
        world.handle(answered_late(match refused {
            false => Ok(()),
            true => Err(NotSubscribed::Refused("no".into())),
        }));
        world.pass(9);
        world.handle(Input::Published(Ok(())));
        let again = matches!(world.wait_for(60), Action::Subscribe { .. });
        assert_eq!(again, refused);
        assert_eq!(
            world.told.len(),
            1 + usize::from(refused),
            "{:?}",
            world.told
        );
        // It is no answer to anything else.
        world.handle(answered_late(Ok(())));
        world.next();
    }
}

#[test]
fn an_end_that_may_answer_a_subscription_is_not_held_against_the_list_behind_it() {
    for seconds in [9, 11] {
        let mut world = with_open_subscription();
        world.pass(seconds);
        world.handle(Input::Ended(broken(By::Broker)));
        world.handle(undelivered(Cause::Closed));
        world.connect(None);
        let cause = if seconds < 10 {
            Cause::Unclear
        } else {
            Cause::Closed
        };
        assert_eq!(world.answers, [(Origin::Measurements, Err(cause))]);
        // The second time it is left out, if it was blamed.
        assert!(matches!(world.wait_for(5), Action::Subscribe { .. }));
        world.handle(Input::Subscribed(Err(NotSubscribed::Silent)));
        world.handle(Input::Ended(broken(By::Broker)));
        world.connect(None);
        let left_out =
            world.has_told(|notice| matches!(notice, Notice::SubscriptionLeftOut { .. }));
        assert_eq!(left_out, seconds < 10);
    }
}

/// The newest measurement comes, the next one at the earliest a second later.
fn offer_latest(world: &mut World) {
    let letter = Letter {
        message: Message::latest("latest", vec![0; 50]),
        patience: None,
        link: world.ups.last().map(|(link, _)| *link),
    };
    world.handle(Input::Latest(letter, Duration::from_secs(1)));
}

#[test]
fn the_newest_measurement_gives_way_to_all_but_the_first_list() {
    let mut world = World::connected(rules());
    let link = world.ups.last().map(|(link, _)| *link);
    let list = || Input::Offer(Origin::Measurements, letter(VALUES, 10, link));
    world.handle(list());
    offer_latest(&mut world);
    assert_eq!(
        world.published().0.topic,
        "latest",
        "the first of a connection"
    );
    world.handle(Input::Published(Ok(())));
    assert_eq!(world.published().0.topic, VALUES);
    offer_latest(&mut world);
    world.handle(Input::Published(Ok(())));
    assert!(
        matches!(world.next(), Action::Wait(_)),
        "a second has not passed"
    );
    world.pass(1);
    world.handle(list());
    assert_eq!(world.published().0.topic, VALUES);
    world.handle(Input::Published(Ok(())));
    assert_eq!(
        world.published().0.topic,
        "latest",
        "while the next list is not ready"
    );
    world.handle(Input::Published(Ok(())));
    assert!(
        world
            .told
            .iter()
            .all(|notice| !matches!(notice, Notice::NoLatest { .. }))
    );
}

#[test]
fn a_broker_that_closes_on_the_newest_measurement_twice_gets_none_for_an_hour() {
    let mut world = World::connected(rules());
    offer_latest(&mut world);
    assert_eq!(world.published().0.topic, "latest");
    world.handle(Input::Published(Ok(())));
    world.handle(Input::Ended(broken(By::Broker)));
    world.connect(None);
    world.subscribe_all();
    offer_latest(&mut world);
    assert!(
        matches!(world.next(), Action::Wait(_)),
        "a measurement goes first"
    );
    let link = world.ups.last().map(|(link, _)| *link);
    world.handle(Input::Offer(Origin::Measurements, letter(VALUES, 10, link)));
    assert_eq!(world.published().0.topic, VALUES);
    world.handle(Input::Published(Ok(())));
    assert_eq!(world.published().0.topic, "latest");
    world.handle(Input::Published(Ok(())));
    world.handle(Input::Ended(broken(By::Broker)));
    world.connect(None);
    world.subscribe_all();
    assert!(matches!(world.told.last(), Some(Notice::Connected { .. })));
    let told = |world: &World| {
        let is_it = |notice: &&Notice| matches!(notice, Notice::NoLatest { .. });
        world.told.iter().filter(is_it).count()
    };
    assert_eq!(told(&world), 1);
    offer_latest(&mut world);
    assert!(matches!(world.wait_for(3000), Action::Wait(_)));
    assert!(matches!(world.wait_for(700), Action::Publish { .. }));
    assert_eq!(told(&world), 1);
}

#[test]
fn an_end_long_after_the_newest_measurement_or_behind_an_acknowledgement_is_not_its_fault() {
    let mut world = World::connected(rules());
    for _ in 0..4 {
        offer_latest(&mut world);
        assert_eq!(world.published().0.topic, "latest");
        world.handle(Input::Published(Ok(())));
        world.pass(3);
        world.handle(Input::Ended(broken(By::Broker)));
        world.connect(None);
        world.subscribe_all();
    }
}

fn with_status() -> Rules {
    Rules {
        status: Some(("status".into(), b"offline".to_vec())),
        ..rules()
    }
}

fn status(state: &str) -> Input {
    Input::Status(Announcement {
        payload: b"online".to_vec(),
        state: state.into(),
    })
}

#[test]
fn the_status_is_published_after_each_connect_retained() {
    let mut world = World::new(with_status());
    world.handle(status("a"));
    assert!(world.connect(None).will);
    world.subscribe_all();
    let (message, patience) = world.published();
    assert_eq!((message.topic.as_str(), message.retained), ("status", true));
    assert_eq!(patience.as_secs(), 10);
    world.handle(Input::Published(Ok(())));
    assert!(world.waits());
    world.handle(Input::Ended(broken(By::Line)));
    world.connect(None);
    world.subscribe_all();
    assert_eq!(world.published().0.payload, b"online");
}

#[test]
fn a_status_that_is_refused_in_words_is_left_out_for_an_hour() {
    let mut world = World::new(with_status());
    world.handle(status("a"));
    world.connect(None);
    world.subscribe_all();
    world.published();
    world.handle(undelivered(Cause::RefusesAll));
    assert!(world.waits() && world.downs.is_empty());
    assert!(world.has_told(|notice| matches!(notice, Notice::StatusLeftOut { .. })));
    world.handle(status("b"));
    assert!(matches!(world.wait_for(3500), Action::Wait(_)));
    assert!(matches!(world.wait_for(200), Action::Publish { .. }));
}

#[test]
fn a_status_that_costs_two_connections_is_left_out_and_one_that_the_line_loses_is_not() {
    for (by, cause, costs) in [
        (By::Broker, Cause::Closed, true),
        (By::Broker, Cause::Lost, true),
        (By::Line, Cause::Silent { answers: true }, true),
        (By::Line, Cause::Silent { answers: false }, false),
        (By::Line, Cause::Lost, false),
    ] {
        let mut world = World::new(with_status());
        world.handle(status("a"));
        for _ in 0..2 {
            world.connect(None);
            world.subscribe_all();
            world.published();
            world.handle(Input::Ended(broken(by)));
            world.handle(undelivered(cause));
        }
        world.connect(None);
        world.subscribe_all();
        assert_eq!(
            matches!(world.wait_for(5), Action::Wait(_)),
            costs,
            "{cause:?}"
        );
    }
}

#[test]
fn a_last_will_that_the_broker_refuses_twice_is_left_out() {
    let mut world = World::new(with_status());
    assert!(world.fail(NoConnectionKind::NeedsPerson).will);
    assert!(world.fail(NoConnectionKind::NeedsPerson).will);
    assert!(!world.connect(None).will);
    world.handle(status("a"));
    world.subscribe_all();
    assert!(world.waits());
    assert!(world.has_told(|notice| matches!(notice, Notice::StatusLeftOut { .. })));
    let mut world = World::new(with_status());
    for _ in 0..5 {
        assert!(world.fail(NoConnectionKind::Unreachable).will);
    }
}

#[test]
fn what_may_be_the_fault_of_the_last_will_is_not_waited_for_long() {
    let mut world = World::new(with_status());
    let begun = world.now;
    for _ in 0..2 {
        assert!(world.fail(NoConnectionKind::NeedsPerson).will);
    }
    assert!(!world.connect(None).will);
    assert!(world.now - begun < Duration::from_secs(4));
}

#[test]
fn messages_that_must_not_come_cost_the_subscriptions_at_the_second_time() {
    let mut world = World::connected(rules());
    world.handle(Input::Ended(broken(By::GateMessage)));
    world.connect(None);
    world.subscribe_all();
    world.handle(Input::Ended(broken(By::GateMessage)));
    world.connect(None);
    assert!(world.waits());
    let left_out = |notice: &&Notice| matches!(notice, Notice::SubscriptionLeftOut { .. });
    assert_eq!(world.told.iter().filter(left_out).count(), 2);
}

#[test]
fn a_message_too_large_counts_only_at_once_after_a_subscription() {
    for (seconds, costs) in [(14, true), (15, false)] {
        let mut world = World::connected(rules());
        for _ in 0..3 {
            world.pass(seconds);
            world.handle(Input::Ended(broken(By::GateMessage)));
            world.connect(None);
            if world.has_told(|notice| matches!(notice, Notice::SubscriptionLeftOut { .. })) {
                break;
            }
            world.subscribe_all();
        }
        let told = world.has_told(|notice| matches!(notice, Notice::SubscriptionLeftOut { .. }));
        assert_eq!(told, costs, "after {seconds} s");
    }
}

#[test]
fn an_illegal_answer_to_a_subscription_never_costs_it() {
    let mut world = World::new(rules());
    for _ in 0..4 {
        world.connect(None);
        assert!(matches!(world.wait_for(5), Action::Subscribe { .. }));
        let ended = NotSubscribed::Ended(broken(By::Gate));
        world.handle(Input::Subscribed(Err(ended)));
    }
    assert!(!world.has_told(|notice| matches!(notice, Notice::SubscriptionLeftOut { .. })));
}

#[test]
fn other_packets_that_must_not_come_cost_no_subscription() {
    let mut world = World::connected(rules());
    for _ in 0..4 {
        world.handle(Input::Ended(broken(By::Gate)));
        world.connect(None);
        world.subscribe_all();
    }
    assert!(world.waits());
    assert!(!world.has_told(|notice| matches!(notice, Notice::SubscriptionLeftOut { .. })));
}

#[test]
fn the_client_id_is_suspected_only_where_nothing_explains_the_end() {
    let suspected = |by, busy: bool| {
        let mut world = World::connected(rules());
        for _ in 0..4 {
            if busy {
                world.offer(Origin::Measurements, 1);
                world.published();
                world.handle(Input::Ended(broken(by)));
                world.handle(undelivered(Cause::Closed));
            } else {
                world.handle(Input::Ended(broken(by)));
            }
            world.connect(None);
            world.subscribe_all();
        }
        world.has_told(|notice| {
            matches!(
                notice,
                Notice::Disconnected {
                    same_client: true,
                    ..
                }
            )
        })
    };
    assert!(suspected(By::Broker, false));
    assert!(!suspected(By::Broker, true));
    assert!(!suspected(By::Line, false));
}

#[test]
fn at_the_end_what_is_queued_goes_out_and_then_the_goodbye() {
    let mut world = World::new(with_status());
    world.handle(status("a"));
    world.connect(None);
    world.subscribe_all();
    world.published();
    world.handle(Input::Published(Ok(())));
    world.offer(Origin::Measurements, 1);
    world.handle(Input::Stop);
    assert!(world.published().1 <= LAST_PATIENCE);
    world.handle(Input::Published(Ok(())));
    assert!(world.waits());
    world.handle(Input::Closed(Origin::Measurements));
    world.handle(Input::Closed(Origin::Commands));
    let (message, patience) = world.published();
    assert_eq!(message.payload, b"offline");
    assert!(patience <= Duration::from_secs(1));
    world.handle(Input::Published(Ok(())));
    assert!(matches!(world.next(), Action::Done));
    assert_eq!((world.closes, world.downs.len()), (1, 0));
}

#[test]
fn the_end_does_not_wait_for_ever_and_returns_what_waits() {
    let mut world = World::connected(rules());
    world.handle(Input::Stop);
    assert!(world.waits());
    world.pass(5);
    assert!(matches!(world.next(), Action::Done));
    assert_eq!(world.closes, 1);
    let mut world = World::new(rules());
    world.fail(NoConnectionKind::Unreachable);
    world.offer(Origin::Commands, 1);
    world.handle(Input::Stop);
    assert!(matches!(world.next(), Action::Done));
    assert_eq!(world.answers, [(Origin::Commands, Err(Cause::NotSent))]);
}

#[test]
fn that_the_certificate_is_not_checked_is_told_at_every_connect() {
    let insecure = Rules {
        insecure: true,
        ..rules()
    };
    let mut world = World::new(insecure);
    for _ in 0..3 {
        world.fail(NoConnectionKind::Unreachable);
    }
    let told = world
        .told
        .iter()
        .filter(|notice| **notice == Notice::Insecure);
    assert_eq!(told.count(), 3);
}

#[test]
fn connections_that_lasted_do_not_point_to_a_second_client() {
    let mut world = World::connected(rules());
    let suspected = |notice: &Notice| matches!(notice, Notice::Disconnected { same_client, .. } if *same_client);
    for (seconds, expected) in [
        (14, false),
        (14, false),
        (15, false),
        (14, false),
        (14, false),
    ]
    .into_iter()
    .chain([(14, true)])
    {
        world.pass(seconds);
        world.handle(Input::Ended(broken(By::Broker)));
        world.connect(None);
        world.subscribe_all();
        assert_eq!(world.told.iter().any(suspected), expected);
    }
}

#[test]
fn nothing_else_is_done_while_something_is_under_way_or_right_after_an_end() {
    let mut world = World::new(rules());
    let waits = |world: &mut World| {
        let now = world.now;
        matches!(world.next(), Action::Wait(until) if until > now)
    };
    world.attempt();
    assert!(waits(&mut world));
    world.handle(Input::Connected {
        maximum_packet: None,
        retains: true,
    });
    world.subscribe_all();
    world.offer(Origin::Measurements, 1);
    world.published();
    assert!(waits(&mut world));
    world.handle(Input::Published(Ok(())));
    world.handle(Input::Ended(broken(By::Line)));
    assert!(waits(&mut world));
}

#[test]
fn an_end_behind_a_reply_that_is_not_acknowledged_is_not_held_against_the_list() {
    let mut reply = letter("t", 1, None);
    reply.message.qos = 0;
    for (acknowledged, expected) in [(false, Cause::Unclear), (true, Cause::Closed)] {
        let mut world = World::connected(rules());
        world.handle(Input::Offer(Origin::Commands, reply.clone()));
        world.published();
        world.handle(Input::Published(Ok(())));
        if acknowledged {
            world.offer(Origin::Measurements, 1);
            world.published();
            world.handle(Input::Published(Ok(())));
        }
        world.offer(Origin::Measurements, 1);
        world.published();
        world.handle(Input::Ended(broken(By::Broker)));
        world.handle(undelivered(Cause::Closed));
        world.connect(None);
        let last = (Origin::Measurements, Err(expected));
        assert_eq!(world.answers.last(), Some(&last));
    }
}

#[test]
fn only_a_message_that_the_line_has_lost_makes_the_keep_alive_longer() {
    for (by, cause) in [(By::Broker, Cause::Lost), (By::Line, Cause::NotSent)] {
        let mut world = World::connected(rules());
        world.offer(Origin::Measurements, 1);
        world.published();
        world.handle(Input::Ended(broken(by)));
        world.handle(undelivered(cause));
        assert_eq!(world.connect(None).keep_alive.as_secs(), 10);
    }
}

#[test]
fn a_connection_that_stood_clears_the_subscriptions_of_a_message_that_must_not_come() {
    for (seconds, left_out) in [(59, true), (60, false)] {
        let mut world = World::connected(rules());
        world.handle(Input::Ended(broken(By::GateMessage)));
        world.connect(None);
        world.subscribe_all();
        world.pass(seconds);
        world.handle(Input::Ended(broken(By::Line)));
        world.connect(None);
        world.subscribe_all();
        world.handle(Input::Ended(broken(By::GateMessage)));
        world.connect(None);
        let told = world.has_told(|notice| matches!(notice, Notice::SubscriptionLeftOut { .. }));
        assert_eq!(told, left_out, "after {seconds} s");
    }
}

#[test]
fn a_subscription_that_cost_a_connection_waits_two_seconds_for_a_measurement() {
    let mut world = World::new(rules());
    world.connect(None);
    assert!(matches!(world.next(), Action::Subscribe { .. }));
    let ended = NotSubscribed::Ended(broken(By::Broker));
    world.handle(Input::Subscribed(Err(ended)));
    world.connect(None);
    let since = world.now;
    assert!(matches!(world.next(), Action::Subscribe { filter, .. } if filter == "mine"));
    world.handle(Input::Subscribed(Ok(())));
    assert!(matches!(world.next(), Action::Wait(until) if until == since + PRECEDENCE));
}

#[test]
fn a_status_larger_than_the_broker_takes_is_not_published() {
    let bytes = packet_size(&Message::status("status", b"online".to_vec()), Protocol::V5);
    for (maximum, goes) in [(bytes - 1, false), (bytes, true), (bytes + 1, true)] {
        let mut world = World::new(with_status());
        world.handle(status("a"));
        world.connect(Some(maximum));
        world.subscribe_all();
        assert_eq!(matches!(world.next(), Action::Publish { .. }), goes);
    }
}

#[test]
fn a_status_that_is_left_out_has_no_goodbye_either() {
    let mut world = World::new(with_status());
    world.handle(status("a"));
    world.connect(None);
    world.subscribe_all();
    world.published();
    world.handle(undelivered(Cause::RefusesAll));
    for input in [
        Input::Stop,
        Input::Closed(Origin::Measurements),
        Input::Closed(Origin::Commands),
    ] {
        world.handle(input);
    }
    assert!(matches!(world.next(), Action::Done));
}

#[test]
fn only_where_a_message_has_ended_the_connection_the_next_attempt_comes_soon() {
    let longest = |by, busy: bool| {
        let mut world = World::connected(rules());
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            if busy {
                world.offer(Origin::Measurements, 1);
                world.published();
            }
            world.handle(Input::Ended(broken(by)));
            if busy {
                world.handle(undelivered(Cause::Closed));
            }
            let ended = world.now;
            world.connect(None);
            longest = longest.max(world.now - ended);
            world.subscribe_all();
        }
        longest
    };
    let soon = Duration::from_secs(4);
    assert!(longest(By::Broker, true) <= soon);
    assert!(longest(By::Line, true) > soon);
    assert!(longest(By::Broker, false) > soon && longest(By::Line, false) > soon);
}

#[test]
fn a_broker_that_keeps_nothing_gets_no_newest_measurement_and_that_is_told_once() {
    let mut world = World::new(rules());
    world.attempt();
    world.handle(Input::Connected {
        maximum_packet: None,
        retains: false,
    });
    world.subscribe_all();
    for _ in 0..2 {
        offer_latest(&mut world);
        assert!(matches!(world.wait_for(5), Action::Wait(_)));
    }
    let told = |notice: &&Notice| matches!(notice, Notice::NoLatest { .. });
    assert_eq!(world.told.iter().filter(told).count(), 1);
}

#[test]
fn a_newest_measurement_is_meant_for_its_connection_and_rests_on_that_only() {
    let offer = |world: &mut World, link| {
        let mut letter = letter("latest", 1, Some(link));
        letter.message = Message::latest("latest", vec![0]);
        world.handle(Input::Latest(letter, Duration::from_secs(1000)));
    };
    let mut world = World::connected(rules());
    offer(&mut world, 7);
    assert!(world.waits());
    for link in 1..3 {
        offer(&mut world, link);
        assert_eq!(world.published().0.topic, "latest");
        world.handle(Input::Published(Ok(())));
        offer(&mut world, link);
        assert!(world.waits());
        world.handle(Input::Ended(broken(By::Line)));
        world.connect(None);
        world.subscribe_all();
    }
}

#[test]
fn an_end_behind_an_acknowledgement_is_not_the_fault_of_the_newest_measurement() {
    let mut world = World::connected(rules());
    for _ in 0..4 {
        offer_latest(&mut world);
        assert_eq!(world.published().0.topic, "latest");
        world.handle(Input::Published(Ok(())));
        world.offer(Origin::Measurements, 1);
        world.published();
        world.handle(Input::Published(Ok(())));
        world.handle(Input::Ended(broken(By::Broker)));
        world.connect(None);
        world.subscribe_all();
    }
    assert!(!world.has_told(|notice| matches!(notice, Notice::NoLatest { .. })));
}

#[test]
fn at_the_end_nothing_is_waited_for_that_is_not_done_any_more() {
    let mut world = World::new(rules());
    world.connect(None);
    world.handle(Input::Stop);
    let now = world.now;
    assert!(matches!(world.next(), Action::Wait(until) if until > now));
}

fn told_no_latest(world: &World) -> usize {
    let is_it = |notice: &&Notice| matches!(notice, Notice::NoLatest { .. });
    world.told.iter().filter(is_it).count()
}

/// The topic of the message that goes now; `None`: none.
fn goes(world: &mut World) -> Option<String> {
    match world.next() {
        Action::Publish { message, .. } => Some(message.topic),
        _ => None,
    }
}

fn closed_behind_a_list(world: &mut World) {
    world.handle(Input::Ended(broken(By::Broker)));
    world.handle(undelivered(Cause::Closed));
    world.connect(None);
    world.subscribe_all();
}

/// Good lists go through, the newest measurement follows, and the list behind it is poison.
#[test]
fn the_newest_measurement_is_not_blamed_for_the_list_behind_it() {
    for seconds in [0, 5] {
        let mut world = World::connected(rules());
        for _ in 0..4 {
            offer_latest(&mut world);
            while goes(&mut world).is_some() {
                world.handle(Input::Published(Ok(())));
                world.offer(Origin::Measurements, 100);
                if goes(&mut world).as_deref() == Some("latest") {
                    world.handle(Input::Published(Ok(())));
                    world.published();
                }
                world.pass(seconds);
                closed_behind_a_list(&mut world);
                world.offer(Origin::Measurements, 100);
                offer_latest(&mut world);
                assert_eq!(goes(&mut world).as_deref(), Some("t"), "the list, alone");
                closed_behind_a_list(&mut world);
            }
            world.offer(Origin::Measurements, 20);
            world.published();
            world.handle(Input::Published(Ok(())));
            world.pass(2);
        }
        let causes: Vec<_> = world.answers.iter().map(|(_, result)| *result).collect();
        assert!(causes.contains(&Err(Cause::Unclear)) && causes.contains(&Err(Cause::Closed)));
        assert_eq!(told_no_latest(&world), 0, "{seconds}");
    }
}

/// The list that was in flight is taken without it, and it follows when the connection has stood.
#[test]
fn a_broker_that_closes_on_the_newest_measurement_with_a_list_behind_it_gets_none_for_an_hour() {
    let mut world = World::connected(rules());
    offer_latest(&mut world);
    for told in [0, 1] {
        assert_eq!(world.published().0.topic, "latest");
        world.handle(Input::Published(Ok(())));
        world.offer(Origin::Measurements, 100);
        world.published();
        closed_behind_a_list(&mut world);
        offer_latest(&mut world);
        for bytes in [40, 60] {
            assert_eq!(told_no_latest(&world), 0);
            world.offer(Origin::Measurements, bytes);
            assert_eq!(goes(&mut world).as_deref(), Some("t"));
            world.handle(Input::Published(Ok(())));
        }
        assert_eq!(goes(&mut world), None, "the connection has not stood yet");
        assert_eq!(told_no_latest(&world), told);
    }
    assert!(matches!(world.wait_for(3000), Action::Wait(_)));
}

#[test]
fn a_line_that_breaks_after_each_connect_is_not_the_fault_of_the_newest_measurement() {
    let mut world = World::connected(rules());
    let mut sent = 0;
    for nth in 0..20 {
        offer_latest(&mut world);
        let first = goes(&mut world);
        if first.is_some() {
            world.handle(Input::Published(Ok(())));
        } else {
            world.offer(Origin::Measurements, 100);
            world.published();
            world.handle(Input::Published(Ok(())));
        }
        let latest = first.or_else(|| goes(&mut world)).is_some();
        sent += u32::from(latest);
        world.now += Duration::from_millis(10);
        world.handle(Input::Ended(broken(By::Broker)));
        world.connect(None);
        world.subscribe_all();
        assert_eq!(told_no_latest(&world), 0, "{nth}");
    }
    assert!(sent > 0);
    offer_latest(&mut world);
    assert_eq!(world.published().0.topic, "latest");
}

#[test]
fn an_end_that_may_answer_something_else_is_not_held_against_the_newest_measurement() {
    let mut world = World::connected(rules());
    for _ in 0..4 {
        offer_latest(&mut world);
        assert_eq!(world.published().0.topic, "latest");
        world.handle(Input::Published(Ok(())));
        let mut reply = letter("reply", 10, None);
        reply.message.qos = 0;
        world.handle(Input::Offer(Origin::Commands, reply));
        assert_eq!(world.published().0.topic, "reply");
        world.handle(Input::Published(Ok(())));
        world.handle(Input::Ended(broken(By::Broker)));
        world.connect(None);
        world.subscribe_all();
    }
    assert_eq!(told_no_latest(&world), 0);
}
