//! What a kernel does with a small buffer, asked of the model: the decider, the order of checks, an empty pool.

use serde::Serialize;
use tracer_ebpf::decide::{BIDIRECTIONAL, FROM_DEVICE, TO_DEVICE};

use bouncescope_capture::facts::KernelFacts;
use bouncescope_model::kmalloc::bytes_given;
use bouncescope_model::mapping::{Buffer, DeviceTraits, Fate, Reason, single};
use bouncescope_model::pool::{Pool, Request};
use bouncescope_replay::settings::Settings;

/// The example: a USB device descriptor, which is read into a buffer of kmalloc with each enumeration.
const EXAMPLE: u64 = 18;
/// Where the example lies: a multiple of 32, as such objects do, and of no larger granule.
const EXAMPLE_PHYS: u64 = 0x4000_0020;
/// Lengths looked at, bytes: no architecture's rule goes further than twice an `ARCH_DMA_MINALIGN` of 128.
const LENGTHS: u64 = 512;

/// What a kernel does with small buffers that any device can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Today {
    /// Lengths that are not mapped as they are, for a non-coherent device that writes to them, without IOMMU: inclusive
    /// ranges, bytes. Looked at from 1 to 512.
    pub lengths: Vec<(u64, u64)>,
    /// Length of the example, bytes.
    pub example: u64,
    /// What kmalloc gives for it, bytes.
    pub given: u64,
    /// The example, for each kind of device and direction.
    pub cases: Vec<Case>,
    /// How many mappings like the first case the pool holds at once; 0 where none bounces.
    pub room: u64,
}

/// The example mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Case {
    /// The device is coherent.
    pub coherent: bool,
    /// The IOMMU's granule, bytes, where it maps through one.
    pub iommu_granule: Option<u64>,
    /// `DMA_TO_DEVICE`, `DMA_FROM_DEVICE`, `DMA_BIDIRECTIONAL`.
    pub direction: u8,
    /// What becomes of it.
    pub outcome: CaseOutcome,
}

/// What becomes of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CaseOutcome {
    /// Mapped as it is.
    Direct,
    /// Bounced.
    Bounced {
        /// Why.
        reason: Reason,
        /// Slots that it takes.
        slots: u64,
    },
    /// The mapping fails.
    Fails {
        /// Why it cannot be mapped as it is.
        reason: Reason,
    },
}

impl Today {
    /// Of a kernel as it is.
    pub fn of(kernel: &KernelFacts) -> Self {
        let settings = Settings::captured(kernel);
        let granule = Some(settings.page_size.max(1)).filter(|size| size.is_power_of_two()).unwrap_or(4096);
        let case = |coherent, iommu_granule, direction| Case {
            coherent,
            iommu_granule,
            direction,
            outcome: outcome(&settings, coherent, iommu_granule, direction, EXAMPLE),
        };
        let cases = vec![
            case(false, None, FROM_DEVICE),
            case(false, None, BIDIRECTIONAL),
            case(false, None, TO_DEVICE),
            case(true, None, FROM_DEVICE),
            case(false, Some(granule), FROM_DEVICE),
            case(false, Some(granule), TO_DEVICE),
        ];
        Self {
            lengths: lengths(&settings),
            example: EXAMPLE,
            given: bytes_given(EXAMPLE, settings.decider.minalign, settings.page_size),
            room: match cases[0].outcome {
                CaseOutcome::Bounced { slots, .. } => Pool::new(settings.pool()).total_slots() / slots.max(1),
                CaseOutcome::Direct | CaseOutcome::Fails { .. } => 0,
            },
            cases,
        }
    }
}

fn lengths(settings: &Settings) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for length in 1..=LENGTHS {
        if outcome(settings, false, None, FROM_DEVICE, length) == CaseOutcome::Direct {
            continue;
        }
        match ranges.last_mut() {
            Some((_, end)) if *end + 1 == length => *end = length,
            _ => ranges.push((length, length)),
        }
    }
    ranges
}

