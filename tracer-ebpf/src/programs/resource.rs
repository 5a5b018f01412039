//! Device registers (MMIO) mapped for DMA, such as the FIFO that a DMA engine serves. Before 6.18 `dma_map_resource()` maps them, with events
//! of its own from 6.12 on; from 6.18 on it calls `dma_map_phys()` with `DMA_ATTR_MMIO` (`kernel/dma/mapping.c`), and is recorded there.

use aya_ebpf::{
    EbpfContext,
    macros::{kprobe, kretprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use tracer_ebpf::{
    attrs::MMIO,
    counter::Mapped,
    memory::UNKNOWN,
    record::{Kind, MAPPING_ERROR, Map, Unmap},
};

use crate::{
    device,
    emit::{header, send},
    lengths::{self, what},
    probe::{Call, Probed, arguments, entered, returned},
    streamed,
};

/// (dev, phys_addr, dma_addr, size, dir, attrs)
#[raw_tracepoint]
pub fn dma_map_resource(ctx: RawTracePointContext) -> i32 {
    let [dev, phys, dma_addr, size] = [ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3)];
    let (direction, attrs) = (u64::from(ctx.arg::<u32>(4)), ctx.arg(5));
    mapped(&ctx, [dev, phys, dma_addr, size, attrs], direction);
    0
}

/// (dev, dma_addr, size, dir, attrs)
#[raw_tracepoint]
pub fn dma_unmap_resource(ctx: RawTracePointContext) -> i32 {
    let direction = u64::from(ctx.arg::<u32>(3));
    unmapped(&ctx, [ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(4)], direction);
    0
}

/// `dma_map_resource(dev, phys, size, dir, attrs)`.
#[kprobe]
pub fn map_resource_entry(ctx: ProbeContext) -> u32 {
    // The time of the event is that of the return.
    entered(&ctx, Probed::Single, Call { entry_ns: 0, args: arguments(&ctx) });
    0
}

/// Its return: the DMA address, or all ones.
#[kretprobe]
pub fn map_resource_return(ctx: RetProbeContext) -> u32 {
    if let Some(Call { args: [dev, phys, size, direction, attrs, _], .. }) = returned(&ctx, Probed::Single) {
        mapped(&ctx, [dev, phys, ctx.ret(), size, attrs], direction);
    }
    0
}

/// `dma_unmap_resource(dev, addr, size, dir, attrs)`.
#[kprobe]
pub fn unmap_resource_entry(ctx: ProbeContext) -> u32 {
    let [dev, dma_addr, size, direction, attrs, _] = arguments(&ctx);
    unmapped(&ctx, [dev, dma_addr, size, attrs], direction);
    0
}

/// Registers are mapped: counted apart, since no length of them bounces.
#[inline(always)]
pub(crate) fn mapped<C: EbpfContext>(ctx: &C, [dev, phys, dma_addr, size, attrs]: [u64; 5], direction: u64) {
    let fingerprint = device::describe(ctx, dev);
    lengths::count(dev, fingerprint, what(direction, Mapped::Resource, size), 1, size);
    if dma_addr != MAPPING_ERROR && !streamed::single(dev, fingerprint, direction, size) {
        return;
    }
    let header = header(ctx, Kind::Map, direction);
    send(Kind::Map, Map { header, dev, phys, dma_addr, size, attrs: attrs | MMIO, memory: UNKNOWN });
}

#[inline(always)]
fn unmapped<C: EbpfContext>(ctx: &C, [dev, dma_addr, size, attrs]: [u64; 4], direction: u64) {
    if streamed::single(dev, device::known(ctx, dev), direction, size) {
        let header = header(ctx, Kind::Unmap, direction);
        send(Kind::Unmap, Unmap { header, dev, dma_addr, size, attrs: attrs | MMIO });
    }
}
