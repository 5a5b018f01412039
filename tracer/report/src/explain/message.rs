//! The messages that are known: one table of first words, and what is taken out of each.
//!
//! Words are those of `kernel/dma/` (`swiotlb.c`, `direct.[ch]`, `pool.c`, `debug.c`, `coherent.c`, `mapping.c`), `lib/swiotlb.c` of 4.x,
//! `include/linux/dma-mapping.h`, `drivers/iommu/`, `drivers/of/device.c` and `arch/arm64/mm/dma-mapping.c`, 4.9 to 7.3.

use std::sync::LazyLock;

use super::machine::Restricted;
use super::words::{hex, number};
use bouncescope_capture::reach::Span;
use bouncescope_model::pool::SLOT;

/// The numbers of an "overflow".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow {
    pub(super) addr: u64,
    pub(super) size: u64,
    pub(super) mask: u64,
    pub(super) bus_limit: u64,
}

/// Which check of `CONFIG_DMA_API_DEBUG` spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DebugCheck {
    Overlap,
    OverlapCounter,
    Stack,
    Vmalloc,
    Text,
    InvalidArea,
    MapErrorNotChecked,
    Pending,
    WrongFree,
    NotAllocated,
    SegmentTooLong,
    SegmentBoundary,
    OutOfMemory,
    Touched,
    Other,
}

/// A message, with its figures.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    Full {
        size: u64,
        total: u64,
        used: u64,
    },
    FullWithoutFill {
        size: u64,
    },
    FullWithoutFigures,
    Overflow(Overflow),
    /// Up to 5.9, behind a "buffer is full" or where there is no pool.
    OldOverflow(Overflow),
    PoolOverflow(Overflow),
    IommuInactive,
    IommuTables,
    IommuGranule,
    NoPoolEarlier,
    NotMade,
    Failed {
        bytes: Option<u64>,
    },
    Mapped(Span),
    Areas(u64),
    AdjustedTo {
        mib: u64,
    },
    RoundedTo {
        mib: u64,
    },
    Halved {
        from: u64,
        to: u64,
    },
    LateSmall {
        mib: u64,
    },
    GivenUp,
    Restricted(Restricted),
    RestrictedOutsideLinearMap,
    RestrictedFailed,
    GrowFailed,
    Encryption,
    BeyondMapping {
        held: Option<u64>,
        wanted: Option<u64>,
    },
    AlignmentWarning,
    UnalignedPages,
    LongLines {
        minalign: u64,
        line: u64,
    },
    Vmalloc,
    NoMask,
    /// arm's `get_coherent_dma_mask()` (`arch/arm/mm/dma-mapping.c`) up to 4.17.
    NoCoherentMask,
    /// A driver's own words: the kernel refused its mask.
    MaskRefused,
    /// `usb_hcd_map_urb_for_dma()` (`drivers/usb/core/hcd.c`): on a stack, or of vmalloc.
    UsbBuffer {
        stack: bool,
    },
    /// An IOMMU had no addresses left.
    IommuFull,
    /// A driver's own words: a mapping failed.
    MapFailed,
    /// A warning of `kernel/dma/mapping.c` without words of its own.
    MappingWarning {
        coherent: bool,
    },
    AtomicExhausted,
    AtomicUnsuitable,
    AtomicNotMade,
    CoherentFailed {
        size: Option<u64>,
    },
    /// A driver's own words.
    DriverCoherentFailed {
        size: u64,
    },
    CoherentOutOfReach,
    CmaFailed,
    Debug(DebugCheck),
    /// -ENOMEM of a driver's setup.
    SetupFailed,
    Rga,
    IommuFault,
    /// The pool of a Xen dom0 or PV guest.
    XenFailed,
    /// Memory of an encrypted guest could not be shared with the host.
    NotDecrypted {
        pool: bool,
    },
    CoherentUnsupported,
    /// `swiotlb_full()` up to 4.19 with `do_panic`.
    Panicked,
    /// An oops in cache maintenance for a mapping.
    MaintenanceOops,
    /// An oops, a lockup or an external abort on the pool's path.
    Oops {
        copy: bool,
        checker: bool,
        abort: bool,
        lockup: bool,
    },
}

/// What a parser gets: what follows the words, and what comes before them.
type Parser = fn(&str, &str) -> Option<Message>;

