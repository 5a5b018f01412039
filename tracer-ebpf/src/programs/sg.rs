//! Scatterlists: `dma:dma_map_sg` with every segment, chained or not, and `dma:dma_unmap_sg`. A list that could not be
//! mapped has no event; it is recorded when `dma_map_sg_attrs()` or `dma_map_sgtable()` returns the failure, and every list is
//! where the kernel has no such events.

use core::mem::size_of;

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_kernel},
    macros::{kprobe, kretprobe, map, raw_tracepoint},
    maps::PerCpuArray,
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use tracer_ebpf::{
    counter::{LengthCount, Mapped, Other},
    record::{Kind, MAX_SEGMENTS, MapSg, Segment, UnmapSg},
    streamed::SMALL_BELOW,
};

use crate::{
    config, device,
    emit::{count_other, header, send, send_bytes},
    lengths::{self, what},
    probe::{Call, Probed, arguments, entered, field, returned},
    streamed,
};

/// A record under construction: too large for the stack.
#[derive(Clone, Copy)]
#[repr(C)]
struct Scratch {
    head: MapSg,
    segments: [Segment; MAX_SEGMENTS],
    /// Segments that are not small, and their bytes: counted together, and not sent.
    longer: LengthCount,
}

/// Links from one part of a chained list to the next that are followed; `sg_alloc_table()` makes parts of 128 entries.
const MAX_CHAINS: usize = 16;

/// For [`dma_map_sg`] alone, which the kernel does not run inside itself.
#[map]
static MAPPED: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// For the programs at the functions' return, of which only one kind is ever attached.
#[map]
static RETURNED: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

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
    unmapped(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2), u64::from(ctx.arg::<u32>(3)), ctx.arg(4));
    0
}

/// `dma_unmap_sg_attrs(dev, sg, nents, dir, attrs)`.
#[kprobe]
pub fn unmap_sg_entry(ctx: ProbeContext) -> u32 {
    let [dev, list, nents, direction, attrs, _] = arguments(&ctx);
    unmapped(&ctx, dev, list, nents as u32, direction, attrs);
    0
}

/// `dma_map_sg_attrs(dev, sgl, nents, dir, attrs)`.
#[kprobe]
pub fn map_sg_entry(ctx: ProbeContext) -> u32 {
    let [dev, list, nents, direction, attrs, _] = arguments(&ctx);
    keep(&ctx, [dev, list, nents, direction, attrs, 0]);
    0
}

/// `dma_map_sgtable(dev, sgt, dir, attrs)`.
#[kprobe]
pub fn map_sgt_entry(ctx: ProbeContext) -> u32 {
    let [dev, table, direction, attrs, ..] = arguments(&ctx);
    let list = field(table, config!(scatterlist.table_sgl)).unwrap_or(0);
    let nents: u32 = field(table, config!(scatterlist.table_orig_nents)).unwrap_or(0);
    keep(&ctx, [dev, list, u64::from(nents), direction, attrs, table]);
    0
}

/// The return of either, for kernels without events: every list.
#[kretprobe]
pub fn map_sg_return(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(&ctx, Probed::List) {
        let ents = ents(&ctx, &call);
        made(&ctx, call.args, ents);
    }
    0
}

/// The return of either, beside the event: the lists that it is not sent for.
#[kretprobe]
pub fn map_sg_refused(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(&ctx, Probed::List)
        && ents(&ctx, &call) == 0
    {
        made(&ctx, call.args, 0);
    }
    0
}

/// DMA segments that came out, 0 for failure: what `dma_map_sg_attrs()` returns. `dma_map_sgtable()` returns 0 or a negative
/// error, and leaves the number in the table.
#[inline(always)]
fn ents(ctx: &RetProbeContext, call: &Call) -> u32 {
    let returned = ctx.ret::<u32>() as i32;
    let [.., table] = call.args;
    if table == 0 {
        // Negative: an implementation's error, which no driver takes for success.
        if returned > 0 { returned as u32 } else { 0 }
    } else if returned == 0 {
        field(table, config!(scatterlist.table_nents)).unwrap_or(0)
    } else {
        0
    }
}

#[inline(always)]
fn keep(ctx: &ProbeContext, args: [u64; 6]) {
    // SAFETY: the helper has no precondition.
    let entry_ns = unsafe { bpf_ktime_get_ns() };
    entered(ctx, Probed::List, Call { entry_ns, args });
}

/// Records a list whose mapping returned; the arguments are those that `map_sg_entry` keeps.
#[inline(always)]
pub(crate) fn made<C: EbpfContext>(ctx: &C, args: [u64; 6], ents: u32) {
    let [dev, first, nents, direction, attrs, _] = args;
    if let Some(scratch) = RETURNED.get_ptr_mut(0) {
        record(ctx, scratch, &List { dev, first, nents: nents as u32, ents, direction, attrs });
    }
}

