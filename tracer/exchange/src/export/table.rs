//! The tables of an export, as data: what each is called, its columns, and what they hold. Sizes are bytes, times ns of the
//! recording's clock.

use std::io;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A number or address.
    U64,
    /// Yes or no.
    Bool,
    /// Text.
    Text,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Type,
    /// It may be empty.
    pub nullable: bool,
    /// What it means.
    pub meaning: &'static str,
}

/// A field of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number or address.
    U64(u64),
    /// Yes or no.
    Bool(bool),
    /// Text.
    Text(&'a str),
    /// Nothing.
    Null,
}

impl From<Option<u64>> for Value<'_> {
    fn from(value: Option<u64>) -> Self {
        value.map_or(Self::Null, Self::U64)
    }
}

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// The capture itself, one row.
    Captures,
    /// Its labels.
    Labels,
    /// Devices, a row a description.
    Devices,
    /// Mappings, in the order in which they end.
    Mappings,
    /// Their buffers: one of a single mapping, else the segments of the list.
    Segments,
    /// Buffers that the kernel bounced, and attempts without a mapping.
    Bounces,
    /// Allocations that were recorded one by one.
    Allocations,
    /// Names of call sites.
    Symbols,
    /// Slots in use.
    Occupancy,
}

impl Table {
    /// All.
    pub const ALL: [Self; 9] = [
        Self::Captures,
        Self::Labels,
        Self::Devices,
        Self::Mappings,
        Self::Segments,
        Self::Bounces,
        Self::Allocations,
        Self::Symbols,
        Self::Occupancy,
    ];

    /// Its name, and that of its file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Captures => "captures",
            Self::Labels => "labels",
            Self::Devices => "devices",
            Self::Mappings => "mappings",
            Self::Segments => "segments",
            Self::Bounces => "bounces",
            Self::Allocations => "allocations",
            Self::Symbols => "symbols",
            Self::Occupancy => "occupancy",
        }
    }

    /// Its columns.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Captures => &CAPTURES,
            Self::Labels => &LABELS,
            Self::Devices => &DEVICES,
            Self::Mappings => &MAPPINGS,
            Self::Segments => &SEGMENTS,
            Self::Bounces => &BOUNCES,
            Self::Allocations => &ALLOCATIONS,
            Self::Symbols => &SYMBOLS,
            Self::Occupancy => &OCCUPANCY,
        }
    }
}

/// Columns of the widest table.
pub(super) const WIDEST: usize = 17;

