//! The environment of the process, which must not go on holding secrets.

use std::ffi::{CStr, CString, c_char};

use zeroize::Zeroize;

use super::items::KEYS;

unsafe extern "C" {
    fn getenv(name: *const c_char) -> *mut c_char;
}

/// Removes the variables of all secrets, and overwrites their values: what was removed would
/// still stand in the block that the kernel made at the start, and in `/proc/self/environ`.
///
/// # Safety
/// No other thread runs, so that nobody reads or changes the environment meanwhile.
pub unsafe fn forget_secrets() {
    for key in KEYS.iter().filter(|key| key.secret) {
        let Ok(name) = CString::new(key.variable) else {
            continue;
        };
        // SAFETY: the pointer is null or leads to a text that ends in 0, in memory of this
        // process that may be written; by the contract above nobody else looks at it.
        unsafe {
            let value = getenv(name.as_ptr());
            if !value.is_null() {
                let length = CStr::from_ptr(value).count_bytes();
                std::slice::from_raw_parts_mut(value.cast::<u8>(), length).zeroize();
            }
            std::env::remove_var(key.variable);
        }
    }
}
