//! `{"command":"cancel"}`: ends a running `send_measurements`, which then answers for itself.

use super::job::Job;
use super::reply::Reply;

pub const NAME: &str = "cancel";

/// # Errors
/// There is nothing to end.
pub fn apply(running: Option<&mut Job>) -> Result<Reply, String> {
    let job = running.ok_or("no send_measurements is running")?;
    job.cancel();
    Ok(Reply::done(NAME))
}
