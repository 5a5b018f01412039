//! Any bytes as a trace of Perfetto: the text that is made of it, imported, and written as a capture.

#![no_main]

use bouncescope_fuzz::trace::import;
use libfuzzer_sys::fuzz_target;
use tracer::exchange::perfetto;

fuzz_target!(|trace: &[u8]| import(&perfetto::read(trace).lines));
