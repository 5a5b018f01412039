//! Any payloads in intact frames: decoded, written again, and read as what they were.

#![no_main]

use bouncescope_fuzz::{frames, items};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (items, _) = items::read(&frames::file(bytes)).expect("it begins as a capture does");
    items::assert_survive_writing(&items);
});
