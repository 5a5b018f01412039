//! Any payloads in intact frames: everything that commands do with a capture.

#![no_main]

use bouncescope_fuzz::{everything, frames, items};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (items, _) = items::read(&frames::file(bytes)).expect("it begins as a capture does");
    everything::with(&items);
});