/// Takes rows, as they come. Rows of different tables come mixed.
pub trait Rows {
    /// Takes a row, with a value for each of the table's columns.
    fn row(&mut self, table: Table, values: &[Value<'_>]) -> io::Result<()>;
}

const fn number(name: &'static str, meaning: &'static str) -> Column {
    Column { name, kind: Type::U64, nullable: false, meaning }
}

const fn maybe(name: &'static str, meaning: &'static str) -> Column {
    Column { name, kind: Type::U64, nullable: true, meaning }
}

const fn text(name: &'static str, meaning: &'static str) -> Column {
    Column { name, kind: Type::Text, nullable: false, meaning }
}

const fn flag(name: &'static str, meaning: &'static str) -> Column {
    Column { name, kind: Type::Bool, nullable: false, meaning }
}

const DEVICE: Column = number("device", "devices.id");
const DIRECTION: Column = text("direction", "BIDIRECTIONAL, TO_DEVICE or FROM_DEVICE");

const CAPTURE: Column =
    text("capture", "the capture's identity, as `bouncescope label` prints it; empty where it came through a pipe");

const CAPTURES: [Column; 17] = [
    CAPTURE,
    number("wall_clock_s", "when recording began, seconds since 1970"),
    text("release", "uname -r"),
    text("version", "uname -v"),
    text("machine", "uname -m"),
    number("possible_cpus", "possible CPUs"),
    number("memory", "MemTotal, bytes"),
    number("page_size", "bytes"),
    number("cache_line_size", "cache_line_size(), bytes"),
    number("kmalloc_minalign", "minimum alignment of the kmalloc caches, bytes"),
    flag("bounce_unaligned_kmalloc", "CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC"),
    number("pool_slots", "slots of 2 KiB of the default pool; 0 without one"),
    flag("pool_force", "every mapping bounces (swiotlb=force)"),
    flag("pool_dynamic", "the kernel can add pools (CONFIG_SWIOTLB_DYNAMIC)"),
    text("streamed", "which mappings were recorded: all, written or small"),
    number("allocation_sample", "one allocation in so many was recorded; 1: all, 0: none"),
    text("recorder", "the program and arguments that recorded"),
];
const LABELS: [Column; 3] = [CAPTURE, text("name", "of the label"), text("value", "what it says")];
const DEVICES: [Column; 15] = [
    CAPTURE,
    number("id", "by which the other tables name it; a device whose description changed has several"),
    text("name", "dev_name()"),
    text("driver", "its driver; empty without"),
    text("bus", "its bus; empty without"),
    flag("coherent", "dev_is_dma_coherent()"),
    number("dma_mask", "*dev->dma_mask"),
    number("bus_dma_limit", "dev->bus_dma_limit; 0: none"),
    number("min_align_mask", "dma_parms->min_align_mask"),
    maybe("max_segment_size", "dma_get_max_seg_size(), bytes; empty where it was not recorded"),
    maybe("segment_boundary_mask", "dma_get_seg_boundary(); empty where it was not recorded"),
    maybe("iommu_granule", "granule of its IOMMU, bytes; empty without"),
    flag("untrusted", "an untrusted PCI device"),
    flag("force_bounce", "everything bounces"),
    flag("own_pool", "bounces through a restricted pool"),
];
const MAPPINGS: [Column; 14] = [
    CAPTURE,
    number("mapping", "by which the other tables name it, in the order of the mapping events"),
    number("time_ns", "of the mapping event"),
    maybe("unmapped_ns", "of the unmapping's event; empty where none was recorded"),
    DEVICE,
    DIRECTION,
    number("attrs", "DMA_ATTR_* bits"),
    flag("list", "a scatterlist"),
    maybe("dma_addr", "DMA address of a single mapping"),
    number("bytes", "of all its recorded buffers"),
    number("buffers", "recorded buffers: rows of segments"),
    number("truncated", "segments that were not recorded"),
    number("bounced", "buffers that the kernel bounced"),
    flag("failed", "the driver got an error"),
];
const SEGMENTS: [Column; 10] = [
    CAPTURE,
    number("mapping", "mappings.mapping"),
    number("segment", "index in the mapping, from 0"),
    number("time_ns", "when slots were taken for it, else of the mapping event"),
    number("cpu", "CPU of that moment"),
    number("phys", "physical address"),
    flag("phys_exact", "all of phys is known, else only the offset into its page"),
    number("size", "length"),
    text("kernel", "what the kernel did: Direct, Bounced, Refused, NotReached or Unknown"),
    maybe("slot", "physical address of its slots, where recorded"),
];
const BOUNCES: [Column; 9] = [
    CAPTURE,
    number("time_ns", "when slots were taken"),
    maybe("mapping", "mappings.mapping; empty where no mapping event came"),
    number("segment", "index in the mapping, from 0"),
    DEVICE,
    number("cpu", "CPU"),
    number("phys", "physical address, as far as known"),
    number("size", "length"),
    maybe("slot", "physical address of the slots, where recorded"),
];
const ALLOCATIONS: [Column; 9] = [
    CAPTURE,
    number("time_ns", "when"),
    number("cpu", "CPU"),
    number("task", "thread id"),
    number("call_site", "symbols.addr"),
    number("ptr", "the object"),
    number("bytes_req", "bytes asked for"),
    number("bytes_alloc", "bytes given"),
    number("gfp", "gfp_t"),
];
const SYMBOLS: [Column; 4] = [
    CAPTURE,
    number("addr", "the address; of a slab cache its number, 2 to 4095"),
    text("name", "function+0xoffset, or the name of a slab cache"),
    text("module", "module, empty for the kernel itself; `slab cache` of a cache"),
];
const OCCUPANCY: [Column; 4] = [
    CAPTURE,
    number("time_ns", "when it became so"),
    text("whose", "kernel: its own counter, sampled; else the policy that was simulated, at each change"),
    number("used_slots", "slots of 2 KiB in use"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_has_two_columns_of_a_name() {
        for table in Table::ALL {
            let mut names: Vec<_> = table.columns().iter().map(|column| column.name).collect();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{}", table.name());
            assert!(before <= WIDEST && table.columns()[0] == CAPTURE, "{}", table.name());
        }
    }
}
