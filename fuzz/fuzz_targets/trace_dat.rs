//! Any bytes as a `trace.dat` of trace-cmd: its text, imported, and written as a capture.

#![no_main]

use std::io::Cursor;

use bouncescope_fuzz::trace::import_binary;
use libfuzzer_sys::fuzz_target;
use tracer::exchange::tracedat::TraceDat;

fuzz_target!(|file: &[u8]| {
    if let Ok(trace) = TraceDat::open(Cursor::new(file)) {
        import_binary(trace);
    }
});
