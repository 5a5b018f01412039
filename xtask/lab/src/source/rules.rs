//! Decisions: which buffer bounces, what becomes of a list, and which kmalloc cache serves a length, by the kernel's functions and by
//! the model.

use std::path::Path;

use anyhow::{Result, ensure};
use tracer::model::{
    concatenation::{SegmentLimits, dma_segments},
    kmalloc::bytes_given,
    link::{self, Pieces},
    mapping::{Buffer, DeviceTraits, Fate, Machine, list_loses_concatenation, segment, single},
    policy::Lists,
    release::Release,
    rule::ResolvedRule,
};
use tracer_ebpf::attrs::{MMIO, REQUIRE_COHERENT, SKIP_CPU_SYNC};
use tracer_ebpf::decide::{ARM64_DMA_MINALIGN, BIDIRECTIONAL, Decider, FROM_DEVICE};

use super::{
    compared::{Compared, decoded},
    kernel_code::{self, KernelCode},
};

/// Rounds, each with kmalloc caches of its own. The round's number is the seed, so that a difference is there again in the next run.
const ROUNDS: u64 = 12;
/// Mappings of a round.
const OPERATIONS: usize = 20_000;
/// Lengths that are rounded up: all of them up to 1 MiB.
const LENGTHS: u64 = (1 << 20) + 1;
/// Most segments of a list, as in `rules.c`.
const SEGMENTS: usize = 8;

/// The mapping is refused.
const NONE: u64 = u64::MAX;

/// Which functions of the kernel are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rules {
    /// `kmalloc_size_roundup()`, with the caches that `create_kmalloc_caches()` makes.
    Roundup,
    /// Buffers and lists without an IOMMU: `dma_direct_map_page()` or `dma_direct_map_phys()`, and `dma_direct_map_sg()`.
    Direct,
    /// The same behind an IOMMU: `iommu_dma_map_page()` or `iommu_dma_map_phys()`, and `iommu_dma_map_sg()`.
    Iommu,
    /// Buffers linked there: `dma_iova_link()`, from 6.16 on.
    Link,
}

impl Rules {
    pub(super) const ALL: [Self; 4] = [Self::Roundup, Self::Direct, Self::Iommu, Self::Link];

    /// Whether a kernel has these functions.
    pub(super) fn are_in(self, version: &str) -> bool {
        self != Self::Link || Release::of(version).is_some_and(|release| release.is_at_least(6, 16))
    }

    /// As the table has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Roundup => "kmalloc_size_roundup()",
            Self::Direct => "dma_direct_map_*()",
            Self::Iommu => "iommu_dma_map_*()",
            Self::Link => "dma_iova_link()",
        }
    }

    /// What a model could have wrong, and the comparison finds.
    fn mistakes(self) -> &'static [Mistake] {
        match self {
            Self::Roundup => &[Mistake::LargerCaches],
            Self::Direct => &[Mistake::LargerCaches, Mistake::LargerLines, Mistake::ShorterLimit, Mistake::NoBusLimit],
            Self::Iommu => &[
                Mistake::LargerLines,
                Mistake::ShorterLimit,
                Mistake::Trusted,
                Mistake::SmallerGranule,
                Mistake::LongerSegments,
                Mistake::NoBoundary,
            ],
            Self::Link => &[
                Mistake::LargerLines,
                Mistake::ShorterLimit,
                Mistake::Trusted,
                Mistake::SmallerGranule,
                Mistake::EachForItself,
            ],
        }
    }
}

/// What a model could have wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    LargerCaches,
    LargerLines,
    /// Small is what is shorter than `ARCH_DMA_MINALIGN`, and not twice as much.
    ShorterLimit,
    NoBusLimit,
    Trusted,
    SmallerGranule,
    LongerSegments,
    NoBoundary,
    /// A piece of a linked buffer bounces for its own length.
    EachForItself,
}

/// How a buffer is mapped, as in `rules.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// With others of a list.
    List,
    /// By itself.
    Single,
    /// Linked into a range, in pieces.
    Link,
}

/// What of a kernel the operations depend on.
#[derive(Clone, Copy, Debug)]
struct KernelTraits {
    /// Bytes.
    page_size: u64,
    /// It knows [`MMIO`] and [`REQUIRE_COHERENT`].
    has_mmio: bool,
}

