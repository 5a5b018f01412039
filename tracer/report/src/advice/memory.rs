//! What a pool takes in memory, and what it saves in slabs: with one the kmalloc caches begin at 8 bytes, without one at the line size
//! (`__kmalloc_minalign()`, `arch/arm64/mm/init.c` and `mm/slab_common.c`).

use serde::Serialize;

use crate::table::bytes;
use bouncescope_model::pool::SLOT;
use bouncescope_replay::Replayed;
use bouncescope_replay::outcome::Outcome;
use bouncescope_replay::slabs::{self, Basis, Difference, Slabs};

/// Slabs of all kmalloc caches and the pool, now and otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Memory {
    /// The recorded kernel.
    pub now: Held,
    /// With the advised pool; with the kernel's smallest where none is needed.
    pub with_pool: Held,
    /// Without any.
    pub without_pool: Held,
    /// What is taken with the pool more than without; negative where the pool saves more than it takes.
    pub pool_costs: Difference,
    /// The largest pool that takes no more than it saves.
    pub break_even: Difference,
    /// Where it is not known whether the pool pays: the recording that would tell.
    pub would_tell: Option<String>,
}

/// Memory under one kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Held {
    /// What to write on the kernel's command line; empty for the recorded kernel.
    pub parameter: String,
    /// Slabs.
    pub slabs: Slabs,
    /// Bytes of the pool.
    pub pool_bytes: u64,
    /// Slabs and pool more than now.
    pub more_than_now: Difference,
}

impl Memory {
    /// `None` where the capture has no count of the kernel's caches.
    pub(super) fn new(replayed: &Replayed, with: &Outcome, parameter: String, without: &Outcome) -> Option<Self> {
        let kernel = &replayed.start.kernel;
        let (_, last) = replayed.slabs.as_ref()?;
        let now = slabs::counted(last, u64::from(kernel.page_size))?;
        let pool_now = kernel.pool.slots * SLOT;
        let held = |parameter: String, slabs: Slabs, pool_bytes: u64| Held {
            parameter,
            slabs,
            pool_bytes,
            more_than_now: slabs.more_than(&now).and(pool_bytes as i64 - pool_now as i64),
        };
        let (slabs_with, slabs_without) = (with.all_slabs?, without.all_slabs?);
        let pool_bytes = with.total_slots * SLOT;
        let pool_costs = slabs_with.more_than(&slabs_without).and(pool_bytes as i64);
        Some(Self {
            now: held(String::new(), now, pool_now),
            would_tell: pool_costs.may_be_either().then(|| would_tell(kernel.bounce_unaligned_kmalloc, &parameter)),
            with_pool: held(parameter, slabs_with, pool_bytes),
            without_pool: held("swiotlb=noforce".into(), slabs_without, without.total_slots * SLOT),
            pool_costs,
            break_even: slabs_without.more_than(&slabs_with),
        })
    }

    /// The pool saves more than it takes, whatever is not known.
    pub(super) fn pool_pays(&self) -> bool {
        self.pool_costs.high < 0
    }
}

fn would_tell(bounces: bool, parameter: &str) -> String {
    let kernel = if bounces { "this kernel" } else { "a kernel from 6.5 on" };
    format!("a recording of {kernel} with {parameter}: its caches begin at 8 bytes, and it counts the objects of each")
}

/// In words, a line each.
pub(super) fn text(memory: &Memory) -> String {
    let Memory { now, with_pool, without_pool, .. } = memory;
    let mut text = format!("  memory now: slabs {}{}\n", slabs_of(&now.slabs), pool_of(now.pool_bytes));
    for held in [with_pool, without_pool] {
        let Held { parameter, slabs, pool_bytes, more_than_now } = held;
        text += &format!(
            "  memory with {parameter}: slabs {}{}: {}\n",
            slabs_of(slabs),
            pool_of(*pool_bytes),
            more(*more_than_now, "than now", "as much as now")
        );
    }
    text += &match (&memory.would_tell, memory.break_even.high > 0) {
        (Some(recording), _) => format!(
            "  memory: not enough is known to say whether {} takes more or less than no pool ({}). What would show it: {recording}\n",
            with_pool.parameter,
            range(memory.pool_costs)
        ),
        (None, true) => format!(
            "  memory: {} takes {}; a pool of up to {} pays\n",
            with_pool.parameter,
            more(memory.pool_costs, "than no pool", "as much as no pool"),
            between(memory.break_even, |up_to| bytes(up_to.max(0).unsigned_abs()))
        ),
        (None, false) => "  memory: no pool pays: the caches are the same without one\n".to_owned(),
    };
    text
}

fn pool_of(pool_bytes: u64) -> String {
    if pool_bytes == 0 { ", no pool".to_owned() } else { format!(", pool {}", bytes(pool_bytes)) }
}

/// Slabs as people read them: never an estimate without its bounds.
pub(crate) fn slabs_of(slabs: &Slabs) -> String {
    let Slabs { low, high, least, most, .. } = *slabs;
    let show = |value: Option<u64>| value.map_or_else(String::new, bytes);
    match slabs.basis {
        Basis::Counted => show(slabs.bytes),
        Basis::Moved => format!("{} ({} to {})", show(slabs.bytes), bytes(low), bytes(high)),
        Basis::Estimated => format!(
            "about {} ({} to {} by the call sites seen; {} to {} whatever the objects' sizes)",
            show(slabs.bytes),
            bytes(low),
            bytes(high),
            bytes(least),
            bytes(most)
        ),
        Basis::Bounded => format!("{} to {} (the objects' sizes are not known)", bytes(least), bytes(most)),
    }
}

fn more(difference: Difference, than: &str, same: &str) -> String {
    if (difference.low, difference.high) == (0, 0) {
        return same.to_owned();
    }
    if difference.may_be_either() || difference.bytes.is_none() {
        return format!("{} {than}", range(difference));
    }
    let what = if difference.low < 0 { "less" } else { "more" };
    format!("{} {what} {than}", between(difference, |bytes_| bytes(bytes_.unsigned_abs())))
}

/// The likeliest, and the range where there is one, the smaller first.
fn between(difference: Difference, show: impl Fn(i64) -> String) -> String {
    let Difference { bytes, low, high } = difference;
    let (from, to) = if low.unsigned_abs() <= high.unsigned_abs() { (low, high) } else { (high, low) };
    match bytes {
        Some(bytes) if low == high => show(bytes),
        Some(bytes) => format!("{} ({} to {})", show(bytes), show(from), show(to)),
        None => format!("{} to {}", show(from), show(to)),
    }
}

fn range(difference: Difference) -> String {
    let side = |value: i64| format!("{} {}", bytes(value.unsigned_abs()), if value < 0 { "less" } else { "more" });
    format!("{} to {}", side(difference.low), side(difference.high))
}
