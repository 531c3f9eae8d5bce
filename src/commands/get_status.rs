//! `{"command":"get_status"}`: the status of this moment, as on `topic_status`.

use super::Context;
use super::reply::Reply;

pub const NAME: &str = "get_status";

pub fn apply(context: &dyn Context) -> Reply {
    Reply {
        status: Some(Box::new(context.status())),
        ..Reply::done(NAME)
    }
}
