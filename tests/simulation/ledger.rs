//! What became of every measurement, as the world sees it.

use std::collections::BTreeMap;
use std::time::Instant;

use mqtt_handler::model::stream_id::StreamId;

use crate::stream::Uid;

/// What a broker may have against one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poison {
    Refused,
    Closed,
    Silent,
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct Fact {
    pub id: StreamId,
    /// The stream it was added to: another one after each DEL.
    pub incarnation: usize,
    /// Bytes of padding beside the number.
    pub pad: usize,
    pub poison: Option<Poison>,
    /// How often it arrived, and whether the device knows.
    pub arrived: u32,
    pub confirmed: bool,
    /// It was confirmed behind one that the broker had refused together with empty lists: that proves
    /// nothing, all of it goes again, and until then it counts as unsent.
    pub in_doubt: bool,
    /// The broker has turned it away alone, for what it is.
    pub condemned: bool,
    pub dead: bool,
    /// The device goes on from before it and does not know of its copy: with its stream it counts as
    /// lost.
    pub copy_unknown: bool,
    /// MQTT 3.1.1 has confirmed it and thrown it away, which nobody can know.
    pub thrown_away: bool,
    /// Somebody else has set the cursor behind it.
    pub skipped: bool,
    /// It was behind a cursor of somebody else at any time.
    pub was_skipped: bool,
    /// Somebody else has removed it.
    pub removed: bool,
    /// It was deleted with the whole stream before anybody could have looked.
    pub unseen: bool,
    /// Redis has forgotten it: it is not in the account of anybody.
    pub forgotten: bool,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The name of the check.
    pub check: &'static str,
    pub what: String,
}

#[derive(Default)]
pub struct Ledger {
    pub facts: Vec<Fact>,
    pub incarnation: usize,
    /// There were so many.
    streams: usize,
    /// The largest ID that arrived, of each incarnation.
    highest: BTreeMap<usize, StreamId>,
    pub repeated: u64,
    /// Repetitions that faults explain.
    pub repeats_allowed: u64,
    /// MQTT 3.1.1 was fallen back to as the rules say: what it throws away is beyond this side.
    pub old_version_is_right: bool,
    pub broken: Option<Broken>,
    /// What the broker has refused together with empty lists.
    pub refused: Vec<Uid>,
    pub arrivals: u64,
}

impl Ledger {
    pub fn broken(&mut self, check: &'static str, what: String) {
        if self.broken.is_none() {
            self.broken = Some(Broken { check, what });
        }
    }

    pub fn added(
        &mut self,
        id: StreamId,
        pad: usize,
        poison: Option<Poison>,
        skipped: bool,
    ) -> Uid {
        self.facts.push(Fact {
            id,
            incarnation: self.incarnation,
            pad,
            poison,
            arrived: 0,
            confirmed: false,
            in_doubt: false,
            condemned: false,
            dead: false,
            copy_unknown: false,
            thrown_away: false,
            skipped,
            was_skipped: skipped,
            removed: false,
            unseen: false,
            forgotten: false,
        });
        self.facts.len() - 1
    }

    /// The device knows that it has arrived.
    pub fn confirmed(&mut self, uid: Uid) {
        let (id, incarnation) = (self.facts[uid].id, self.facts[uid].incarnation);
        let before = |fact: &Fact| fact.incarnation == incarnation && fact.id < id;
        let mut refused = self.refused.iter().map(|refused| &self.facts[*refused]);
        let in_doubt = refused.any(|fact| before(fact) && fact.arrived == 0);
        let fact = &mut self.facts[uid];
        (fact.confirmed, fact.in_doubt) = (true, in_doubt);
    }

    /// Another stream begins.
    pub fn another_stream(&mut self) -> usize {
        self.streams += 1;
        self.incarnation = self.streams;
        self.incarnation
    }

    /// The broker has taken these.
    pub fn arrived(&mut self, uids: &[Uid]) {
        for uid in uids {
            self.arrivals += 1;
            let fact = &mut self.facts[*uid];
            fact.arrived += 1;
            if fact.arrived > 1 {
                self.repeated += 1;
                continue;
            }
            if fact.forgotten {
                continue;
            }
            let (id, excused) = (fact.id, fact.was_skipped || fact.condemned);
            let highest = self.highest.entry(fact.incarnation).or_default();
            if id < *highest && !excused {
                let what = format!("{id} arrived first after {highest}");
                self.broken("2 in order", what);
            } else {
                *highest = (*highest).max(id);
            }
        }
        if self.repeated > self.repeats_allowed {
            let what = format!(
                "{} measurements repeated, faults explain {}",
                self.repeated, self.repeats_allowed
            );
            self.broken("3 one list a fault", what);
        }
    }

    /// What came after this has never been: the same IDs may be given again.
    pub fn begins_again_at(&mut self, newest: StreamId, incarnation: usize) {
        if let Some(highest) = self.highest.get_mut(&incarnation) {
            *highest = (*highest).min(newest);
        }
    }

    /// Measurements that others have removed before they were sent: at least, and at most
    /// (where the confirmation was on its way).
    pub fn losses(&self) -> (u64, u64) {
        let gone = self.facts.iter().filter(|f| f.removed && !f.skipped);
        let least = gone.clone().filter(|f| !f.dead && f.arrived == 0);
        let least = least.filter(|f| !f.unseen && !f.thrown_away);
        let most = gone.filter(|f| (!f.dead || f.copy_unknown) && (!f.confirmed || f.in_doubt));
        (least.count() as u64, most.count() as u64)
    }
}

/// A moment as seconds since the beginning.
pub fn clock(base: Instant, at: Instant) -> String {
    format!("{:10.6}", at.saturating_duration_since(base).as_secs_f64())
}
