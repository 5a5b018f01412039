//! Any bytes as a file with the kernel's log, in whatever format, explained; and the same bytes as text, where the format is refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::{
    explain::{explain, text_of},
    report::{self, machine::Document as _},
};

fuzz_target!(|file: &[u8]| {
    let log = match text_of(file) {
        Ok(log) => log.text,
        Err(_) => String::from_utf8_lossy(file).into_owned(),
    };
    let explained = explain(&log);
    report::explain::text(&explained);
    report::explain::nothing(&explained);
    explained.to_json();
});
