//! Streams that say the same over and over: everything that commands do with a capture, within bounds of time and memory.

#![no_main]

use bouncescope_fuzz::cost::{self, Repeated};
use libfuzzer_sys::fuzz_target;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

fuzz_target!(|repeated: Repeated| cost::bounded(repeated, &MEMORY));
