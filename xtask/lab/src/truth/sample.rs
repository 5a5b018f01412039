//! A truth table for tests, by rules of its own: a kernel with lines of 64 bytes and a pool of 512 slots, direct or behind
//! an IOMMU.

use super::{scenario::wanted, table::Table};

/// Entries of a sample: one for each single, list, segment and hold.
pub(super) const ENTRIES: u64 = 3 * (1024 + 256 + 4 * wanted::LISTS as u64 + 4);

/// The table.
pub(super) fn table(granule: Option<u64>) -> Table {
    Table::parse(&text(granule)).expect("a whole table")
}

/// Its text.
pub(super) fn text(granule: Option<u64>) -> String {
    let mut lines = vec![format!("fact granule {}", granule.unwrap_or(0))];
    for fact in [
        "bounce_unaligned 1",
        "cache_alignment 64",
        "kmalloc_8 8",
        "dma_minalign 128",
        "page_size 4096",
        "coherent 0",
        "level_of_coherence 2",
        "dma_mask 18446744073709551615",
        "bus_dma_limit 0",
        "min_align_mask 0",
        "possible_cpus 2",
        "max_segment 65536",
        "segment_boundary 18446744073709551615",
        "pool_slots 512",
    ] {
        lines.push(format!("fact {fact}"));
    }
    for direction in 0..3 {
        let bounces = |len: u64| direction != 1 && matches!(len, 1..=32 | 65..=96);
        let reached = |len| if bounces(len) { ("0x90000", "bounced") } else { ("0x40008", "direct") };
        let given = |len: u64| match len {
            65..=96 => 96,
            129..=192 => 192,
            _ => len.next_power_of_two().max(8),
        };
        for len in 1..=1024 {
            let (to, did) = reached(len);
            lines.push(format!("single {len} 0 {len} {direction} {} 0x40008 {to} {did}", given(len)));
        }
        for len in 1..=256 {
            let (to, did) = reached(len);
            lines.push(format!("single 1024 512 {len} {direction} 1024 0x40008 {to} {did}"));
        }
        for number in 0..wanted::LISTS as u64 {
            let small = 8 * (number + 1);
            let ents = if granule.is_some() && !bounces(small) { 2 } else { 3 };
            let did = if bounces(small) { "0x90000:bounced" } else { "0x2008:direct" };
            lines.push(format!(
                "list {number} {direction} 3 {ents} 4096:0x1000:0x1000:direct 4096:0x5000:0x5000:direct {small}:0x2008:{did}"
            ));
        }
        let room = if granule.is_some() { 256 } else { 512 };
        for asked in [1, 10, 100, 700] {
            let (mapped, bounced) = if bounces(8) { (room.min(asked), room.min(asked)) } else { (asked, 0) };
            let used = bounced * (512 / room);
            lines.push(format!("hold 8 {direction} {asked} {mapped} {bounced} 0 {used} 0"));
        }
    }
    lines.push(format!("end {}\n", lines.len()));
    lines.join("\n")
}