const TABLE: &[(&str, Parser)] = &[
    ("swiotlb buffer is full (sz: ", full),
    ("swiotlb buffer is full", |_, _| Some(Message::FullWithoutFigures)),
    ("Out of SW-IOMMU space for ", |rest, _| Some(Message::FullWithoutFill { size: number(rest)?.0 })),
    // Accessed, read or written.
    ("Random memory could be DMA ", |_, _| Some(Message::Panicked)),
    ("DMA addr ", |rest, _| overflow(rest, " overflow (mask ", ", bus limit ").map(Message::Overflow)),
    ("swiotlb addr ", |rest, _| overflow(rest, " overflow (mask ", ", bus limit ").map(Message::PoolOverflow)),
    ("overflow ", |rest, _| old_overflow(rest).map(Message::OldOverflow)),
    ("DMA bounce buffers are inactive, unable to map unaligned transaction", |_, _| Some(Message::IommuInactive)),
    ("Cannot accommodate DMA translation for IOMMU page tables", |_, _| Some(Message::IommuTables)),
    ("Unsupported alignment constraint", |_, _| Some(Message::IommuGranule)),
    ("Can not allocate SWIOTLB buffer earlier", |_, _| Some(Message::NoPoolEarlier)),
    ("Cannot allocate SWIOTLB buffer", |_, _| Some(Message::NotMade)),
    ("Failed to get contiguous memory for DMA from Xen", |_, _| Some(Message::XenFailed)),
    ("Cannot allocate Xen-SWIOTLB buffer", |_, _| Some(Message::XenFailed)),
    ("Failed to decrypt default memory pool", |_, _| Some(Message::NotDecrypted { pool: true })),
    ("Failed to decrypt restricted DMA pool", |_, _| Some(Message::NotDecrypted { pool: true })),
    ("leaking DMA memory that can't be ", |_, _| Some(Message::NotDecrypted { pool: false })),
    ("coherent DMA allocations not supported on this platform", |_, _| Some(Message::CoherentUnsupported)),
    // 5.15 to 5.18, before the next.
    ("software IO TLB: Cannot allocate buffer", |_, _| Some(Message::NotMade)),
    ("software IO TLB: No low mem", |_, _| Some(Message::NotMade)),
    ("software IO TLB: Failed to allocate new pool", |_, _| Some(Message::GrowFailed)),
    ("software IO TLB: Memory encryption is active", |_, _| Some(Message::Encryption)),
    ("Memory encryption is active and system is using DMA bounce buffers", |_, _| Some(Message::Encryption)),
    ("software IO TLB: mapped [mem ", mapped),
    // 4.x.
    ("software IO TLB [mem ", mapped),
    ("software IO TLB: area num ", |rest, _| Some(Message::Areas(number(rest)?.0))),
    ("only able to allocate ", |rest, _| {
        let (mib, rest) = number(rest)?;
        rest.starts_with(" MB").then_some(Message::LateSmall { mib })
    }),
    ("software IO TLB: tearing down default memory pool", |_, _| Some(Message::GivenUp)),
    ("SWIOTLB bounce buffer size ", resized),
    ("Failed to allocate ", |rest, _| failed(rest)),
    ("software IO TLB: swiotlb_", |rest, _| rest.contains(": Failed to ").then_some(Message::Failed { bytes: None })),
    ("created restricted DMA pool at ", restricted),
    ("Restricted DMA pool must be accessible within the linear mapping", |_, _| {
        Some(Message::RestrictedOutsideLinearMap)
    }),
    ("failed to initialise \"restricted-dma-pool\" memory node", |_, _| Some(Message::RestrictedFailed)),
    ("Buffer overflow detected. Allocation size: ", beyond),
    ("Access before mapping start detected", |_, _| Some(Message::BeyondMapping { held: None, wanted: None })),
    ("Alloc alignment may prevent fulfilling requests", |_, _| Some(Message::AlignmentWarning)),
    ("Cannot allocate pages from non page-aligned swiotlb addr", |_, _| Some(Message::UnalignedPages)),
    ("ARCH_DMA_MINALIGN smaller than CTR_EL0.CWG (", long_lines),
    ("rejecting DMA map of vmalloc memory", |_, _| Some(Message::Vmalloc)),
    ("DMA map on device without dma_mask", |_, _| Some(Message::NoMask)),
    ("call on device without dma_mask", |_, _| Some(Message::NoMask)),
    ("DMA mask not set", |_, _| Some(Message::NoMask)),
    ("coherent DMA mask ", |rest, _| {
        let is_small = rest.contains("is smaller than system GFP_DMA mask");
        if rest.starts_with("is unset") {
            Some(Message::NoCoherentMask)
        } else {
            is_small.then_some(Message::CoherentOutOfReach)
        }
    }),
    ("No usable DMA configuration", |_, _| Some(Message::MaskRefused)),
    ("No suitable DMA ", |rest, _| {
        ["available", "configuration", "mask"].iter().any(|word| rest.starts_with(word)).then_some(Message::MaskRefused)
    }),
    ("nable to set DMA mask", |_, _| Some(Message::MaskRefused)),
    ("nable to set the DMA coherent mask", |_, _| Some(Message::MaskRefused)),
    ("ailed to set DMA mask", |_, _| Some(Message::MaskRefused)),
    ("ailed to set dma mask", |_, _| Some(Message::MaskRefused)),
    ("transfer buffer is on stack", |_, _| Some(Message::UsbBuffer { stack: true })),
    ("setup packet is on stack", |_, _| Some(Message::UsbBuffer { stack: true })),
    ("transfer buffer not dma capable", |_, _| Some(Message::UsbBuffer { stack: false })),
    ("setup packet not dma capable", |_, _| Some(Message::UsbBuffer { stack: false })),
    ("Allocating ", |rest, _| number(rest)?.1.starts_with("-page iova for ").then_some(Message::IommuFull)),
    ("iommu_alloc failed, tbl ", |_, _| Some(Message::IommuFull)),
    ("at kernel/dma/mapping.c:", |rest, _| mapping_warning(rest)),
    ("DMA pool exhausted for ", |_, _| Some(Message::AtomicExhausted)),
    ("atomic DMA coherent pool is too small", |_, _| Some(Message::AtomicExhausted)),
    ("coherent pool not initialised", |_, _| Some(Message::AtomicNotMade)),
    ("Failed to get suitable pool for ", |_, _| Some(Message::AtomicUnsuitable)),
    ("pool for atomic ", |_, before| before.contains("failed to allocate").then_some(Message::AtomicNotMade)),
    ("coherent allocation failed for device ", |rest, _| {
        Some(Message::CoherentFailed { size: rest.split_once("size=").and_then(|(_, size)| Some(number(size)?.0)) })
    }),
    // videobuf2's `vb2_dc_alloc()`.
    ("dma alloc of size ", |rest, _| {
        let (size, rest) = number(rest)?;
        rest.starts_with(" failed").then_some(Message::DriverCoherentFailed { size })
    }),
    ("hwdev DMA mask = 0x", |_, _| Some(Message::CoherentOutOfReach)),
    ("reserved memory is beyond device's set DMA address range", |_, _| Some(Message::CoherentOutOfReach)),
    ("cma_alloc: ", |rest, _| rest.contains("alloc failed").then_some(Message::CmaFailed)),
    ("DMA-API: ", |rest, _| debug(rest)),
    ("unsupported memory larger than 4G", |_, _| Some(Message::Rga)),
    ("unsupported Memory larger than 4G", |_, _| Some(Message::Rga)),
    ("can't setup: -12", |_, _| Some(Message::SetupFailed)),
    ("failed with error -12", |_, _| Some(Message::SetupFailed)),
    ("Unhandled context fault", |_, _| Some(Message::IommuFault)),
    ("[IO_PAGE_FAULT", |_, _| Some(Message::IommuFault)),
    ("[DMA Read", iommu_fault),
    ("[DMA Write", iommu_fault),
    ("event 0x10 received", |_, _| Some(Message::IommuFault)),
    ("event: F_TRANSLATION", |_, _| Some(Message::IommuFault)),
    ("Page fault at 0x", |_, before| before.contains("iommu").then_some(Message::IommuFault)),
    ("fault type=", |_, before| before.contains("iommu").then_some(Message::IommuFault)),
    ("PAGE FAULT occurred at 0x", |_, before| before.contains("sysmmu").then_some(Message::IommuFault)),
    ("translation fault: status:", |_, _| Some(Message::IommuFault)),
    ("Unhandled fault: status 0x", |_, before| before.contains("mmu").then_some(Message::IommuFault)),
    ("SMMU translation error", |_, _| Some(Message::IommuFault)),
    ("Page fault for 0x", |_, before| before.contains("iommu").then_some(Message::IommuFault)),
    ("Unexpected global fault", |_, before| before.contains("smmu").then_some(Message::IommuFault)),
    ("Blocked unknown Stream ID", |_, before| before.contains("smmu").then_some(Message::IommuFault)),
    // Words of drivers, where nothing above says more.
    ("dma_map_sg failed", |_, _| Some(Message::MapFailed)),
    ("dma_map_sg() failed", |_, _| Some(Message::MapFailed)),
    ("dma_map_single failed", |_, _| Some(Message::MapFailed)),
    ("dma_map_page failed", |_, _| Some(Message::MapFailed)),
    ("DMA mapping failed", |_, _| Some(Message::MapFailed)),
    ("DMA mapping error", |_, _| Some(Message::MapFailed)),
    ("DMA map failed", |_, _| Some(Message::MapFailed)),
    ("dma mapping failed", |_, _| Some(Message::MapFailed)),
    ("ailed to map DMA", |_, _| Some(Message::MapFailed)),
    ("ailed to dma map", |_, _| Some(Message::MapFailed)),
    ("ailed to DMA map", |_, _| Some(Message::MapFailed)),
    ("nable to map sg", |_, _| Some(Message::MapFailed)),
    ("ailed to map sg", |_, _| Some(Message::MapFailed)),
];

