//! Mappings handed over between CPU and device while they stay mapped: the kernel's events `dma:dma_sync_single_for_cpu` and
//! its three siblings (6.12 on), or the functions themselves where there are no such events. What the pool does about it is in
//! `times`.

use aya_ebpf::{
    EbpfContext,
    macros::{kprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext},
};
use tracer_ebpf::record::{Kind, Sync, SyncSg};

use crate::{
    device,
    emit::{header, send},
    probe::arguments,
    streamed,
};

/// (dev, dma_addr, size, dir), as both events and all functions have them; or (dev, list, nents, dir).
type Handed = [u64; 4];

/// (dev, dma_addr, size, dir)
#[raw_tracepoint]
pub fn sync_for_cpu(ctx: RawTracePointContext) -> i32 {
    single(&ctx, of_event(&ctx), false);
    0
}

/// (dev, dma_addr, size, dir)
#[raw_tracepoint]
pub fn sync_for_device(ctx: RawTracePointContext) -> i32 {
    single(&ctx, of_event(&ctx), true);
    0
}

/// (dev, sgl, nents, dir)
#[raw_tracepoint]
pub fn sync_sg_for_cpu(ctx: RawTracePointContext) -> i32 {
    list(&ctx, of_event(&ctx), false);
    0
}

/// (dev, sgl, nents, dir)
#[raw_tracepoint]
pub fn sync_sg_for_device(ctx: RawTracePointContext) -> i32 {
    list(&ctx, of_event(&ctx), true);
    0
}

/// `dma_sync_single_for_cpu(dev, addr, size, dir)`, or from 6.10 on `__dma_sync_single_for_cpu()`.
#[kprobe]
pub fn sync_for_cpu_entry(ctx: ProbeContext) -> u32 {
    single(&ctx, of_function(&ctx), false);
    0
}

/// `dma_sync_single_for_device(dev, addr, size, dir)`, or `__dma_sync_single_for_device()`.
#[kprobe]
pub fn sync_for_device_entry(ctx: ProbeContext) -> u32 {
    single(&ctx, of_function(&ctx), true);
    0
}

/// `dma_sync_sg_for_cpu(dev, sg, nelems, dir)`, or `__dma_sync_sg_for_cpu()`.
#[kprobe]
pub fn sync_sg_for_cpu_entry(ctx: ProbeContext) -> u32 {
    list(&ctx, of_function(&ctx), false);
    0
}

/// `dma_sync_sg_for_device(dev, sg, nelems, dir)`, or `__dma_sync_sg_for_device()`.
#[kprobe]
pub fn sync_sg_for_device_entry(ctx: ProbeContext) -> u32 {
    list(&ctx, of_function(&ctx), true);
    0
}

#[inline(always)]
fn of_event(ctx: &RawTracePointContext) -> Handed {
    [ctx.arg(0), ctx.arg(1), ctx.arg(2), u64::from(ctx.arg::<u32>(3))]
}

#[inline(always)]
fn of_function(ctx: &ProbeContext) -> Handed {
    let [dev, what, size, direction, ..] = arguments(ctx);
    [dev, what, size, direction]
}

#[inline(always)]
fn single<C: EbpfContext>(ctx: &C, [dev, dma_addr, size, direction]: Handed, for_device: bool) {
    if !streamed::single(dev, device::known(ctx, dev), direction, size) {
        return;
    }
    let header = header(ctx, Kind::Sync, direction);
    send(Kind::Sync, Sync { header, dev, dma_addr, size, for_device: u64::from(for_device) });
}

#[inline(always)]
fn list<C: EbpfContext>(ctx: &C, [dev, list, nents, direction]: Handed, for_device: bool) {
    if !streamed::list(dev, device::known(ctx, dev), direction, list) {
        return;
    }
    let header = header(ctx, Kind::SyncSg, direction);
    send(Kind::SyncSg, SyncSg { header, dev, list, nents: nents as u32, for_device: u32::from(for_device) });
}