/// A buffer or a list that is mapped.
#[derive(Clone, Debug)]
struct Operation {
    way: Way,
    direction: u8,
    line: u32,
    device: DeviceTraits,
    is_active: bool,
    force: bool,
    /// `DMA_ATTR_*` bits, none of a list.
    attrs: u64,
    /// Physical addresses and lengths, bytes: of the list, the buffer, or the pieces of it.
    segments: Vec<(u64, u64)>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    /// DMA segments; [`NONE`] where it is refused.
    segments: u64,
    /// A bit for each segment that bounces, and how these are aligned.
    bounced: u64,
    align_mask: u64,
    /// The list is mapped element by element although the device has an IOMMU.
    is_marked: bool,
}

/// Compares a kernel's decisions with the model's.
pub(super) fn compare(cache: &Path, code: &KernelCode, rules: Rules, page_shift: u32) -> Result<Compared> {
    let program = code.rules_program(cache, page_shift)?;
    let has_mmio = Release::of(&code.version).is_some_and(|release| release.is_at_least(7, 2));
    let kernel = KernelTraits { page_size: 1 << page_shift, has_mmio };
    let compare = |mistake| match rules {
        Rules::Roundup => compare_lengths(&program, kernel, mistake),
        _ => compare_mappings(&program, rules, kernel, mistake),
    };
    let compared = compare(None)?;
    // A comparison that finds no mistake shows nothing.
    for mistake in rules.mistakes() {
        ensure!(compare(Some(*mistake))?.difference.is_some(), "a model with a mistake ({mistake:?}) passes");
    }
    Ok(compared)
}

fn compare_lengths(program: &Path, kernel: KernelTraits, mistake: Option<Mistake>) -> Result<Compared> {
    let mut compared = Compared::default();
    for minalign in [8, 16, 32, 64, 128] {
        let answers = kernel_code::run(program, &[LENGTHS, u64::from(minalign)].map(u64::to_ne_bytes).concat())?;
        let of_model = if mistake == Some(Mistake::LargerCaches) { minalign * 2 } else { minalign };
        let of_model: Vec<u64> = (0..LENGTHS).map(|bytes| bytes_given(bytes, of_model, kernel.page_size)).collect();
        let at = |nth: usize| format!("{nth} bytes, caches from {minalign}");
        compared.take(&decoded(&answers, |[given]| given)?, &of_model, answers.ended.as_deref(), |_, _| false, at)?;
        if compared.difference.is_some() {
            break;
        }
    }
    Ok(compared)
}

fn compare_mappings(program: &Path, rules: Rules, kernel: KernelTraits, mistake: Option<Mistake>) -> Result<Compared> {
    let mut compared = Compared::default();
    for seed in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let minalign = 8 << random.u32(..5);
        let operations: Vec<Operation> = (0..OPERATIONS).map(|_| operation(rules, kernel, &mut random)).collect();
        let of_model: Vec<Answer> = operations.iter().map(|operation| answer(operation, minalign, mistake)).collect();
        let answers = kernel_code::run(program, &encoded(minalign, &operations))?;
        let of_kernel = decoded(&answers, |[segments, bounced, align_mask, marked]| Answer {
            segments,
            bounced,
            align_mask,
            is_marked: marked != 0,
        })?;
        let at = |nth: usize| format!("round {seed}, operation {nth}, caches from {minalign}: {:?}", operations[nth]);
        let is_refused = |_, answer: &Answer| answer.segments == NONE;
        compared.take(&of_kernel, &of_model, answers.ended.as_deref(), is_refused, at)?;
        if compared.difference.is_some() {
            break;
        }
    }
    Ok(compared)
}

