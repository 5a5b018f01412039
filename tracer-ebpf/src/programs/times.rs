//! How long the pool's functions take, and cache maintenance where that is asked for: summed up in the kernel by function
//! and length, so that nothing is sent. The mapping's time is taken at the return that `swiotlb` probes anyway, and so is
//! the entry of the unmapping.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{kprobe, kretprobe, map},
    maps::PerCpuArray,
    programs::{ProbeContext, RetProbeContext},
};
use tracer_ebpf::counter::{self, Function, NO_FUNCTION, TIMES, Time};

use crate::probe::{Timed, arguments, timed_entered, timed_returned};

/// [`counter::time`]: one array per CPU.
#[map]
static POOL_TIMES: PerCpuArray<Time> = PerCpuArray::with_max_entries(TIMES, 0);

/// `swiotlb_sync_single_for_cpu(dev, tlb_addr, size, …)`, or `__swiotlb_sync_single_for_cpu()` of the same beginning.
#[kprobe]
pub fn pool_cpu_entry(ctx: ProbeContext) -> u32 {
    let [_, _, size, ..] = arguments(&ctx);
    begin(&ctx, Function::SyncForCpu as u64, size);
    0
}

/// `swiotlb_sync_single_for_device(dev, tlb_addr, size, …)`, or `__swiotlb_sync_single_for_device()`.
#[kprobe]
pub fn pool_device_entry(ctx: ProbeContext) -> u32 {
    let [_, _, size, ..] = arguments(&ctx);
    begin(&ctx, Function::SyncForDevice as u64, size);
    0
}

/// `swiotlb_tbl_sync_single(dev, tlb_addr, size, dir, target)`: both of them until 5.12.
#[kprobe]
pub fn pool_sync_entry(ctx: ProbeContext) -> u32 {
    let [_, _, size, _, target, _] = arguments(&ctx);
    // `enum dma_sync_target` (`include/linux/swiotlb.h`).
    let function = if target as u32 == 0 { Function::SyncForCpu } else { Function::SyncForDevice };
    begin(&ctx, function as u64, size);
    0
}

/// `arch_sync_dma_for_device(paddr, size, dir)` (`arch/arm64/mm/dma-mapping.c`).
#[kprobe]
pub fn maintain_device_entry(ctx: ProbeContext) -> u32 {
    let [_, size, ..] = arguments(&ctx);
    begin(&ctx, Function::MaintainForDevice as u64, size);
    0
}

/// `arch_sync_dma_for_cpu(paddr, size, dir)`, which has nothing to do for a buffer that the device only reads.
#[kprobe]
pub fn maintain_cpu_entry(ctx: ProbeContext) -> u32 {
    /// `DMA_TO_DEVICE` of `enum dma_data_direction`.
    const TO_DEVICE: u32 = 1;
    let [_, size, direction, ..] = arguments(&ctx);
    let function = if direction as u32 == TO_DEVICE { NO_FUNCTION } else { Function::MaintainForCpu as u64 };
    begin(&ctx, function, size);
    0
}

/// The return of any of these functions but the mapping.
#[kretprobe]
pub fn pool_return(ctx: RetProbeContext) -> u32 {
    if let Some(Timed { entry_ns, len, function }) = timed_returned(&ctx) {
        // SAFETY: the helper has no precondition.
        add(function, len, unsafe { bpf_ktime_get_ns() }.wrapping_sub(entry_ns));
    }
    0
}

/// Begins to take the time of the function being entered, a [`Function`] or [`NO_FUNCTION`]. To be called last, so that our
/// own work does not count.
#[inline(always)]
pub(crate) fn begin(ctx: &ProbeContext, function: u64, len: u64) {
    // SAFETY: the helper has no precondition.
    let entry_ns = unsafe { bpf_ktime_get_ns() };
    timed_entered(ctx, Timed { entry_ns, len, function });
}

/// Adds a call that took `ns`.
#[inline(always)]
pub(crate) fn add(function: u64, len: u64, ns: u64) {
    if function == NO_FUNCTION {
        return;
    }
    if let Some(time) = POOL_TIMES.get_ptr_mut(counter::time(function, len)) {
        // SAFETY: this CPU's own value, which only programs of kprobes change; the kernel runs none of them while
        // another runs on the same CPU (trace_call_bpf() in kernel/trace/bpf_trace.c).
        unsafe {
            (*time).calls += 1;
            (*time).bytes = (*time).bytes.wrapping_add(len);
            (*time).total_ns = (*time).total_ns.wrapping_add(ns);
        }
    }
}
