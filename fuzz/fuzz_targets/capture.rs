//! Any bytes as a capture file: read to the end, whatever they are.

#![no_main]

use bouncescope_fuzz::items::{read, read_for};
use libfuzzer_sys::fuzz_target;
use tracer::passed::Needs;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    read_for(bytes, Needs::WithLines(64));
});