/// What the model says.
fn answer(operation: &Operation, minalign: u32, mistake: Option<Mistake>) -> Answer {
    let is = |what| mistake == Some(what);
    let mut device = operation.device;
    device.untrusted &= !is(Mistake::Trusted);
    if is(Mistake::NoBusLimit) {
        device.bus_dma_limit = 0;
    }
    if is(Mistake::SmallerGranule) {
        device.iommu_granule = device.iommu_granule.map(|granule| granule / 2);
    }
    if is(Mistake::LongerSegments) {
        device.segments.max_size = device.segments.max_size.saturating_mul(2);
    }
    if is(Mistake::NoBoundary) {
        device.segments.boundary_mask = u64::MAX;
    }
    let machine = Machine {
        decider: Decider {
            bounce_unaligned: 1,
            cache_line_size: operation.line << u32::from(is(Mistake::LargerLines)),
            minalign: minalign << u32::from(is(Mistake::LargerCaches)),
            dma_minalign: ARM64_DMA_MINALIGN >> u32::from(is(Mistake::ShorterLimit)),
        },
        rule: ResolvedRule::KMALLOC,
        lists: Lists::WholeList,
        pool_active: operation.is_active,
        falls_back: false,
        force: operation.force,
        // Kernels before 6.18 are not asked for registers.
        refuses_registers: true,
    };
    let buffers = operation.segments.iter().map(|&(phys, size)| Buffer {
        phys,
        dma_addr: Some(phys),
        size,
        direction: operation.direction,
        attrs: operation.attrs,
        shared: false,
    });
    let is_marked = operation.way == Way::List && list_loses_concatenation(&machine, &device, buffers.clone());
    let segments = match device.iommu_granule {
        Some(granule) if operation.way == Way::List && !is_marked => {
            dma_segments(operation.segments.iter().copied(), granule, device.segments)
        }
        _ => operation.segments.len() as u64,
    };
    let first = operation.segments.first().map_or(0, |(phys, _)| *phys);
    let size = operation.segments.iter().map(|(_, size)| size).sum();
    let whole = Buffer {
        phys: first,
        dma_addr: None,
        size,
        direction: operation.direction,
        attrs: operation.attrs,
        shared: false,
    };
    let mut answer = Answer { segments, bounced: 0, align_mask: 0, is_marked };
    for (nth, buffer) in buffers.enumerate() {
        let fate = match operation.way {
            Way::Link if !is(Mistake::EachForItself) => link::piece(&machine, &device, &whole, &buffer),
            Way::Single | Way::Link => single(&machine, &device, &buffer),
            Way::List => segment(&machine, &device, &buffer, is_marked),
        };
        match fate {
            Fate::Direct => {}
            Fate::Bounce { align_mask, .. } => {
                answer.bounced |= 1 << nth;
                answer.align_mask |= align_mask;
            }
            Fate::Refused { .. } => {
                answer.segments = NONE;
                break;
            }
        }
    }
    answer
}

/// A mapping as drivers make them, of small buffers more often than of others.
fn operation(rules: Rules, kernel: KernelTraits, random: &mut fastrand::Rng) -> Operation {
    let of = |of: &[u64], random: &mut fastrand::Rng| of[random.usize(..of.len())];
    // A granule larger than a page is no case of the kernel's: its lists know only offsets into a page.
    let granules = [4096, 16384, 65536].into_iter().filter(|granule| *granule <= kernel.page_size);
    let iommu_granule = matches!(rules, Rules::Iommu | Rules::Link).then(|| of(&granules.collect::<Vec<_>>(), random));
    let device = DeviceTraits {
        coherent: random.u8(..4) == 0,
        dma_mask: of(&[u64::MAX, u64::MAX, (1 << 36) - 1, u64::from(u32::MAX), (1 << 30) - 1], random),
        bus_dma_limit: of(&[0, 0, 0, u64::from(u32::MAX), (1 << 33) - 1], random),
        min_align_mask: 0,
        segments: SegmentLimits {
            max_size: of(&[65536, 65536, u64::from(u32::MAX), 131_072, 65535], random) as u32,
            boundary_mask: of(&[u64::MAX, u64::MAX, u64::from(u32::MAX), 0xf_ffff, 0xffff], random),
        },
        iommu_granule,
        untrusted: iommu_granule.is_some() && random.u8(..8) == 0,
        force_bounce: false,
    };
    let is_active = random.u8(..8) != 0;
    let way = match rules {
        Rules::Link => Way::Link,
        _ if random.bool() => Way::Single,
        _ => Way::List,
    };
    let count = if way == Way::List { random.usize(1..=SEGMENTS) } else { 1 };
    // A list of whole pages, or of anything.
    let is_of_pages = random.u8(..3) == 0;
    let mut segments: Vec<_> = (0..count).map(|_| buffer(is_of_pages, random)).collect();
    if let (Way::Link, [(phys, size)]) = (way, &segments[..]) {
        segments = Pieces::new(*phys, *size, iommu_granule).as_slice().to_vec();
    }
    let attrs = match random.u8(..8) {
        0 => SKIP_CPU_SYNC,
        1 if kernel.has_mmio => MMIO,
        // Of other devices dma_map_phys() refuses it before these functions are called.
        2 if kernel.has_mmio && device.coherent => REQUIRE_COHERENT,
        _ => 0,
    };
    Operation {
        way,
        attrs: if way == Way::List { 0 } else { attrs },
        direction: random.u8(BIDIRECTIONAL..=FROM_DEVICE),
        line: 16 << random.u32(..5),
        device,
        is_active,
        // What is forced has a pool.
        force: is_active && random.u8(..8) == 0,
        segments,
    }
}

