//! Any bytes as a capture file: read to the end, whatever they are.

#![no_main]

use bouncescope_fuzz::items::read;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
});
