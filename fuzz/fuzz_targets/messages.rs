//! Any text as the kernel's log, explained.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::{explain::explain, report};

fuzz_target!(|log: &str| {
    let explanations = explain(log);
    report::explain::text(&explanations);
    report::explain::json(&explanations);
});
