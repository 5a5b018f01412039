//! Any bytes as a trace of Perfetto: its packets unpacked, and the text that is made of it, imported, and written as a capture.

#![no_main]

use std::io::Cursor;

use bouncescope_fuzz::trace::import_binary;
use libfuzzer_sys::fuzz_target;
use tracer::exchange::perfetto::{Perfetto, unpack};

/// What the packets of a file may unpack to, bytes.
const UNPACKED: u64 = 4 << 20;

fuzz_target!(|trace: &[u8]| {
    let mut unpacked = Vec::new();
    let notes = unpack(Cursor::new(trace), &mut unpacked, UNPACKED).expect("memory can be read");
    let trace = if notes.is_some() { &unpacked } else { trace };
    import_binary(Perfetto::open(Cursor::new(trace)).expect("memory can be read"));
});
