//! Any text as a trace: surveyed, assumed about, converted, and written as a capture.

#![no_main]

use bouncescope_fuzz::items::assert_survive_writing;
use libfuzzer_sys::fuzz_target;
use tracer::{
    exchange::{
        assume::assume,
        ftrace::{Survey, Trace},
    },
    facts::KernelFacts,
    stream::Source,
};

fuzz_target!(|text: &[u8]| {
    let survey = Survey::of(text).expect("memory can be read");
    let kernel = KernelFacts {
        page_size: 4096,
        cache_line_size: 64,
        dma_minalign: 128,
        kmalloc_minalign: 8,
        bounce_unaligned_kmalloc: true,
        ..KernelFacts::default()
    };
    let assumed = assume(&survey, kernel, &[], &[]);
    let mut trace = Trace::new(text, &survey, assumed.kernel, assumed.devices, assumed.notes);
    let mut items = Vec::new();
    while let Some(item) = trace.next_item().expect("memory can be read") {
        items.push(item);
    }
    assert_survive_writing(&items);
});
