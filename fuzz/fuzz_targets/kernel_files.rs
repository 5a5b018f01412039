//! Any content of the files that a kernel is known by: `/proc`, `/sys`, its configuration.

#![no_main]

use std::{fs, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tracer::kernel::{facts, pool::PoolCounters, root::Root, slab_fill::SlabFill, symbols::Symbols};

/// What is read, in the order of the input's parts.
const FILES: [&str; 12] = [
    "proc/cmdline",
    "proc/sys/kernel/osrelease",
    "proc/config.gz",
    "proc/slabinfo",
    "proc/meminfo",
    "proc/kallsyms",
    "sys/kernel/debug/swiotlb/io_tlb_nslabs",
    "sys/kernel/debug/swiotlb/io_tlb_used",
    "sys/kernel/debug/swiotlb/io_tlb_used_hiwater",
    "sys/devices/system/cpu/possible",
    "sys/devices/system/cpu/cpu0/cache/index0/coherency_line_size",
    "proc/self/auxv",
];
/// Between two files of the input: no text has it.
const BETWEEN: u8 = 0xff;

/// In memory, where there is such a place.
static DIR: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a directory can be made");
    for file in FILES {
        let above = dir.path().join(file).parent().expect("no file is the root").to_owned();
        fs::create_dir_all(above).expect("a directory can be made");
    }
    dir
});

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(FILES.len(), |byte| *byte == BETWEEN);
    for file in FILES {
        fs::write(DIR.path().join(file), parts.next().unwrap_or_default()).expect("the file can be written");
    }
    let root = Root::at(DIR.path());
    facts::read(&root, None);
    if let Ok(symbols) = Symbols::read(&root) {
        symbols.resolve(0xffff_8000_8000_0000);
    }
    if let Ok(slabs) = SlabFill::open(&root, false) {
        let _ = slabs.sample(0, false);
    }
    let _ = PoolCounters::new(&root, true).sample(0);
});
