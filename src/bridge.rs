//! Decides about measurements.

pub mod delivery;
pub mod ledger;