/// A message found in a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) message: Message,
    pub(super) device: Option<String>,
    /// Where its words begin.
    pub(super) at: usize,
}

/// The message of a record.
pub(super) fn find(text: &str) -> Option<Found> {
    static WORDS: LazyLock<Finder> = LazyLock::new(|| Finder::new(TABLE.iter().map(|(words, _)| *words)));
    WORDS.all(text).into_iter().find_map(|(index, at)| {
        let (words, parser) = TABLE[index];
        let (before, rest) = (&text[..at], &text[at + words.len()..]);
        let message = parser(rest, before)?;
        let device = device_of(&message, before, rest).map(str::to_owned);
        Some(Found { message, device, at })
    })
}

/// Many words looked for at once: by their first byte, so that a long log is gone through once and not once for each of them.
struct Finder {
    words: Vec<&'static str>,
    by_first: Vec<Vec<usize>>,
}

impl Finder {
    fn new(words: impl IntoIterator<Item = &'static str>) -> Self {
        let words: Vec<_> = words.into_iter().collect();
        let mut by_first = vec![Vec::new(); 256];
        for (index, word) in words.iter().enumerate() {
            if let Some(first) = word.bytes().next() {
                by_first[usize::from(first)].push(index);
            }
        }
        Self { words, by_first }
    }

