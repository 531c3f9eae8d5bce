//! The main job: every measurement once, in order, byte by byte, and nothing lost when the
//! service or the broker is killed.

mod support;

use std::time::Duration;

use support::receiver::{first_arrivals, ids_of};
use support::{World, wait_until};

fn consecutive(first: u64, count: u64) -> Vec<(u64, u64)> {
    (first..first + count).map(|ms| (ms, 0)).collect()
}

#[test]
fn a_backlog_arrives_once_each_in_order_within_both_bounds() {
    let world = World::new();
    world.redis.fill(1000, 20_000);
    let _service = world.start_with(&[("BATCH_MAX_COUNT", "300"), ("BATCH_MAX_BYTES", "30000")]);
    world.wait_for(20_000);
    wait_until("the cursor is saved", || world.redis.cursor().as_deref() == Some("(20999-0"));
    assert_eq!(world.receiver.ids(), consecutive(1000, 20_000));
    let lists = world.receiver.lists();
    for list in &lists {
        assert!(list.payload.len() <= 30_000);
        assert!(ids_of(&list.payload).len() <= 300);
    }
    // The bounds are used, too: 20,000 measurements of about 130 bytes, 230 to a list.
    assert!(lists.len() < 110, "{} lists", lists.len());
}
