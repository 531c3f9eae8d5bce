//! `{"command":"reboot"}`: asks the supervisor of balena to reboot the device.
//!
//! The reply is handed to the network first, and what is in flight is confirmed: afterwards
//! there may be no time for either.

use std::time::Instant;

use super::Context;
use super::limits::REBOOT_PAUSE;
use super::reply::Reply;
use super::request::Fields;
use super::supervisor::RebootError;

pub const NAME: &str = "reboot";

#[derive(Debug)]
pub struct Reboot {
    /// Also against an update lock.
    pub force: bool,
}

/// When a reboot was asked for last, unless it was refused.
#[derive(Debug, Default)]
pub struct Reboots(Option<Instant>);

impl Reboot {
    pub fn parse(fields: &Fields) -> Result<Reboot, String> {
        let force = fields.flag("force")?;
        Ok(Reboot { force })
    }

    /// The reply that goes first.
    pub fn apply(
        &self,
        now: Instant,
        reboots: &mut Reboots,
        context: &dyn Context,
    ) -> Result<Reply, String> {
        context.can_reboot().map_err(|error| error.to_string())?;
        let since = reboots.0.map(|last| now.duration_since(last));
        if let Some(since) = since.filter(|since| *since < REBOOT_PAUSE) {
            let (done, pause) = (since.as_secs(), REBOOT_PAUSE.as_secs());
            return Err(format!(
                "a reboot was asked for {done} s ago, and is at most once in {pause} s"
            ));
        }
        reboots.0 = Some(now);
        Ok(Reply::done(NAME))
    }

    /// Asks for the reboot, after the reply has gone.
    pub fn carry_out(
        &self,
        reboots: &mut Reboots,
        context: &mut dyn Context,
    ) -> Result<(), String> {
        context.quiesce();
        context.reboot(self.force).map_err(|error| {
            // When the outcome is unknown, the device may be about to reboot.
            if !matches!(error, RebootError::Unreachable(_)) {
                reboots.0 = None;
            }
            context.resume();
            error.to_string()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::world::World;
    use std::time::Duration;

    #[test]
    fn a_reboot_is_asked_for_at_most_once_a_minute() {
        let (begin, mut world, mut reboots) =
            (Instant::now(), World::default(), Reboots::default());
        let reboot = Reboot { force: false };
        let mut ask = |seconds| {
            let now = begin + Duration::from_secs(seconds);
            reboot.apply(now, &mut reboots, &world).is_ok()
        };
        // Also before the first has been carried out.
        assert_eq!(
            [0, 1, 59, 60, 61].map(&mut ask),
            [true, false, false, true, false]
        );
        assert!(reboot.carry_out(&mut reboots, &mut world).is_ok());
        assert_eq!(world.done, ["quiesce", "reboot"]);
    }

    #[test]
    fn a_refusal_lets_everything_go_on_and_counts_for_nothing() {
        let (now, mut world, mut reboots) = (Instant::now(), World::default(), Reboots::default());
        let reboot = Reboot { force: true };
        for (refusal, again) in [
            (RebootError::Unauthorized, true),
            (RebootError::Unreachable("no".into()), false),
        ] {
            world.refusal = Some(refusal);
            assert!(reboot.apply(now, &mut reboots, &world).is_ok());
            assert!(reboot.carry_out(&mut reboots, &mut world).is_err());
            assert_eq!(world.done, ["quiesce", "reboot", "resume"]);
            world.done.clear();
            assert_eq!(reboot.apply(now, &mut reboots, &world).is_ok(), again);
            reboots = Reboots::default();
        }
    }
}
