//! Counting what is seen and sending it into the ring, so that nothing is lost uncounted.

use core::arch::asm;

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use tracer_ebpf::{
    counter::{self, COUNTERS, Other},
    record::{Header, Kind},
};

use crate::config;

/// The ring of all that is no object; its size is set by the loader.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// [`tracer_ebpf::counter`]: one array per CPU.
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Adds one to a counter.
#[inline(always)]
pub(crate) fn count(index: u32) {
    add(index, 1);
}

/// Adds to a counter.
#[inline(always)]
fn add(index: u32, amount: u64) {
    if let Some(value) = COUNTS.get_ptr_mut(index) {
        // SAFETY: the map keeps the value alive and aligned.
        unsafe { add_to(value, amount) };
    }
}

/// Counts a record of `kind` as seen; how many that are by now on this CPU, or about that many.
#[inline(always)]
pub(crate) fn see(kind: Kind) -> u64 {
    let Some(value) = COUNTS.get_ptr_mut(counter::seen(kind)) else { return 0 };
    // SAFETY: the map keeps the value alive and aligned.
    unsafe {
        add_to(value, 1);
        value.read_volatile()
    }
}

/// Adds to a map's value. Atomic, because an interrupt may count on the same CPU between load and store.
///
/// # Safety
///
/// The value must be alive and aligned.
#[inline(always)]
pub(crate) unsafe fn add_to(value: *mut u64, amount: u64) {
    // In assembly because core has no atomic addition for this target.
    // SAFETY: the caller's; the instruction touches nothing else.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) value, in(reg) amount) };
}

/// Adds one to a counter that belongs to no kind of record.
#[inline(always)]
pub(crate) fn count_other(other: Other) {
    count(other as u32);
}

/// Adds to a counter that belongs to no kind of record.
#[inline(always)]
pub(crate) fn add_other(other: Other, amount: u64) {
    add(other as u32, amount);
}

/// The header of a record of `kind`, which happens now.
#[inline(always)]
pub(crate) fn header<C: EbpfContext>(ctx: &C, kind: Kind, direction: u64) -> Header {
    Header {
        // SAFETY: the helper has no precondition.
        time_ns: unsafe { bpf_ktime_get_ns() },
        // bpf_get_current_pid_tgid()'s lower half: the thread.
        task: ctx.pid(),
        // SAFETY: the helper has no precondition.
        cpu: unsafe { bpf_get_smp_processor_id() } as u16,
        kind: kind as u8,
        direction: direction as u8,
    }
}

/// Sends a record of `kind`; counts it, and counts it again as lost when the ring is full. Returns whether it was sent.
#[inline(always)]
pub(crate) fn send<T: Copy + 'static>(kind: Kind, record: T) -> bool {
    send_with(kind, |entry: *mut T| {
        // SAFETY: `send_with` hands out valid and aligned memory of that type.
        unsafe { entry.write(record) }
    })
}

/// As [`send`], for records too large for the stack: `fill` writes every field where it will be read.
#[inline(always)]
pub(crate) fn send_with<T: 'static>(kind: Kind, fill: impl FnOnce(*mut T)) -> bool {
    count(counter::seen(kind));
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        count(counter::ring_full(kind));
        return false;
    };
    fill(entry.as_mut_ptr());
    entry.submit(wakeup(unread(), config!(wake_at)));
    true
}

/// As [`send`], for records whose length is known only at run time.
#[inline(always)]
pub(crate) fn send_bytes(kind: Kind, record: &[u8]) {
    count(counter::seen(kind));
    if EVENTS.output::<[u8]>(record, wakeup(unread(), config!(wake_at))).is_err() {
        count(counter::ring_full(kind));
    }
}

/// Wakes the reader of all rings: through a record that is thrown away, since another kind of wakeup there is none.
#[inline(always)]
pub(crate) fn wake() {
    // Where there is no room, the reader of this ring has been woken.
    if let Some(entry) = EVENTS.reserve::<u64>(0) {
        entry.discard(u64::from(BPF_RB_FORCE_WAKEUP));
    }
}

/// Bytes in the ring that have not been read.
#[inline(always)]
fn unread() -> u64 {
    EVENTS.query(u64::from(BPF_RB_AVAIL_DATA))
}

/// How the record that is about to be submitted wakes the reader, with so many bytes unread: from `wake_at` on. Below, the reader
/// comes by itself now and then: a wakeup for every record would cost more than the record.
///
/// Computed without a branch: behind one, the verifier of kernels up to 6.1 walks the rest of a program that loops over a
/// scatterlist for each of its ways, which takes minutes on a small core.
#[inline(always)]
pub(crate) fn wakeup(unread: u64, wake_at: u32) -> u64 {
    const { assert!(BPF_RB_NO_WAKEUP == 1 && BPF_RB_FORCE_WAKEUP == 2) };
    // The sign of what is missing.
    u64::from(BPF_RB_NO_WAKEUP) + (u64::from(wake_at).wrapping_sub(1).wrapping_sub(unread) >> 63)
}
