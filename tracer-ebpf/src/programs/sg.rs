//! Scatterlists: `dma:dma_map_sg` with every segment, chained or not, and `dma:dma_unmap_sg`. A list that could not be
//! mapped has no event; it is recorded when `dma_map_sg_attrs()` or `dma_map_sgtable()` returns the failure.

use core::mem::size_of;

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_ktime_get_ns,
    macros::{kprobe, kretprobe, map, raw_tracepoint},
    maps::PerCpuArray,
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use tracer_ebpf::{
    counter::Other,
    record::{Kind, MAX_SEGMENTS, MapSg, Segment, UnmapSg},
};

use crate::{
    config, device,
    emit::{count_other, header, send, send_bytes},
    probe::{Call, argument, entered, field, returned},
};

/// A record under construction: too large for the stack.
#[derive(Clone, Copy)]
#[repr(C)]
struct Scratch {
    head: MapSg,
    segments: [Segment; MAX_SEGMENTS],
}

/// For [`dma_map_sg`] alone, which the kernel does not run inside itself.
#[map]
static MAPPED: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// For [`map_sg_return`] alone.
#[map]
static REFUSED: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// (dev, sgl, nents, ents, dir, attrs)
#[raw_tracepoint]
pub fn dma_map_sg(ctx: RawTracePointContext) -> i32 {
    if let Some(scratch) = MAPPED.get_ptr_mut(0) {
        let list = List {
            dev: ctx.arg(0),
            first: ctx.arg(1),
            nents: ctx.arg(2),
            ents: ctx.arg(3),
            direction: u64::from(ctx.arg::<u32>(4)),
            attrs: ctx.arg(5),
        };
        record(&ctx, scratch, &list);
    }
    0
}

/// (dev, sgl, nents, dir, attrs)
#[raw_tracepoint]
pub fn dma_unmap_sg(ctx: RawTracePointContext) -> i32 {
    let dev: u64 = ctx.arg(0);
    device::known(&ctx, dev);
    let header = header(&ctx, Kind::UnmapSg, u64::from(ctx.arg::<u32>(3)));
    send(Kind::UnmapSg, UnmapSg { header, dev, list: ctx.arg(1), attrs: ctx.arg(4), nents: ctx.arg(2), reserved: 0 });
    0
}

/// `dma_map_sg_attrs(dev, sgl, nents, dir, attrs)`.
#[kprobe]
pub fn map_sg_entry(ctx: ProbeContext) -> u32 {
    keep(&ctx, [0, 1, 2, 3, 4].map(|n| argument(&ctx, n).unwrap_or(0)));
    0
}

/// Returns the number of DMA segments, 0 for failure.
#[kretprobe]
pub fn map_sg_return(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(&ctx)
        && ctx.ret::<u32>() == 0
    {
        refused(&ctx, &call);
    }
    0
}

/// `dma_map_sgtable(dev, sgt, dir, attrs)`.
#[kprobe]
pub fn map_sgt_entry(ctx: ProbeContext) -> u32 {
    let [dev, table, direction, attrs] = [0, 1, 2, 3].map(|n| argument(&ctx, n).unwrap_or(0));
    let list = field(table, config!(scatterlist.table_sgl)).unwrap_or(0);
    let nents: u32 = field(table, config!(scatterlist.table_orig_nents)).unwrap_or(0);
    keep(&ctx, [dev, list, u64::from(nents), direction, attrs]);
    0
}

/// Returns 0, or a negative error.
#[kretprobe]
pub fn map_sgt_return(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(&ctx)
        && ctx.ret::<u32>() != 0
    {
        refused(&ctx, &call);
    }
    0
}

#[inline(always)]
fn keep(ctx: &ProbeContext, args: [u64; 5]) {
    // SAFETY: the helper has no precondition.
    let entry_ns = unsafe { bpf_ktime_get_ns() };
    entered(ctx, Call { entry_ns, args });
}

#[inline(always)]
fn refused(ctx: &RetProbeContext, call: &Call) {
    let [dev, first, nents, direction, attrs] = call.args;
    if let Some(scratch) = REFUSED.get_ptr_mut(0) {
        record(ctx, scratch, &List { dev, first, nents: nents as u32, ents: 0, direction, attrs });
    }
}

struct List {
    dev: u64,
    first: u64,
    nents: u32,
    ents: u32,
    direction: u64,
    attrs: u64,
}

/// Fills the record segment by segment, walking as `sg_next()` does (`lib/scatterlist.c`), and sends it.
#[inline(always)]
fn record<C: EbpfContext>(ctx: &C, scratch: *mut Scratch, list: &List) {
    // SAFETY: this CPU's own value, used by one program that does not run inside itself.
    let scratch = unsafe { &mut *scratch };
    let flags = device::describe(ctx, list.dev);
    let mut entry = list.first;
    let mut recorded = 0;
    for n in 0..MAX_SEGMENTS {
        if n as u32 >= list.nents {
            break;
        }
        let Some(mut link) = field::<u64>(entry, config!(scatterlist.page_link)) else { break };
        if link & 1 != 0 {
            entry = link & !3;
            let Some(chained) = field::<u64>(entry, config!(scatterlist.page_link)) else { break };
            link = chained;
        }
        let segment = Segment {
            page: link & !3,
            dma_addr: field(entry, config!(scatterlist.dma_address)).unwrap_or(0),
            offset: field(entry, config!(scatterlist.offset)).unwrap_or(0),
            length: field(entry, config!(scatterlist.length)).unwrap_or(0),
            dma_len: field(entry, config!(scatterlist.dma_length)).unwrap_or(0),
            dma_flags: field(entry, config!(scatterlist.dma_flags)).unwrap_or(0),
        };
        device::predict(flags, list.direction, u64::from(segment.length));
        scratch.segments[n] = segment;
        recorded = n + 1;
        if link & 2 != 0 {
            break;
        }
        entry += u64::from(config!(scatterlist.size));
    }
    if (recorded as u32) < list.nents {
        count_other(Other::SgTruncated);
    }
    scratch.head = MapSg {
        header: header(ctx, Kind::MapSg, list.direction),
        dev: list.dev,
        list: list.first,
        attrs: list.attrs,
        nents: list.nents,
        ents: list.ents,
        recorded: recorded as u32,
        reserved: 0,
    };
    if recorded > MAX_SEGMENTS {
        return;
    }
    let len = size_of::<MapSg>() + recorded * size_of::<Segment>();
    // SAFETY: within the scratch record, of which the first `len` bytes have been written.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), len) };
    send_bytes(Kind::MapSg, bytes);
}
