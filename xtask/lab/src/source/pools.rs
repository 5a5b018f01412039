//! Pools: `kernel/dma/swiotlb.c` and the model's pool with the same mappings, compared after each.

use std::path::Path;

use anyhow::{Result, ensure};
use tracer::model::pool::{Growing, Held, PoolConfig, Request, SlotRule};

use super::{
    compared::{Compared, decoded},
    kernel_code::{self, KernelCode},
};

/// Rounds, each with a pool of its own. The round's number is the seed, so that a difference is there again in the next run.
const ROUNDS: u64 = 60;
/// Operations of a round.
const OPERATIONS: usize = 8000;
const CPUS: u32 = 8;

/// The mapping found no slots; and, of an operation, it is not one that unmaps.
const NONE: u64 = u64::MAX;
/// A place in a pool of its own, with its slots, as `pool.c` says it.
const TRANSIENT: u64 = 1 << 62;
/// A place in an added pool: its number above this, and below the bytes from its beginning.
const POOL_SHIFT: u32 = 40;

/// Which pools a program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pools {
    /// The default one, as large as it was made, and restricted ones.
    Fixed,
    /// The default one, with `CONFIG_SWIOTLB_DYNAMIC`. The kernel's worker adds a pool as soon as it is asked.
    Growing,
}

impl Pools {
    pub(super) const ALL: [Self; 2] = [Self::Fixed, Self::Growing];

    /// As the table has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fixed => "swiotlb.c",
            Self::Growing => "swiotlb.c, growing",
        }
    }
}

/// A pool that is made.
#[derive(Clone, Copy, Debug)]
struct Shape {
    is_restricted: bool,
    grows: bool,
    slots: u64,
    areas: u32,
    page_size: u64,
}

/// A mapping, or the end of one.
#[derive(Clone, Copy, Debug)]
struct Operation {
    /// The number of the operation whose mapping is undone; [`NONE`] where one is made.
    unmap: u64,
    request: Request,
}

/// What is known after an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    /// Where the mapping is; [`NONE`] where there is none.
    place: u64,
    used: u64,
    hiwater: u64,
    total: u64,
}

/// The model's pool, or one with a mistake, by which the comparison itself is tested.
struct Simulated {
    pool: Growing,
    mistake: Option<Mistake>,
    held: Vec<Option<Held>>,
    /// Held still, by number of operation.
    open: Vec<usize>,
    hiwater: u64,
    now_ns: u64,
}

/// What a model could have wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// Slots counted by the rule before 6.10.
    OldSlotRule,
    /// All CPUs begin with the same area.
    OneArea,
    /// Pages of half the size.
    SmallPages,
}

impl Simulated {
    fn new(shape: &Shape, mistake: Option<Mistake>) -> Self {
        let slot_rule = match mistake {
            Some(Mistake::OldSlotRule) => SlotRule::CallerAligned,
            _ => SlotRule::PoolAligned,
        };
        let page_size = if mistake == Some(Mistake::SmallPages) { shape.page_size / 2 } else { shape.page_size };
        let config = PoolConfig { slots: shape.slots, areas: shape.areas, slot_rule, page_size };
        Self {
            pool: Growing::new(config, shape.grows),
            mistake,
            held: Vec::new(),
            open: Vec::new(),
            hiwater: 0,
            now_ns: 0,
        }
    }

    /// Does the operation, which is the next one.
    fn operate(&mut self, operation: &Operation) -> Answer {
        let mut place = NONE;
        let mut request = operation.request;
        if self.mistake == Some(Mistake::OneArea) {
            request.cpu = 0;
        }
        let mut now_held = None;
        if operation.unmap != NONE {
            if let Some(held) = self.held.get_mut(operation.unmap as usize).and_then(Option::take) {
                self.pool.unmap(held);
            }
        } else if let Ok(held) = self.pool.map(&request) {
            place = match &held {
                Held::In(pool, bounce) => u64::from(*pool) << POOL_SHIFT | bounce.slot_addr(),
                Held::Transient(slots) => TRANSIENT | u64::from(*slots),
            };
            self.open.push(self.held.len());
            now_held = Some(held);
        }
        self.held.push(now_held);
        self.hiwater = self.hiwater.max(self.pool.used_slots());
        // The worker is done before the next operation.
        self.now_ns += 1;
        self.pool.reach(self.now_ns);
        Answer { place, used: self.pool.used_slots(), hiwater: self.hiwater, total: self.pool.total_slots() }
    }
}

/// The pool of a round.
fn shape(pools: Pools, page_size: u64, random: &mut fastrand::Rng) -> Shape {
    let grows = pools == Pools::Growing;
    if !grows && random.u8(..2) == 0 {
        return Shape { is_restricted: true, grows, slots: random.u64(1..1500), areas: 1, page_size };
    }
    let areas = 1 << random.u32(0..4);
    let most = if grows { 3 } else { 6 };
    Shape { is_restricted: false, grows, slots: u64::from(128 * areas) << random.u32(0..most), areas, page_size }
}

/// A power of two less one, up to 64 KiB - 1; 0 more often.
fn any_mask(random: &mut fastrand::Rng) -> u64 {
    if random.u8(..3) == 0 { 0 } else { (1 << random.u32(0..17)) - 1 }
}