fn buffer(is_of_pages: bool, random: &mut fastrand::Rng) -> (u64, u64) {
    let phys = random.u64(1..1 << 37);
    if is_of_pages && random.u8(..8) != 0 {
        return (phys & !0xffff, 4096 << random.u32(..6));
    }
    let aligned = [1, 8, 64, 512, 4096][random.usize(..5)];
    let most = [64, 300, 4096, 65536, 300_000][random.usize(..5)];
    let size = random.u64(1..=most);
    let size = if random.u8(..4) == 0 { size.next_multiple_of(aligned) } else { size };
    (phys & !(aligned - 1), size)
}

/// A round as `rules.c` reads it.
fn encoded(minalign: u32, operations: &[Operation]) -> Vec<u8> {
    let each = |operation: &Operation| {
        let device = &operation.device;
        let mut numbers = vec![
            operation.way as u64,
            operation.segments.len() as u64,
            u64::from(operation.line),
            u64::from(operation.direction),
            u64::from(device.coherent),
            u64::from(device.untrusted),
            device.dma_mask,
            device.bus_dma_limit,
            device.iommu_granule.unwrap_or_default(),
            u64::from(operation.is_active),
            u64::from(operation.force),
            u64::from(device.segments.max_size),
            device.segments.boundary_mask,
            operation.attrs,
        ];
        let segments = operation.segments.iter().copied().chain(std::iter::repeat((0, 0)));
        numbers.extend(segments.take(SEGMENTS).flat_map(|(phys, length)| [phys, length]));
        numbers
    };
    let numbers = [0, u64::from(minalign)].into_iter().chain(operations.iter().flat_map(each));
    numbers.flat_map(u64::to_ne_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: KernelTraits = KernelTraits { page_size: 65536, has_mmio: true };

    #[test]
    fn a_mistake_in_the_model_changes_its_answers() {
        for rules in [Rules::Direct, Rules::Iommu, Rules::Link] {
            let mut random = fastrand::Rng::with_seed(1);
            let operations: Vec<Operation> = (0..OPERATIONS).map(|_| operation(rules, KERNEL, &mut random)).collect();
            for mistake in rules.mistakes() {
                let differs = |operation| answer(operation, 8, None) != answer(operation, 8, Some(*mistake));
                assert!(operations.iter().any(differs), "{rules:?} {mistake:?}");
            }
        }
    }

    #[test]
    fn operations_are_of_every_kind() {
        let mut random = fastrand::Rng::with_seed(2);
        let operations: Vec<Operation> =
            (0..OPERATIONS).map(|_| operation(Rules::Iommu, KERNEL, &mut random)).collect();
        let answers: Vec<Answer> = operations.iter().map(|operation| answer(operation, 8, None)).collect();
        let share = |is: fn(&Answer) -> bool| answers.iter().filter(|answer| is(answer)).count() * 100 / OPERATIONS;
        assert!(share(|answer| answer.segments == NONE) >= 2);
        assert!(share(|answer| answer.bounced != 0 && answer.segments != NONE) >= 10);
        assert!(share(|answer| answer.bounced == 0) >= 10);
        assert!(share(|answer| answer.is_marked) >= 10);
        let merged = |(operation, answer): (&Operation, &Answer)| answer.segments < operation.segments.len() as u64;
        assert!(operations.iter().zip(&answers).filter(|both| merged(*both)).count() * 100 / OPERATIONS >= 2);
    }
}
