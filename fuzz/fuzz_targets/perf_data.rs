//! Any bytes as a `perf.data`: its text, imported, and written as a capture.

#![no_main]

use std::io::Cursor;

use bouncescope_fuzz::trace::import_binary;
use libfuzzer_sys::fuzz_target;
use tracer::exchange::perfdata::PerfData;

fuzz_target!(|file: &[u8]| {
    if let Ok(trace) = PerfData::open(Cursor::new(file)) {
        import_binary(trace);
    }
});
