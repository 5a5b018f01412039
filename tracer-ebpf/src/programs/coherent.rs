//! Coherent memory of devices with a restricted pool, which takes slots of that pool and has no event: `swiotlb_alloc()` and
//! `swiotlb_free()` (`kernel/dma/swiotlb.c`, 5.15 on, with `CONFIG_DMA_RESTRICTED_POOL`). What other arguments they have stands
//! behind these (`attrs` in 7.3).

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_ktime_get_ns,
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};
use tracer_ebpf::record::{Coherent, Kind, MAPPING_ERROR, UNKNOWN_PHYS, device_flag};

use crate::{
    config, device,
    emit::{header, send},
    map::phys,
    probe::{Call, Probed, arguments, entered, returned},
};

/// `swiotlb_alloc(dev, size, …)`.
#[kprobe]
pub fn coherent_alloc_entry(ctx: ProbeContext) -> u32 {
    let [dev, size, ..] = arguments(&ctx);
    // SAFETY: the helper has no precondition.
    let entry_ns = unsafe { bpf_ktime_get_ns() };
    entered(&ctx, Probed::Coherent, Call { entry_ns, args: [dev, size, 0, 0, 0, 0] });
    0
}

/// Returns the first page, or nothing.
#[kretprobe]
pub fn coherent_alloc_return(ctx: RetProbeContext) -> u32 {
    if let Some(Call { entry_ns, args: [dev, size, ..] }) = returned(&ctx, Probed::Coherent) {
        allocated(&ctx, dev, size, ctx.ret(), Some(entry_ns));
    }
    0
}

/// `swiotlb_free(dev, page, size)`: called for all coherent memory that is given back, whatever it was taken from.
#[kprobe]
pub fn coherent_free_entry(ctx: ProbeContext) -> u32 {
    let [dev, page, size, ..] = arguments(&ctx);
    freed(&ctx, dev, page, size);
    0
}

/// The first two, through BTF.
#[fexit]
pub fn coherent_alloc_exit(ctx: FExitContext) -> i32 {
    allocated(&ctx, ctx.arg(0), ctx.arg(1), ctx.ret().unwrap_or(0), None);
    0
}

/// As `coherent_free_entry`, through BTF.
#[fentry]
pub fn coherent_free_enter(ctx: FEntryContext) -> i32 {
    freed(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[inline(always)]
fn allocated<C: EbpfContext>(ctx: &C, dev: u64, size: u64, page: u64, entry_ns: Option<u64>) {
    device::describe(ctx, dev);
    let header = header(ctx, Kind::CoherentAlloc, 0);
    let slot = if page == 0 { MAPPING_ERROR } else { place(page) };
    let entry_ns = entry_ns.unwrap_or(header.time_ns);
    send(Kind::CoherentAlloc, Coherent { header, dev, slot, size, entry_ns });
}

/// A device with a restricted pool takes all of its coherent memory from there (`dma_direct_alloc()`, `kernel/dma/direct.c`), and
/// others take none.
#[inline(always)]
fn freed<C: EbpfContext>(ctx: &C, dev: u64, page: u64, size: u64) {
    if device::flags(device::known(ctx, dev)) & device_flag::RESTRICTED_POOL == 0 {
        return;
    }
    let header = header(ctx, Kind::CoherentFree, 0);
    let entry_ns = header.time_ns;
    send(Kind::CoherentFree, Coherent { header, dev, slot: place(page), size, entry_ns });
}

/// Where memory lies that begins with this page; what tells it from other memory where that is not known, and no kernel address.
#[inline(always)]
fn place(page: u64) -> u64 {
    if config!(pages.vmemmap) == 0 { UNKNOWN_PHYS | page & 0xffff_ffff } else { phys(page, 0) }
}