    /// Each word that is there, by its number, with the place where it is first.
    fn all(&self, text: &str) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for (at, byte) in text.bytes().enumerate() {
            for &index in &self.by_first[usize::from(byte)] {
                let is_here = text.as_bytes()[at..].starts_with(self.words[index].as_bytes());
                if is_here && found.iter().all(|(known, _)| *known != index) {
                    found.push((index, at));
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn has_any(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        bytes.iter().enumerate().any(|(at, byte)| {
            self.by_first[usize::from(*byte)].iter().any(|index| bytes[at..].starts_with(self.words[*index].as_bytes()))
        })
    }
}

/// Whether a line, whatever is around its message, may be one that is read: a message, one about bouncing, or the beginning of an oops.
pub(super) fn may_matter(line: &str) -> bool {
    static WORDS: LazyLock<Finder> = LazyLock::new(|| {
        let words = TABLE.iter().map(|(words, _)| *words).filter(|words| !COMMON.contains(words));
        Finder::new(words.chain([
            "swiotlb",
            "SWIOTLB",
            "DMA-API: ",
            "SW-IOMMU",
            "software IO TLB",
            "last message repeated ",
        ]))
    });
    /// Words that say nothing alone.
    const COMMON: [&str; 2] = ["overflow ", "failed with error -12"];
    WORDS.has_any(line) || begins_oops(line) || line.contains("overflow 0x") || line.contains("failed with error -12")
}

/// Whether a record that is no known message speaks of bouncing all the same.
pub(super) fn is_about_bouncing(text: &str) -> bool {
    static ABOUT: LazyLock<Finder> = LazyLock::new(|| {
        Finder::new(["swiotlb", "SWIOTLB", "software IO TLB", "SW-IOMMU", "DMA-API: ", "bounce buffer"])
    });
    /// Lines that say nothing which needs an answer, and what is read elsewhere.
    const ELSEWHERE: [&str; 8] = [
        // What someone typed.
        "dmesg",
        "grep",
        "journalctl",
        "ommand line:",
        "DMA-API: preallocated",
        "DMA-API: debugging enabled",
        "PCI-DMA: Using software bounce buffering",
        "callbacks suppressed",
    ];
    // Frames of a call trace belong to their message.
    let is_frame = text.contains("+0x") && text.contains("/0x") || decoded_frame(text).is_some();
    ABOUT.has_any(text) && !is_frame && !ELSEWHERE.iter().any(|line| text.contains(line))
}

/// The device: before the words with `dev_printk()`, behind them with some others.
fn device_of<'a>(message: &Message, before: &'a str, rest: &'a str) -> Option<&'a str> {
    match message {
        // pr_info() and pr_warn(): what comes before is the prefix of the file.
        Message::Mapped(_)
        | Message::Areas(_)
        | Message::AdjustedTo { .. }
        | Message::RoundedTo { .. }
        | Message::Halved { .. }
        | Message::LateSmall { .. }
        | Message::GivenUp
        | Message::Failed { .. }
        | Message::Restricted(_)
        | Message::GrowFailed
        | Message::Encryption
        | Message::NotMade
        | Message::MappingWarning { .. }
        | Message::AtomicNotMade
        | Message::Rga
        | Message::Panicked
        | Message::XenFailed
        | Message::CoherentUnsupported
        | Message::CmaFailed => None,
        // "Allocating 16-page iova for igb failed".
        Message::IommuFull => match rest.split_once(" iova for ") {
            Some((_, name)) => name.split_whitespace().next(),
            None => super::words::device(before),
        },
        // "DRIVER DEVICE: DRIVER: words", and "DRIVER DEVICE: it failed to do so".
        Message::MaskRefused | Message::MapFailed => before.split_once(": ").and_then(|(first, _)| {
            let mut words = first.split_whitespace().rev();
            words.next().filter(|_| words.count() <= 1)
        }),
        Message::AtomicExhausted | Message::AtomicUnsuitable | Message::CoherentFailed { .. } => {
            let name = rest.split_whitespace().next()?.trim_end_matches([':', '.', ',']);
            (!name.is_empty()).then_some(name)
        }
        // "DMA-API: DRIVER DEVICE: …"; older kernels have them in front.
        Message::Debug(_) => {
            if let Some(name) = super::words::device(before) {
                return Some(name);
            }
            let (name, _) = rest.split_once(": ")?;
            let words = name.split_whitespace().count();
            (words <= 3 && !name.starts_with("NULL")).then(|| name.split_whitespace().next_back())?
        }
        Message::FullWithoutFill { .. } => match rest.split_once("at device ") {
            Some((_, name)) => name.split_whitespace().next(),
            None => super::words::device(before.trim_end().strip_suffix("DMA:").unwrap_or(before)),
        },
        // "DEVICE: dma_direct_map_page: overflow …": the function is no device.
        Message::OldOverflow(_) => {
            let before = before.trim_end();
            let function = [
                "dma_direct_map_page:",
                "dma_direct_map_sg:",
                "dma_direct_map_resource:",
                "swiotlb_map_page:",
                "swiotlb_map_sg:",
            ];
            super::words::device(function.iter().find_map(|name| before.strip_suffix(name)).unwrap_or(before))
        }
        // "software IO TLB: …" is the default pool's.
        Message::NotDecrypted { .. } => super::words::device(before).filter(|name| *name != "TLB"),
        // "DRIVER DEVICE: MASTER: …": the fault's words are further on.
        Message::IommuFault => super::words::device(before).or_else(|| {
            let (first, _) = before.split_once(": ")?;
            let mut words = first.split_whitespace();
            let device = words.nth(1)?;
            words.next().is_none().then_some(device)
        }),
        _ => super::words::device(before),
    }
}

/// `%zd bytes), total %lu (slots), used %lu (slots)`; before 4.20 nothing after the bytes.
fn full(rest: &str, _: &str) -> Option<Message> {
    let (size, rest) = number(rest)?;
    let rest = rest.strip_prefix(" bytes)")?;
    if rest.trim().is_empty() {
        return Some(Message::FullWithoutFill { size });
    }
    let (total, rest) = number(rest.strip_prefix(", total ")?)?;
    let (used, rest) = number(rest.strip_prefix(" (slots), used ")?)?;
    rest.starts_with(" (slots)").then_some(Message::Full { size, total, used })
}

fn overflow(rest: &str, mask_words: &str, bus_words: &str) -> Option<Overflow> {
    let (addr, rest) = hex(rest)?;
    let (size, rest) = number(rest.strip_prefix('+')?)?;
    let (mask, rest) = hex(rest.strip_prefix(mask_words)?)?;
    let (bus_limit, rest) = hex(rest.strip_prefix(bus_words)?)?;
    let is_whole = !mask_words.contains('(') || rest.starts_with(')');
    is_whole.then_some(Overflow { addr, size, mask, bus_limit })
}

/// `report_addr()` of 4.19 to 5.9, `check_addr()` of `dma-direct` before, and `pci-nommu` of x86: with or without a bus mask.
fn old_overflow(rest: &str) -> Option<Overflow> {
    [(" of DMA mask ", " bus limit "), (" of DMA mask ", " bus mask "), (" of device mask ", " bus mask ")]
        .into_iter()
        .find_map(|(mask, bus)| overflow(rest, mask, bus))
        .or_else(|| {
            let (addr, rest) = hex(rest)?;
            let (size, rest) = number(rest.strip_prefix('+')?)?;
            let (mask, _) =
                hex(rest.strip_prefix(" of device mask ").or_else(|| rest.strip_prefix(" of DMA mask "))?)?;
            Some(Overflow { addr, size, mask, bus_limit: 0 })
        })
}

/// "%pa-%pa] (%luMB)": the end is exclusive.
fn mapped(rest: &str, _: &str) -> Option<Message> {
    let (start, rest) = hex(rest)?;
    let (end, rest) = hex(rest.strip_prefix('-')?)?;
    (rest.starts_with(']') && end > start).then_some(Message::Mapped(Span { start, end }))
}

/// "adjusted to %luMB", "adjusted %lu -> %lu slabs", "roundup to %luMB".
fn resized(rest: &str, _: &str) -> Option<Message> {
    if let Some(rest) = rest.strip_prefix("roundup to ") {
        return Some(Message::RoundedTo { mib: number(rest)?.0 });
    }
    let rest = rest.strip_prefix("adjusted ")?;
    if let Some(rest) = rest.strip_prefix("to ") {
        return Some(Message::AdjustedTo { mib: number(rest)?.0 });
    }
    let (from, rest) = number(rest)?;
    let (to, _) = number(rest.strip_prefix(" -> ")?)?;
    Some(Message::Halved { from, to })
}

/// `swiotlb_memblock_alloc: Failed to allocate %zu bytes tlb structure`.
fn failed(rest: &str) -> Option<Message> {
    let (bytes, rest) = number(rest)?;
    rest.starts_with(" bytes tlb structure").then_some(Message::Failed { bytes: Some(bytes) })
}

/// "%pa, size %ld MiB".
fn restricted(rest: &str, _: &str) -> Option<Message> {
    let (start, rest) = hex(rest)?;
    let (mib, _) = number(rest.strip_prefix(", size ")?)?;
    Some(Message::Restricted(Restricted { start, mib }))
}

/// "%zu. Mapping size: %zu."
fn beyond(rest: &str, _: &str) -> Option<Message> {
    let (held, rest) = number(rest)?;
    let wanted = rest.split_once("Mapping size: ").and_then(|(_, size)| number(size)).map(|(size, _)| size);
    Some(Message::BeyondMapping { held: Some(held), wanted })
}

/// "%d < %d)": `ARCH_DMA_MINALIGN`, and the line size.
fn long_lines(rest: &str, _: &str) -> Option<Message> {
    let (minalign, rest) = number(rest)?;
    let (line, rest) = number(rest.strip_prefix(" < ")?)?;
    rest.starts_with(')').then_some(Message::LongLines { minalign, line })
}

/// `WARN_ON_ONCE(!dev->dma_mask)` of the functions that map, and `WARN_ON_ONCE(!dev->coherent_dma_mask)` of `dma_alloc_attrs()`.
fn mapping_warning(rest: &str) -> Option<Message> {
    let function = frame(rest)?;
    if function.contains("dma_alloc_attrs") {
        return Some(Message::MappingWarning { coherent: true });
    }
    let maps = ["dma_map_page_attrs", "dma_map_phys", "dma_map_sg_attrs", "dma_map_resource"];
    maps.iter().any(|name| function.ends_with(name)).then_some(Message::MappingWarning { coherent: false })
}

fn iommu_fault(rest: &str, before: &str) -> Option<Message> {
    (before.contains("DMAR") || rest.contains("fault addr")).then_some(Message::IommuFault)
}

/// Checks of `kernel/dma/debug.c` by their words.
fn debug(rest: &str) -> Option<Message> {
    const CHECKS: &[(&str, DebugCheck)] = &[
        ("cacheline tracking EEXIST", DebugCheck::Overlap),
        ("overlapping mappings of cacheline", DebugCheck::OverlapCounter),
        ("maps memory from stack", DebugCheck::Stack),
        // Older kernels lost the blank.
        ("maps memory fromstack", DebugCheck::Stack),
        ("maps memory from vmalloc area", DebugCheck::Vmalloc),
        ("maps memory from kernel text or rodata", DebugCheck::Text),
        ("maps memory from invalid area", DebugCheck::InvalidArea),
        ("failed to check map error", DebugCheck::MapErrorNotChecked),
        ("has pending DMA allocations while released", DebugCheck::Pending),
        ("frees DMA memory with", DebugCheck::WrongFree),
        ("memory it has not allocated", DebugCheck::NotAllocated),
        ("an invalid DMA memory address", DebugCheck::NotAllocated),
        ("sg segment longer than device claims", DebugCheck::SegmentTooLong),
        ("sg segment across boundary", DebugCheck::SegmentBoundary),
        ("cacheline tracking ENOMEM", DebugCheck::OutOfMemory),
        ("debugging out of memory", DebugCheck::OutOfMemory),
        ("cpu touching an active dma mapped cacheline", DebugCheck::Touched),
        ("device driver ", DebugCheck::Other),
    ];
    let (_, check) = CHECKS.iter().find(|(words, _)| rest.contains(words))?;
    Some(Message::Debug(*check))
}

/// The functions of a call trace frame: `dma_map_phys+0x2d8/0x300`, with or without what is around it, or
/// `dma_map_phys (kernel/dma/mapping.c:160)`, as `scripts/decode_stacktrace.sh` prints it.
pub(super) fn frame(text: &str) -> Option<&str> {
    let Some(at) = text.find("+0x").filter(|at| text[*at..].contains("/0x")) else { return decoded_frame(text) };
    last_name(&text[..at])
}

/// `dma_map_phys (kernel/dma/mapping.c:160)`, with several places where functions are inlined.
fn decoded_frame(text: &str) -> Option<&str> {
    text.match_indices(" (").find_map(|(at, _)| {
        let place = text[at + 2..].split([')', ' ']).next()?;
        let (file, line) = place.rsplit_once(':')?;
        let is_source = [".c", ".h", ".S", ".rs"].iter().any(|end| file.ends_with(end));
        let is_line = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
        (is_source && is_line).then(|| last_name(&text[..at]))?
    })
}

fn last_name(name: &str) -> Option<&str> {
    // The last run of a name's characters; what is before it may be any text.
    let name = name.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.').next().unwrap_or_default();
    (!name.is_empty()).then_some(name)
}

/// Whether a record begins an oops, a lockup or an abort.
pub(super) fn begins_oops(text: &str) -> bool {
    static WORDS: LazyLock<Finder> = LazyLock::new(|| {
        Finder::new([
            "Unable to handle kernel",
            "Internal error: ",
            "BUG: unable to handle",
            "BUG: KASAN",
            "BUG: KFENCE",
            "kernel BUG at ",
            "Oops: ",
            "Oops [",
            "general protection fault",
            "soft lockup",
            "hard LOCKUP",
            "self-detected stall",
            "SError Interrupt",
            "Kernel panic - not syncing",
        ])
    });
    WORDS.has_any(text)
}

/// What the pool has in bytes, for messages that give MiB rounded down.
pub(super) fn bytes_of(pool: Span) -> u64 {
    pool.slots() * SLOT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Option<Message> {
        find(text).map(|found| found.message)
    }

    #[test]
    fn words_of_old_and_new_kernels_are_one_message() {
        assert_eq!(
            message("dwc3 a.dwc3: DMA: Out of SW-IOMMU space for 16384 bytes"),
            Some(Message::FullWithoutFill { size: 16384 })
        );
        let old = find("DMA: Out of SW-IOMMU space for 4224 bytes at device 0000:0b:00.0").unwrap();
        assert_eq!(old.device.as_deref(), Some("0000:0b:00.0"));
        assert_eq!(
            find("dwc3 a.dwc3: DMA: Out of SW-IOMMU space for 8 bytes").unwrap().device.as_deref(),
            Some("a.dwc3")
        );
        let range = Span { start: 0xf7ff_f000, end: 0xfbff_f000 };
        let line = "software IO TLB [mem 0xf7fff000-0xfbfff000] (64MB) mapped at [ffffffc0f7fff000-ffffffc0fbffefff]";
        assert_eq!(message(line), Some(Message::Mapped(range)));
    }

    #[test]
    fn the_device_is_where_each_message_has_it() {
        let device = |text: &str| find(text).unwrap().device;
        assert_eq!(device("DMA pool exhausted for 0000:01:00.0").as_deref(), Some("0000:01:00.0"));
        assert_eq!(
            device("swiotlb: coherent allocation failed for device udma.0 size=8388608").as_deref(),
            Some("udma.0")
        );
        assert_eq!(
            device("DMA-API: spi_x 1000000.spi: device driver maps memory from stack [addr=0]").as_deref(),
            Some("1000000.spi")
        );
        assert_eq!(device("DMA-API: exceeded 7 overlapping mappings of cacheline 0x0000000001234567"), None);
        assert_eq!(device("Reserved memory: created restricted DMA pool at 0x50000000, size 4 MiB"), None);
    }

    #[test]
    fn frames_are_functions_whatever_is_around_them() {
        assert_eq!(frame(" dma_map_phys+0x2d8/0x300 (P)"), Some("dma_map_phys"));
        assert_eq!(frame("lr : swiotlb_bounce+0x1b0/0x1d8"), Some("swiotlb_bounce"));
        assert_eq!(
            frame("WARNING: CPU: 1 PID: 99 at kernel/dma/direct.c:516 dma_direct_map_resource+0x8c/0xa0"),
            Some("dma_direct_map_resource")
        );
        assert_eq!(frame("[<ffff000008cf69a8>] ? test_bit+0x18/0x38"), Some("test_bit"));
        assert_eq!(frame("sz: 1+0x2"), None);
        assert_eq!(
            frame("dma_map_page_attrs (kernel/dma/direct.h:94 kernel/dma/mapping.c:156) "),
            Some("dma_map_page_attrs")
        );
        assert_eq!(frame("? swiotlb_bounce (kernel/dma/swiotlb.c:580)"), Some("swiotlb_bounce"));
        assert_eq!(frame("BUG: KASAN: use-after-free in memcpy (mm/kasan/shadow.c:65)"), Some("memcpy"));
        for none in ["usb 1-1 (a.c): x", "x (a.c:b)", "x (at 10:30)", " (mm/slub.c:1)"] {
            assert_eq!(frame(none), None, "{none}");
        }
        assert_eq!(frame("dir\u{fffd}map_sg+0x26c/0x28c"), Some("map_sg"));
    }

    #[test]
    fn damaged_messages_are_none_or_what_is_left_of_them() {
        for text in [
            "x a: DMA addr 0x41234568+8 overflow (mask ffff",
            "software IO TLB: mapped [mem 0x10-0x08] (0MB)",
            "software IO TLB: area num",
            "x a: ARCH_DMA_MINALIGN smaller than CTR_EL0.CWG (128",
        ] {
            assert_eq!(message(text), None, "{text}");
        }
        assert_eq!(message("x a: swiotlb buffer is full (sz: 1048"), Some(Message::FullWithoutFigures));
    }
}
