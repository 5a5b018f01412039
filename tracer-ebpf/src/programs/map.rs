//! Single mappings: `dma:dma_map_page` (6.12 to 6.17) or `dma:dma_map_phys` (6.18 on), whose arguments are the same,
//! and their unmappings.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use tracer_ebpf::record::{Kind, Map, Unmap};

use crate::{
    device,
    emit::{header, send},
};

/// (dev, phys_addr, dma_addr, size, dir, attrs)
#[raw_tracepoint]
pub fn dma_map(ctx: RawTracePointContext) -> i32 {
    let dev: u64 = ctx.arg(0);
    let size: u64 = ctx.arg(3);
    let direction = u64::from(ctx.arg::<u32>(4));
    let flags = device::describe(&ctx, dev);
    device::predict(flags, direction, size);
    let header = header(&ctx, Kind::Map, direction);
    send(Kind::Map, Map { header, dev, phys: ctx.arg(1), dma_addr: ctx.arg(2), size, attrs: ctx.arg(5) });
    0
}

/// (dev, dma_addr, size, dir, attrs)
#[raw_tracepoint]
pub fn dma_unmap(ctx: RawTracePointContext) -> i32 {
    let dev: u64 = ctx.arg(0);
    device::known(&ctx, dev);
    let header = header(&ctx, Kind::Unmap, u64::from(ctx.arg::<u32>(3)));
    send(Kind::Unmap, Unmap { header, dev, dma_addr: ctx.arg(1), size: ctx.arg(2), attrs: ctx.arg(4) });
    0
}
