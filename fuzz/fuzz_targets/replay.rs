//! Any payloads in intact frames: everything that commands do with a capture.

#![no_main]

use bouncescope_fuzz::{everything, frames, items};
use libfuzzer_sys::fuzz_target;
use tracer::passed::Needs;

fuzz_target!(|bytes: &[u8]| {
    let (items, _) = items::read(&frames::file(bytes)).expect("it begins as a capture does");
    everything::with(&items);
    // Totals that are made up, and events that do not go with them.
    everything::with(&items::read_for(&frames::file(bytes), Needs::WithLines(64)));
});
