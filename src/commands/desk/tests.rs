use super::*;
use crate::commands::limits::MAX_REQUEST;
use crate::commands::world::{World, all};
use crate::model::compression::Compression;
use crate::model::failure::Cause;

struct Office {
    desk: Desk,
    world: World,
    now: Instant,
}

impl Office {
    fn new() -> Office {
        let form = Form {
            topic: "response".into(),
            qos: 0,
            counted_topic: "values".len(),
        };
        let limits = BatchLimits {
            max_bytes: 10_000,
            max_count: 50,
            compression: Compression::None,
        };
        Office {
            desk: Desk::new(all(), limits, "values", form),
            world: World {
                measurements: 1000,
                ..World::default()
            },
            now: Instant::now(),
        }
    }

    fn ask(&mut self, text: &str) {
        self.arrives(text, text.len(), false);
    }

    fn arrives(&mut self, text: &str, bytes: usize, retained: bool) {
        let message = Incoming {
            topic: "request\n".into(),
            payload: text.into(),
            bytes,
            retained,
            correlation: Some(b"c".to_vec()),
        };
        self.desk.serve(self.now, message, &mut self.world);
    }

    /// The next message: `list`, the text of a reply, or nothing.
    fn next(&mut self) -> Option<String> {
        let message = self.desk.next(self.now, &mut self.world)?;
        if message.topic == "values" {
            assert_eq!((message.qos, message.correlation), (1, None));
            return Some("list".into());
        }
        Some(String::from_utf8(message.payload).expect("UTF-8"))
    }

    fn confirmed(&mut self) {
        self.desk.answered(self.now, Ok(()));
    }

    /// Everything that goes out, confirmed at once.
    fn all(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(message) = self.next() {
            all.push(message);
            self.confirmed();
        }
        all
    }
}

#[test]
fn one_message_is_in_flight_and_one_reply_waits() {
    let mut office = Office::new();
    office.ask(r#"{"command":"get_status"}"#);
    assert!(!office.desk.takes_commands());
    let reply = office.next().expect("a reply");
    assert!(
        reply.starts_with(r#"{"command":"get_status","status":{"version":"1","#),
        "{reply}"
    );
    assert!(office.desk.takes_commands());
    office.ask(r#"{"command":"cancel","id":1}"#);
    assert!(!office.desk.takes_commands());
    assert_eq!(office.next(), None);
    office.confirmed();
    let error = r#"{"command":"cancel","error":"no send_measurements is running","id":1}"#;
    assert_eq!(office.all(), [error]);
}

#[test]
fn other_commands_are_answered_between_the_lists() {
    let mut office = Office::new();
    office.ask(r#"{"command":"send_measurements","id":1}"#);
    assert_eq!(office.next().as_deref(), Some("list"));
    office.ask(r#"{"command":"send_measurements","id":2}"#);
    assert_eq!(office.next(), None);
    office.confirmed();
    assert!(
        office
            .next()
            .is_some_and(|reply| reply.contains("another send_measurements"))
    );
    office.confirmed();
    assert_eq!(office.next().as_deref(), Some("list"));
    office.confirmed();
    let rest = office.all();
    let end = r#"{"command":"send_measurements","count":1000,"id":1}"#;
    assert_eq!(rest.last().map(String::as_str), Some(end));
    // Another one is welcome now.
    office.ask(r#"{"command":"send_measurements","count":1}"#);
    assert_eq!(
        office.all(),
        ["list", r#"{"command":"send_measurements","count":1}"#]
    );
}

#[test]
fn a_cancelled_job_sends_no_further_list() {
    let mut office = Office::new();
    office.ask(r#"{"command":"send_measurements","id":1}"#);
    assert_eq!(office.next().as_deref(), Some("list"));
    office.ask(r#"{"command":"cancel","id":2}"#);
    office.confirmed();
    let ended = r#"{"command":"send_measurements","count":32,"cancelled":true,"id":1}"#;
    assert_eq!(office.all(), [r#"{"command":"cancel","id":2}"#, ended]);
}

#[test]
fn a_reboot_waits_for_its_reply_and_goes_before_everything_else() {
    let mut office = Office::new();
    office.ask(r#"{"command":"send_measurements"}"#);
    office.ask(r#"{"command":"reboot"}"#);
    assert_eq!(office.next().as_deref(), Some(r#"{"command":"reboot"}"#));
    assert!(office.world.done.is_empty());
    office.ask(r#"{"command":"reboot"}"#);
    office
        .desk
        .answered(office.now, Err(Undelivered::new(Cause::NotSent, "")));
    assert_eq!(office.next().as_deref(), Some(r#"{"command":"reboot"}"#));
    office.confirmed();
    let second = office.next();
    assert_eq!(office.world.done, ["quiesce", "reboot"]);
    assert!(second.is_some_and(|reply| reply.contains("at most once in 60 s")));
}

#[test]
fn what_is_retained_or_too_large_is_answered_and_not_done() {
    let mut office = Office::new();
    office.arrives(r#"{"command":"REBOOT","id":3}"#, 27, true);
    let refused = office.all();
    assert!(
        refused[0]
            .contains(r#""command":"reboot","error":"the message is retained on \"request\\n\""#),
        "{refused:?}"
    );
    office.arrives("", MAX_REQUEST + 1, false);
    assert!(office.all()[0].contains("65537 bytes"));
    assert!(office.world.done.is_empty());
}

#[test]
fn dropped_commands_are_told_when_there_is_time_or_at_last() {
    let mut office = Office::new();
    office.desk.dropped(office.now, 0);
    assert!(office.all().is_empty());
    office.desk.dropped(office.now, 7);
    assert!(office.all()[0].contains(r#"{"command":null,"error":"7 commands were dropped"#));
    assert!(office.desk.tells_drops(office.now, false));
    assert!(!office.desk.tells_drops(office.now, false));
    assert!(office.desk.tells_drops(office.now, true));
}

#[test]
fn neither_a_reply_nor_a_line_repeats_what_is_long() {
    let mut office = Office::new();
    let long = "😀\\n".repeat(5000);
    for text in [
        format!(r#"{{"command":"{long}"}}"#),
        format!(r#"{{"command":"get_config","key":"{long}"}}"#),
        format!(
            r#"{{"command":"set_config","key":"mqtt_sender:interval","value":"{}"}}"#,
            "x".repeat(4000)
        ),
        long.clone(),
    ] {
        office.ask(&text);
        let replies = office.all();
        assert!(replies[0].len() < 1000, "{}", replies[0]);
        for line in office.desk.lines(Instant::now()) {
            assert!(
                line.text.len() < 900 && !line.text.contains('\n'),
                "{}",
                line.text
            );
        }
        office.now += std::time::Duration::from_secs(2);
    }
}