fn outcome(settings: &Settings, coherent: bool, iommu_granule: Option<u64>, direction: u8, size: u64) -> CaseOutcome {
    let device = DeviceTraits { coherent, iommu_granule, dma_mask: u64::MAX, ..DeviceTraits::default() };
    let buffer = Buffer { phys: EXAMPLE_PHYS, dma_addr: None, size, direction, attrs: 0, shared: false };
    match single(&settings.machine(), &device, &buffer) {
        Fate::Direct => CaseOutcome::Direct,
        Fate::Refused { reason, .. } => CaseOutcome::Fails { reason },
        Fate::Bounce { reason, align_mask } => {
            let request = Request { cpu: 0, phys: EXAMPLE_PHYS, size, align_mask, min_align_mask: 0, is_memory: false };
            match Pool::new(settings.pool()).map(&request) {
                Ok(bounce) => CaseOutcome::Bounced { reason, slots: bounce.slots() },
                Err(_) => CaseOutcome::Fails { reason },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_capture::facts::PoolFacts;

    fn arm64(line: u32, minalign: u32, slots: u64) -> KernelFacts {
        KernelFacts {
            machine: "aarch64".into(),
            page_size: 4096,
            cache_line_size: line,
            dma_minalign: 128,
            kmalloc_minalign: minalign,
            bounce_unaligned_kmalloc: true,
            pool: PoolFacts { slots, areas: 2, ..PoolFacts::default() },
            ..KernelFacts::default()
        }
    }

    fn outcomes(kernel: &KernelFacts) -> Vec<CaseOutcome> {
        Today::of(kernel).cases.iter().map(|case| case.outcome).collect()
    }

    const KMALLOC: Reason = Reason::Kmalloc;

    #[test]
    fn with_lines_of_64_a_short_buffer_bounces_for_who_writes_to_it_incoherently() {
        let today = Today::of(&arm64(64, 8, 512));
        assert_eq!(today.lengths, [(1, 32), (65, 96)]);
        assert_eq!((today.given, today.room), (32, 512));
        let bounced = |slots| CaseOutcome::Bounced { reason: KMALLOC, slots };
        let direct = CaseOutcome::Direct;
        let outcomes: Vec<_> = today.cases.iter().map(|case| case.outcome).collect();
        assert_eq!(outcomes, [bounced(1), bounced(1), direct, direct, bounced(2), direct]);
    }

    #[test]
    fn without_a_pool_caches_are_lines_and_nothing_bounces() {
        let today = Today::of(&arm64(64, 64, 0));
        assert_eq!((today.lengths, today.given, today.room), (vec![], 64, 0));
    }

    #[test]
    fn small_caches_without_a_pool_make_mappings_fail() {
        assert_eq!(outcomes(&arm64(128, 64, 0))[0], CaseOutcome::Fails { reason: KMALLOC });
        assert_eq!(Today::of(&arm64(128, 64, 0)).lengths, [(1, 64), (129, 192)]);
    }

    #[test]
    fn force_bounces_every_length_and_direction_but_behind_an_iommu() {
        let mut kernel = arm64(64, 8, 512);
        kernel.pool.force = true;
        let today = Today::of(&kernel);
        assert_eq!(today.lengths, [(1, LENGTHS)]);
        assert_eq!(today.cases[3].outcome, CaseOutcome::Bounced { reason: Reason::Force, slots: 1 });
        assert_eq!(today.cases[5].outcome, CaseOutcome::Direct);
    }

    #[test]
    fn kernels_before_6_5_give_128_bytes_and_bounce_nothing() {
        let kernel = KernelFacts { bounce_unaligned_kmalloc: false, ..arm64(64, 128, 512) };
        let today = Today::of(&kernel);
        assert_eq!((today.lengths, today.given), (vec![], 128));
    }

    #[test]
    fn facts_that_say_nothing_are_answered() {
        Today::of(&KernelFacts::default());
    }
}