#[inline(always)]
fn unmapped<C: EbpfContext>(ctx: &C, dev: u64, list: u64, nents: u32, direction: u64, attrs: u64) {
    if !streamed::list_ends(dev, device::known(ctx, dev), direction, list) {
        return;
    }
    let header = header(ctx, Kind::UnmapSg, direction);
    send(Kind::UnmapSg, UnmapSg { header, dev, list, attrs, nents, reserved: 0 });
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
    let fingerprint = device::describe(ctx, list.dev);
    let mut at = list.first;
    let mut faulted = false;
    // Kept in the map and read back: the verifier then need not follow what comes after the loop once for each length of
    // the list. All ways through the body are short for the same reason: it walks each of them in every turn.
    scratch.head.recorded = 0;
    scratch.longer = LengthCount { count: 0, bytes: 0 };
    for _ in 0..MAX_SEGMENTS + MAX_CHAINS {
        // SAFETY: a read of memory that is borrowed here.
        let n = unsafe { core::ptr::read_volatile(&raw const scratch.head.recorded) };
        if n >= list.nents || n as usize >= MAX_SEGMENTS {
            break;
        }
        let Some(entry) = Entry::read(at) else {
            faulted = true;
            break;
        };
        let link = entry.link();
        if link & 1 != 0 {
            at = link & !3;
            continue;
        }
        let length = entry.u32(config!(scatterlist.length));
        if u64::from(length) < SMALL_BELOW {
            lengths::count(
                list.dev,
                fingerprint,
                what(list.direction, Mapped::Segment, u64::from(length)),
                1,
                u64::from(length),
            );
        } else {
            scratch.longer.count += 1;
            scratch.longer.bytes += u64::from(length);
        }
        scratch.segments[n as usize] = Segment {
            page: link & !3,
            dma_addr: entry.u64(config!(scatterlist.dma_address)),
            offset: entry.u32(config!(scatterlist.offset)),
            length,
            dma_len: entry.u32(config!(scatterlist.dma_length)),
            dma_flags: entry.u32(config!(scatterlist.dma_flags)),
        };
        scratch.head.recorded = n + 1;
        if link & 2 != 0 {
            break;
        }
        at += u64::from(config!(scatterlist.size));
    }
    if faulted {
        count_other(Other::ReadFault);
    }
    // SAFETY: a read of memory that is borrowed here.
    let recorded = unsafe { core::ptr::read_volatile(&raw const scratch.head.recorded) };
    if recorded < list.nents {
        count_other(Other::SgTruncated);
    }
    // SAFETY: a read of memory that is borrowed here.
    let longer = unsafe { core::ptr::read_volatile(&raw const scratch.longer) };
    lengths::count(list.dev, fingerprint, what(list.direction, Mapped::List, 0), 1, 0);
    if longer.count > 0 {
        lengths::count(
            list.dev,
            fingerprint,
            what(list.direction, Mapped::Segment, SMALL_BELOW),
            longer.count,
            longer.bytes,
        );
    }
    // A segment that was not looked at may be small.
    let has_small = recorded < list.nents || longer.count < u64::from(recorded);
    if !streamed::list_begins(list.dev, fingerprint, list.direction, list.first, has_small, list.ents == 0) {
        return;
    }
    scratch.head = MapSg {
        header: header(ctx, Kind::MapSg, list.direction),
        dev: list.dev,
        list: list.first,
        attrs: list.attrs,
        nents: list.nents,
        ents: list.ents,
        recorded,
        reserved: 0,
    };
    if recorded as usize > MAX_SEGMENTS {
        return;
    }
    let len = size_of::<MapSg>() + recorded as usize * size_of::<Segment>();
    // SAFETY: within the scratch record, of which the first `len` bytes have been written.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), len) };
    send_bytes(Kind::MapSg, bytes);
}

/// A copy of one `struct scatterlist`, fetched in one read.
#[derive(Clone, Copy)]
struct Entry([u64; Self::WORDS]);

impl Entry {
    /// 32 bytes with 64-bit DMA addresses, with or without `dma_flags`; 40 leave room for one more field.
    const WORDS: usize = 5;

    #[inline(always)]
    fn read(addr: u64) -> Option<Self> {
        let size = config!(scatterlist.size);
        let mut words = [0; Self::WORDS];
        if size as usize > size_of::<Self>() {
            return None;
        }
        // SAFETY: no more than the buffer holds; the helper checks the address itself and fails instead of faulting.
        let failed = unsafe { bpf_probe_read_kernel(words.as_mut_ptr().cast(), size, addr as *const _) } != 0;
        (!failed).then_some(Self(words))
    }

    #[inline(always)]
    fn link(&self) -> u64 {
        self.u64(config!(scatterlist.page_link))
    }

    /// The field at `offset`; 0 where there is none.
    #[inline(always)]
    fn u64(&self, offset: u32) -> u64 {
        if offset as usize > size_of::<Self>() - 8 {
            return 0;
        }
        // SAFETY: inside the copy, as just checked.
        unsafe { self.0.as_ptr().byte_add(offset as usize).read() }
    }

    /// The field at `offset`; 0 where there is none.
    #[inline(always)]
    fn u32(&self, offset: u32) -> u32 {
        if offset as usize > size_of::<Self>() - 4 {
            return 0;
        }
        // SAFETY: inside the copy, as just checked.
        unsafe { self.0.as_ptr().cast::<u32>().byte_add(offset as usize).read() }
    }
}