/// A mapping as drivers make them, or of any masks.
fn mapping(is_wild: bool, random: &mut fastrand::Rng) -> Request {
    let (align_mask, min_align_mask) = if is_wild {
        (any_mask(random), any_mask(random))
    } else {
        // No IOMMU, or its granule; and no mask, or an NVMe controller's.
        ([0, 0, 0, 4095, 16383, 65535][random.usize(..6)], [0, 0, 511, 4095][random.usize(..4)])
    };
    let most = [64, 4096, 1 << 16, 1 << 18, (1 << 18) + 4096][random.usize(..5)];
    let within = [0, 511, 4095, u64::MAX][random.usize(..4)];
    let phys = if random.u8(..50) == 0 { 0 } else { random.u64(..1 << 36) & !within };
    let phys = if within == u64::MAX { random.u64(..1 << 36) } else { phys };
    Request { cpu: random.u32(..CPUS), phys, size: random.u64(1..=most), align_mask, min_align_mask, is_memory: false }
}

/// The operations of a round, and what the model says of each.
fn round(shape: &Shape, mistake: Option<Mistake>, random: &mut fastrand::Rng) -> (Vec<Operation>, Vec<Answer>) {
    let mut model = Simulated::new(shape, mistake);
    let (mut operations, mut answers) = (Vec::new(), Vec::new());
    let is_wild = random.bool();
    // Of 8 operations so many map: the pool fills and empties.
    let mut mapping_of_eight = 6;
    for n in 0..OPERATIONS {
        if n % 500 == 0 {
            mapping_of_eight = random.u8(2..7);
        }
        let operation = if model.open.is_empty() || random.u8(..8) < mapping_of_eight {
            Operation { unmap: NONE, request: mapping(is_wild, random) }
        } else {
            let made = model.open.swap_remove(random.usize(..model.open.len()));
            Operation { unmap: made as u64, request: Request { cpu: random.u32(..CPUS), ..EMPTY } }
        };
        answers.push(model.operate(&operation));
        operations.push(operation);
    }
    (operations, answers)
}

const EMPTY: Request = Request { cpu: 0, phys: 0, size: 0, align_mask: 0, min_align_mask: 0, is_memory: false };

/// A round as `pool.c` reads it.
fn encoded(shape: &Shape, operations: &[Operation]) -> Vec<u8> {
    let header = [u64::from(shape.is_restricted), u64::from(shape.grows), shape.slots, u64::from(shape.areas)];
    let each = |operation: &Operation| {
        let Request { cpu, phys, size, align_mask, min_align_mask, .. } = operation.request;
        [operation.unmap, u64::from(cpu), phys, size, align_mask, min_align_mask]
    };
    let numbers = header.into_iter().chain(operations.iter().flat_map(each));
    numbers.flat_map(u64::to_ne_bytes).collect()
}

/// Compares a kernel's pools with the model's.
pub(super) fn compare(cache: &Path, code: &KernelCode, pools: Pools, page_shift: u32) -> Result<Compared> {
    let program = code.pool_program(cache, page_shift, pools == Pools::Growing)?;
    let rounds = compare_rounds(&program, pools, page_shift, None)?;
    // A comparison that finds no mistake shows nothing.
    for mistake in [Mistake::OldSlotRule, Mistake::OneArea, Mistake::SmallPages] {
        let mistaken = compare_rounds(&program, pools, page_shift, Some(mistake))?;
        ensure!(mistaken.difference.is_some(), "a model with a mistake ({mistake:?}) passes");
    }
    Ok(rounds)
}

fn compare_rounds(program: &Path, pools: Pools, page_shift: u32, mistake: Option<Mistake>) -> Result<Compared> {
    let mut compared = Compared::default();
    for seed in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let shape = shape(pools, 1 << page_shift, &mut random);
        let (operations, of_model) = round(&shape, mistake, &mut random);
        let answers = kernel_code::run(program, &encoded(&shape, &operations))?;
        let of_kernel = decoded(&answers, |[place, used, hiwater, total]| Answer { place, used, hiwater, total })?;
        let at = |nth: usize| format!("round {seed}, operation {nth} of {shape:?}: {:?}", operations[nth]);
        let is_refused = |nth: usize, answer: &Answer| operations[nth].unmap == NONE && answer.place == NONE;
        compared.take(&of_kernel, &of_model, answers.ended.as_deref(), is_refused, at)?;
        if compared.difference.is_some() {
            break;
        }
    }
    Ok(compared)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(pools: Pools, mistake: Option<Mistake>, seed: u64) -> Vec<Answer> {
        let mut random = fastrand::Rng::with_seed(seed);
        let shape = shape(pools, 4096, &mut random);
        round(&shape, mistake, &mut random).1
    }

    #[test]
    fn a_mistake_in_the_model_changes_its_answers() {
        for pools in Pools::ALL {
            for mistake in [Mistake::OldSlotRule, Mistake::OneArea, Mistake::SmallPages] {
                let differs = |seed| answers(pools, None, seed) != answers(pools, Some(mistake), seed);
                assert!((0..8).any(differs), "{pools:?} {mistake:?}");
            }
        }
    }

    #[test]
    fn a_round_is_the_same_each_time() {
        assert_eq!(answers(Pools::Growing, None, 3), answers(Pools::Growing, None, 3));
        assert_ne!(answers(Pools::Growing, None, 3), answers(Pools::Growing, None, 4));
    }
}
