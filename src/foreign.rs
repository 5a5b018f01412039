//! Files of other kinds, told by how they begin: what they are, and the command that reads them.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::Path,
};

use tracer::exchange::packed::unpacked;

/// A kind of file: its first bytes, what it is, and what to do. `{}` stands for the file's name.
type Kind = (&'static [u8], &'static str, &'static str);

/// What `import` does not read.
const NOT_IMPORTED: [Kind; 5] = [
    (b"\x89BNC\r\n\x1a\n", "a capture already", "replay it: bouncescope replay {}"),
    (b"BZh", "packed by bzip2", "run: bzip2 -dc {} | bouncescope import -"),
    (b"\x04\x22\x4d\x18", "packed by lz4", "run: lz4 -dc {} | bouncescope import -"),
    (b"PK\x03\x04", "a zip archive", "run: unzip -p {} TRACE | bouncescope import -"),
    (b"\x7fELF", "an ELF file", "give a trace: a trace.dat, a perf.data, a Perfetto trace, or text of tracefs"),
];

/// Traces that `import` reads, by how they begin.
const TRACES: [(&[u8], &str); 3] = [
    // `tracecmd_open_head()` (`lib/trace-cmd/trace-input.c` of trace-cmd).
    (b"\x17\x08\x44tracing", "a trace.dat of trace-cmd"),
    // `PERF_MAGIC` (`tools/perf/util/header.c`), of both byte orders.
    (b"PERFILE2", "a perf.data"),
    (b"2ELIFREP", "a perf.data"),
];

/// Words of texts, in the order in which they are looked for.
const TEXTS: [(&[&str], &str, &str); 4] = [
    (&["[[rule]]"], "a file of rules", "run: bouncescope check {} CAPTURE"),
    (&["bounce = \"", "[[device]]"], "a policy", "run: bouncescope replay CAPTURE --policy {}"),
    (
        &["# tracer:", "dma_map_", "swiotlb_bounced:", "kmalloc: call_site"],
        "a trace",
        "run: bouncescope import {} -o trace.bounce",
    ),
    (&["swiotlb", "DMA addr", "software IO TLB"], "a kernel log", "run: bouncescope explain {}"),
];

/// So much of a file is looked at.
const LOOKED_AT: u64 = 64 << 10;

/// What a file is that begins so and that `import` does not read, and what to do with it.
pub(crate) fn not_imported(first: &[u8], name: &str) -> Option<String> {
    let (_, what, instead) = NOT_IMPORTED.iter().find(|(magic, ..)| first.starts_with(magic))?;
    Some(format!("{name} is {what}; {}", instead.replace("{}", name)))
}

/// What a file is that is no capture, and the command that reads it, where that can be told.
pub(crate) fn instead_of_capture(path: &Path) -> Option<String> {
    let name = path.display().to_string();
    let mut first = Vec::new();
    File::open(path).ok()?.take(LOOKED_AT).read_to_end(&mut first).ok()?;
    if let Some(said) = not_imported(&first, &name).filter(|_| !first.starts_with(b"\x7fELF")) {
        return Some(said);
    }
    // What is packed may be anything: the text within tells.
    let mut text = Vec::new();
    unpacked(BufReader::new(&first[..])).ok()?.take(LOOKED_AT).read_to_end(&mut text).ok();
    let is_capture = text.starts_with(b"\x89BNC") && text != first;
    if is_capture {
        return Some(format!("{name} is a packed capture; unpack it first"));
    }
    if let Some((_, what)) = TRACES.iter().find(|(magic, _)| text.starts_with(magic)) {
        return Some(format!("{name} is {what}, not a capture; run: bouncescope import {name} -o trace.bounce"));
    }
    let text = String::from_utf8_lossy(&text);
    let (_, what, instead) = TEXTS.iter().find(|(words, ..)| words.iter().any(|word| text.contains(word)))?;
    Some(format!("{name} looks like {what}, not a capture; {}", instead.replace("{}", &name)))
}
