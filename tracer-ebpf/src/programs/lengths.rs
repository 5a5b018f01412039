//! Every mapping counted exactly by device, direction and length, whether it is sent or not: how many would bounce for any line
//! size can be told from this alone.

use aya_ebpf::{bindings::BPF_NOEXIST, macros::map, maps::PerCpuHashMap};
use tracer_ebpf::{
    counter::{LengthCount, LengthKey, Mapped, Other},
    streamed::SMALL_BELOW,
};

use crate::emit::{add_to, count_other};

/// Mappings by device, direction and length.
#[map]
static LENGTHS: PerCpuHashMap<LengthKey, LengthCount> = PerCpuHashMap::with_max_entries(4096, 0);

/// What [`count`] takes as one number: a subprogram takes five.
#[inline(always)]
pub(crate) const fn what(direction: u64, mapped: Mapped, length: u64) -> u64 {
    let length = if length < SMALL_BELOW { length } else { SMALL_BELOW };
    length << 32 | (mapped as u64) << 16 | direction & 0xffff
}

/// Counts `count` mappings of `bytes` in sum.
///
/// Not inlined: the walk over a scatterlist calls it in every turn, and behind a call the verifier forgets the ways through it.
#[inline(never)]
pub(crate) fn count(dev: u64, fingerprint: u64, what: u64, count: u64, bytes: u64) {
    let key = LengthKey {
        dev,
        fingerprint,
        length: (what >> 32) as u32,
        direction: what as u16,
        mapped: (what >> 16) as u16,
    };
    if add(&key, count, bytes) || LENGTHS.insert(&key, &LengthCount { count, bytes }, u64::from(BPF_NOEXIST)).is_ok() {
        return;
    }
    // Another CPU, or an interrupt on this one, was first; or there is no room.
    if !add(&key, count, bytes) {
        count_other(Other::LengthsFull);
    }
}

/// Adds to what is there already; whether there was something.
#[inline(always)]
fn add(key: &LengthKey, count: u64, bytes: u64) -> bool {
    let Some(value) = LENGTHS.get_ptr_mut(key) else { return false };
    // SAFETY: the map keeps the value alive and aligned.
    unsafe {
        add_to(&raw mut (*value).count, count);
        add_to(&raw mut (*value).bytes, bytes);
    }
    true
}
