//! Anything that a broker may send, on a connection on which anything may have happened: nothing
//! passes the gate that an independent codec does not take, and nothing panics.

#![no_main]

#[path = "../../support/oracle.rs"]
mod oracle;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((before, stream)) = data.split_first() {
        oracle::feed(&oracle::line(*before), oracle::version(*before), stream);
    }
});
