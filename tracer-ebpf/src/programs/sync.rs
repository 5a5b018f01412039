//! Mappings handed over between CPU and device while they stay mapped: `dma:dma_sync_single_for_cpu` and its three
//! siblings (6.12 on). What the pool does about it is in `times`.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_ebpf::record::{Kind, Sync, SyncSg};

use crate::{
    device,
    emit::{header, send},
};

/// (dev, dma_addr, size, dir)
#[raw_tracepoint]
pub fn sync_for_cpu(ctx: RawTracePointContext) -> i32 {
    single(&ctx, false)
}

/// (dev, dma_addr, size, dir)
#[raw_tracepoint]
pub fn sync_for_device(ctx: RawTracePointContext) -> i32 {
    single(&ctx, true)
}

/// (dev, sgl, nents, dir)
#[raw_tracepoint]
pub fn sync_sg_for_cpu(ctx: RawTracePointContext) -> i32 {
    list(&ctx, false)
}

/// (dev, sgl, nents, dir)
#[raw_tracepoint]
pub fn sync_sg_for_device(ctx: RawTracePointContext) -> i32 {
    list(&ctx, true)
}

#[inline(always)]
fn single(ctx: &RawTracePointContext, for_device: bool) -> i32 {
    let dev: u64 = ctx.arg(0);
    device::known(ctx, dev);
    let header = header(ctx, Kind::Sync, u64::from(ctx.arg::<u32>(3)));
    let for_device = u64::from(for_device);
    send(Kind::Sync, Sync { header, dev, dma_addr: ctx.arg(1), size: ctx.arg(2), for_device });
    0
}

#[inline(always)]
fn list(ctx: &RawTracePointContext, for_device: bool) -> i32 {
    let dev: u64 = ctx.arg(0);
    device::known(ctx, dev);
    let header = header(ctx, Kind::SyncSg, u64::from(ctx.arg::<u32>(3)));
    let for_device = u32::from(for_device);
    send(Kind::SyncSg, SyncSg { header, dev, list: ctx.arg(1), nents: ctx.arg(2), for_device });
    0
}
