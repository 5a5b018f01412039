//! The pool: attempts to bounce (`swiotlb:swiotlb_bounced`), and the slots themselves from `swiotlb_tbl_map_single()` and
//! its unmapping, which have no event.

use aya_ebpf::{
    helpers::bpf_ktime_get_ns,
    macros::{kprobe, kretprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use tracer_ebpf::{
    counter::Function,
    decide::FROM_DEVICE,
    record::{Bounced, Kind, SlotMap, SlotUnmap},
};

use crate::{
    config, device,
    emit::{header, send},
    probe::{Call, Probed, arguments, at, entered, returned},
    streamed, times,
};

/// (dev, dev_addr, size, …)
#[raw_tracepoint]
pub fn swiotlb_bounced(ctx: RawTracePointContext) -> i32 {
    let dev: u64 = ctx.arg(0);
    let size: u64 = ctx.arg(2);
    device::describe(&ctx, dev);
    // The event does not tell the direction; the search for slots, where it is seen, does.
    streamed::bounced(&ctx, dev, u64::from(FROM_DEVICE), size);
    let header = header(&ctx, Kind::Bounced, 0);
    send(Kind::Bounced, Bounced { header, dev, dev_addr: ctx.arg(1), size });
    0
}

/// `swiotlb_tbl_map_single(dev, orig_addr, mapping_size, …)`; what follows depends on the kernel.
#[kprobe]
pub fn slot_map_entry(ctx: ProbeContext) -> u32 {
    let arguments = arguments(&ctx);
    let [dev, phys, size, ..] = arguments;
    let align_mask = at(arguments, config!(pool.map_align_mask));
    let direction = at(arguments, config!(pool.map_direction));
    // SAFETY: the helper has no precondition.
    let entry_ns = unsafe { bpf_ktime_get_ns() };
    entered(&ctx, Probed::Slot, Call { entry_ns, args: [dev, phys, size, align_mask, direction, 0] });
    0
}

/// Returns the physical address of the slot, or all ones.
#[kretprobe]
pub fn slot_map_return(ctx: RetProbeContext) -> u32 {
    if let Some(Call { entry_ns, args: [dev, phys, size, align_mask, direction, _] }) = returned(&ctx, Probed::Slot) {
        // The time first, and then our own work.
        let header = header(&ctx, Kind::SlotMap, direction);
        times::add(Function::Map as u64, size, header.time_ns.wrapping_sub(entry_ns));
        streamed::bounced(&ctx, dev, direction, size);
        send(Kind::SlotMap, SlotMap { header, dev, phys, slot: ctx.ret(), size, align_mask, entry_ns });
    }
    0
}

/// `swiotlb_tbl_unmap_single(dev, tlb_addr, mapping_size, …)`, or `__swiotlb_tbl_unmap_single()` of the same beginning.
#[kprobe]
pub fn slot_unmap(ctx: ProbeContext) -> u32 {
    let arguments = arguments(&ctx);
    let [dev, slot, size, ..] = arguments;
    device::known(&ctx, dev);
    let direction = at(arguments, config!(pool.unmap_direction));
    let header = header(&ctx, Kind::SlotUnmap, direction);
    send(Kind::SlotUnmap, SlotUnmap { header, dev, slot, size });
    times::begin(&ctx, Function::Unmap as u64, size);
    0
}
