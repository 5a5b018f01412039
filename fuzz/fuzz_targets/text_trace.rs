//! Any text as a trace: imported, and written as a capture.

#![no_main]

use bouncescope_fuzz::trace::import;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| import(text));
