//! Single mappings and their unmappings: the kernel's events `dma:dma_map_page` (6.12 to 6.17) or `dma:dma_map_phys` (6.18
//! on), whose arguments are the same, or the functions themselves where there are no such events.

use aya_ebpf::{
    EbpfContext,
    macros::{kprobe, kretprobe, raw_tracepoint},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use tracer_ebpf::{
    attrs::MMIO,
    counter::Mapped,
    memory::UNKNOWN,
    record::{Kind, MAPPING_ERROR, Map, UNKNOWN_PHYS, Unmap},
};

use crate::{
    config, device,
    emit::{header, send},
    lengths::{self, what},
    probe::{Call, Probed, arguments, entered, returned},
    resource, slab, streamed,
};

struct Mapping {
    dev: u64,
    phys: u64,
    dma_addr: u64,
    size: u64,
    direction: u64,
    attrs: u64,
}

struct Unmapping {
    dev: u64,
    dma_addr: u64,
    size: u64,
    direction: u64,
    attrs: u64,
}

/// (dev, phys_addr, dma_addr, size, dir, attrs)
#[raw_tracepoint]
pub fn dma_map(ctx: RawTracePointContext) -> i32 {
    let mapping = Mapping {
        dev: ctx.arg(0),
        phys: ctx.arg(1),
        dma_addr: ctx.arg(2),
        size: ctx.arg(3),
        direction: u64::from(ctx.arg::<u32>(4)),
        attrs: ctx.arg(5),
    };
    mapped(&ctx, &mapping);
    0
}

/// (dev, dma_addr, size, dir, attrs)
#[raw_tracepoint]
pub fn dma_unmap(ctx: RawTracePointContext) -> i32 {
    let direction = u64::from(ctx.arg::<u32>(3));
    unmapped(
        &ctx,
        &Unmapping { dev: ctx.arg(0), dma_addr: ctx.arg(1), size: ctx.arg(2), direction, attrs: ctx.arg(4) },
    );
    0
}

/// `dma_map_page_attrs(dev, page, offset, size, dir, attrs)`.
#[kprobe]
pub fn map_page_entry(ctx: ProbeContext) -> u32 {
    let [dev, page, offset, size, direction, attrs] = arguments(&ctx);
    keep(&ctx, [dev, phys(page, offset), size, direction, attrs, 0]);
    0
}

/// `dma_map_phys(dev, phys, size, dir, attrs)`.
#[kprobe]
pub fn map_phys_entry(ctx: ProbeContext) -> u32 {
    let [dev, phys, size, direction, attrs, _] = arguments(&ctx);
    keep(&ctx, [dev, phys, size, direction, attrs, 0]);
    0
}

/// The return of either: the DMA address, or all ones.
#[kretprobe]
pub fn map_return(ctx: RetProbeContext) -> u32 {
    if let Some(Call { args: [dev, phys, size, direction, attrs, _], .. }) = returned(&ctx, Probed::Single) {
        mapped(&ctx, &Mapping { dev, phys, dma_addr: ctx.ret(), size, direction, attrs });
    }
    0
}

/// `dma_unmap_page_attrs(dev, addr, size, dir, attrs)` or `dma_unmap_phys()` of the same arguments.
#[kprobe]
pub fn unmap_entry(ctx: ProbeContext) -> u32 {
    let [dev, dma_addr, size, direction, attrs, _] = arguments(&ctx);
    unmapped(&ctx, &Unmapping { dev, dma_addr, size, direction, attrs });
    0
}

#[inline(always)]
fn keep(ctx: &ProbeContext, args: [u64; 6]) {
    // The time of the event is that of the return.
    entered(ctx, Probed::Single, Call { entry_ns: 0, args });
}

/// `page_to_phys(page) + offset` of a kernel with `CONFIG_SPARSEMEM_VMEMMAP`, as `include/asm-generic/memory_model.h` has
/// it; where the pages begin is not known on every kernel.
#[inline(always)]
pub(crate) fn phys(page: u64, offset: u64) -> u64 {
    let vmemmap = config!(pages.vmemmap);
    let struct_size = u64::from(config!(pages.struct_size));
    if vmemmap == 0 || struct_size == 0 {
        return UNKNOWN_PHYS | offset;
    }
    (page.wrapping_sub(vmemmap) / struct_size << config!(pages.shift)).wrapping_add(offset)
}

#[inline(always)]
fn mapped<C: EbpfContext>(ctx: &C, mapping: &Mapping) {
    let &Mapping { dev, phys, dma_addr, size, direction, attrs } = mapping;
    if attrs & MMIO != 0 {
        resource::mapped(ctx, [dev, phys, dma_addr, size, attrs], direction);
        return;
    }
    let fingerprint = device::describe(ctx, dev);
    device::predict(device::flags(fingerprint), direction, size);
    lengths::count(dev, fingerprint, what(direction, Mapped::Single, size), 1, size);
    if dma_addr != MAPPING_ERROR && !streamed::single(dev, fingerprint, direction, size) {
        return;
    }
    let memory =
        if slab::is_looked_up(device::flags(fingerprint), direction, size) { slab::of_phys(phys) } else { UNKNOWN };
    let header = header(ctx, Kind::Map, direction);
    send(Kind::Map, Map { header, dev, phys, dma_addr, size, attrs, memory });
}

#[inline(always)]
fn unmapped<C: EbpfContext>(ctx: &C, unmapping: &Unmapping) {
    let &Unmapping { dev, dma_addr, size, direction, attrs } = unmapping;
    if !streamed::single(dev, device::known(ctx, dev), direction, size) {
        return;
    }
    let header = header(ctx, Kind::Unmap, direction);
    send(Kind::Unmap, Unmap { header, dev, dma_addr, size, attrs });
}
