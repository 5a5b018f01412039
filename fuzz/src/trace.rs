//! Text traces, imported.

use std::io::Read;

use tracer::{
    exchange::{
        assume::assume,
        ftrace::{Survey, Trace},
    },
    facts::KernelFacts,
    stream::Source as _,
};

use crate::items::assert_survive_writing;

/// Surveyed, assumed about, converted, and written as a capture.
pub fn import(text: &[u8]) {
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
}

/// The longest text that a file is imported from, bytes: what a file of 16 KiB holds, and more. A compressed one may hold more than is searched
/// here.
const LONGEST: u64 = 4 << 20;

/// The text that is made of a binary file, imported. Only what makes it may say that the file is damaged.
pub fn import_binary(file: impl Read) {
    let mut text = Vec::new();
    // What was read before the damage is as good as any text.
    let _ = file.take(LONGEST).read_to_end(&mut text);
    import(&text);
}
