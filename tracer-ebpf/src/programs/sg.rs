//! Scatterlists: `dma:dma_map_sg` with every segment, chained or not, and `dma:dma_unmap_sg`. A list that could not be
//! mapped has no event; it is recorded when `dma_map_sg_attrs()` or `dma_map_sgtable()` returns the failure, and every list is
//! where the kernel has no such events.

use core::mem::{MaybeUninit, size_of};

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_get_stack, bpf_probe_read_kernel},
    },
    macros::{kprobe, kretprobe, map, raw_tracepoint},
    maps::PerCpuArray,
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use tracer_ebpf::{
    counter::{LengthCount, Mapped, Other},
    memory::UNKNOWN,
    record::{Kind, MAX_FRAMES, MAX_SEGMENTS, MapSg, Segment, UnmapSg},
    streamed::SMALL_BELOW,
};

use crate::{
    config, device,
    emit::{count_other, header, send, send_bytes},
    lengths::{self, what},
    loops::may_go_on,
    probe::{Call, Probed, arguments, entered, field_or_zero, returned},
    slab, streamed,
};

/// A record under construction: too large for the stack.
#[derive(Clone, Copy)]
#[repr(C)]
struct Scratch {
    head: MapSg,
    segments: [Segment; MAX_SEGMENTS],
    /// Segments that are not small, and their bytes: counted together, and not sent.
    longer: LengthCount,
    /// Links to another part of a chained list that have been followed. Here, because the verifier would know a number of its own.
    chains: u64,
    /// Of the device. Here, because the verifier knows some of its bits for each way through [`device::describe`], and would
    /// walk the list once for each of these ways.
    fingerprint: u64,
}

/// Links from one part of a chained list to the next that are followed; `sg_alloc_table()` makes parts of 128 entries.
const MAX_CHAINS: usize = 16;

/// For [`dma_map_sg`] alone, which the kernel runs neither inside itself nor, while it is preempted, for another task of the same CPU
/// (`__bpf_trace_run()`, `kernel/trace/bpf_trace.c`, 6.1 on). On kernels for real time it is preempted, from 7.0 on.
#[map]
static MAPPED: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// For the programs at the functions' return, a record for each [`Return`].
#[map]
static RETURNED: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(2, 0);

/// Which program takes in a list at a function's return. The kernel runs a single kprobe's program at a time on a CPU. Those of fexit can be
/// interrupted and preempted (`__bpf_prog_enter_recur()`, `kernel/bpf/trampoline.c`), each by the other though not by itself.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Return {
    /// Of either function by kretprobe, or of `dma_map_sg_attrs()` by fexit.
    List = 0,
    /// Of `dma_map_sgtable()` by fexit.
    Table = 1,
}

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
            has_returned: false,
        };
        record::<_, true>(&ctx, scratch, &list);
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
    let list = field_or_zero(table, config!(scatterlist.table_sgl));
    let nents: u32 = field_or_zero(table, config!(scatterlist.table_orig_nents));
    keep(&ctx, [dev, list, u64::from(nents), direction, attrs, table]);
    0
}

/// The return of either, for kernels without events: every list.
#[kretprobe]
pub fn map_sg_return(ctx: RetProbeContext) -> u32 {
    every::<true>(&ctx)
}

/// The same before 6.9.
#[kretprobe]
pub fn map_sg_return_turns(ctx: RetProbeContext) -> u32 {
    every::<false>(&ctx)
}

#[inline(always)]
fn every<const MAY_GOTO: bool>(ctx: &RetProbeContext) -> u32 {
    if let Some(call) = returned(ctx, Probed::List) {
        let ents = ents(ctx, &call);
        made::<_, MAY_GOTO>(ctx, Return::List, call.args, Returned { ents, has_returned: true });
    }
    0
}

/// The return of either, beside the event: the lists that it is not sent for.
#[kretprobe]
pub fn map_sg_refused(ctx: RetProbeContext) -> u32 {
    if let Some(call) = returned(&ctx, Probed::List)
        && ents(&ctx, &call) == 0
    {
        made::<_, true>(&ctx, Return::List, call.args, Returned { ents: 0, has_returned: true });
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
        field_or_zero(table, config!(scatterlist.table_nents))
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

/// How the mapping of a list returned.
pub(crate) struct Returned {
    /// DMA segments, 0 for a failure.
    pub(crate) ents: u32,
    /// See [`List`].
    pub(crate) has_returned: bool,
}

/// Records a list whose mapping returned; the arguments are those that `map_sg_entry` keeps.
#[inline(always)]
pub(crate) fn made<C: EbpfContext, const MAY_GOTO: bool>(ctx: &C, by: Return, args: [u64; 6], returned: Returned) {
    let [dev, first, nents, direction, attrs, _] = args;
    let Returned { ents, has_returned } = returned;
    if let Some(scratch) = RETURNED.get_ptr_mut(by as u32) {
        let list = List { dev, first, nents: nents as u32, ents, direction, attrs, has_returned };
        record::<_, MAY_GOTO>(ctx, scratch, &list);
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
    /// The program runs where the caller goes on, no longer inside the mapping function.
    has_returned: bool,
}

/// Fills the record, and sends it.
#[inline(always)]
fn record<C: EbpfContext, const MAY_GOTO: bool>(ctx: &C, scratch: *mut Scratch, list: &List) {
    // SAFETY: this CPU's own value, used by one program that does not run inside itself.
    let scratch = unsafe { &mut *scratch };
    scratch.fingerprint = device::describe(ctx, list.dev);
    scratch.head = MapSg {
        header: header(ctx, Kind::MapSg, list.direction),
        dev: list.dev,
        list: list.first,
        attrs: list.attrs,
        nents: list.nents,
        ents: list.ents,
        recorded: 0,
        has_returned: u32::from(list.has_returned),
        stack: [0; MAX_FRAMES],
    };
    scratch.longer = LengthCount { count: 0, bytes: 0 };
    scratch.chains = 0;
    walk::<MAY_GOTO>(scratch);
    // SAFETY: reads of memory that is borrowed here, and that has been written.
    let (fingerprint, recorded, longer) = unsafe {
        (
            (&raw const scratch.fingerprint).read_volatile(),
            (&raw const scratch.head.recorded).read_volatile(),
            (&raw const scratch.longer).read_volatile(),
        )
    };
    if recorded < list.nents {
        count_other(Other::SgTruncated);
    }
    lengths::count(list.dev, fingerprint, what(list.direction, Mapped::List, 0), 1, 0);
    if longer.count > 0 {
        let what = what(list.direction, Mapped::Segment, SMALL_BELOW);
        lengths::count(list.dev, fingerprint, what, longer.count, longer.bytes);
    }
    // A segment that was not looked at may be small.
    let has_small = recorded < list.nents || longer.count < u64::from(recorded);
    let shortest = if has_small { 0 } else { SMALL_BELOW };
    if list.ents != 0 && !streamed::list_begins(list.dev, fingerprint, list.direction, list.first, shortest) {
        return;
    }
    // SAFETY: memory of that size; the helper writes no more. When it fails, the stack stays zeroes.
    unsafe {
        bpf_get_stack(ctx.as_ptr(), scratch.head.stack.as_mut_ptr().cast(), size_of::<[u64; MAX_FRAMES]>() as u32, 0)
    };
    // Read again: the verifier has lost sight of what was compared above.
    // SAFETY: as above.
    let recorded = u64::from(unsafe { (&raw const scratch.head.recorded).read_volatile() });
    if recorded > MAX_SEGMENTS as u64 {
        return;
    }
    let len = size_of::<MapSg>() + recorded as usize * size_of::<Segment>();
    // SAFETY: within the scratch record, of which the first `len` bytes have been written.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *scratch).cast::<u8>(), len) };
    send_bytes(Kind::MapSg, bytes);
}

/// Takes in a list segment by segment, going on as `sg_next()` does (`lib/scatterlist.c`).
///
/// Not inlined: what comes after it the verifier then follows once, and not once for each length of the list. All ways through
/// the loop's body are short for the same reason: without [`may_go_on`], it walks each of them in every turn.
#[inline(never)]
fn walk<const MAY_GOTO: bool>(scratch: &mut Scratch) {
    let mut walk = Walk::begin(scratch);
    if MAY_GOTO {
        while may_go_on() && walk.turn() {}
    } else {
        for _ in 0..MAX_SEGMENTS + MAX_CHAINS {
            if !walk.turn() {
                break;
            }
        }
    }
}

/// A list that is being taken in.
#[repr(C)]
struct Walk {
    scratch: *mut Scratch,
    /// The entry that comes next.
    at: u64,
    dev: u64,
    fingerprint: u64,
    direction: u64,
    nents: u32,
    looked_up: bool,
}

impl Walk {
    #[inline(always)]
    fn begin(scratch: &mut Scratch) -> Self {
        // SAFETY: a read of memory that is borrowed here.
        let fingerprint = unsafe { (&raw const scratch.fingerprint).read_volatile() };
        let MapSg { header, dev, list, nents, .. } = scratch.head;
        let direction = u64::from(header.direction);
        let looked_up = slab::is_looked_up(device::flags(fingerprint), direction, 0);
        Self { scratch, at: list, dev, fingerprint, direction, nents, looked_up }
    }

    /// Takes in one entry; whether there is another.
    #[inline(always)]
    fn turn(&mut self) -> bool {
        // SAFETY: it was made of a borrow that lasts as long as the walk does.
        let scratch = unsafe { &mut *self.scratch };
        // SAFETY: a read of memory that is borrowed here.
        let n = unsafe { (&raw const scratch.head.recorded).read_volatile() };
        if n >= self.nents || n as usize >= MAX_SEGMENTS {
            return false;
        }
        let Some(entry) = Entry::read(self.at) else {
            count_other(Other::ReadFault);
            return false;
        };
        let link = entry.link();
        if link & 1 != 0 {
            self.at = link & !3;
            // SAFETY: as above.
            let chains = unsafe { (&raw const scratch.chains).read_volatile() } + 1;
            scratch.chains = chains;
            return chains < MAX_CHAINS as u64;
        }
        let length = entry.u32(config!(scatterlist.length));
        let bytes = u64::from(length);
        let page = link & !3;
        let offset = entry.u32(config!(scatterlist.offset));
        let mut memory = UNKNOWN;
        if bytes < SMALL_BELOW {
            lengths::count(self.dev, self.fingerprint, what(self.direction, Mapped::Segment, bytes), 1, bytes);
            if self.looked_up {
                memory = slab::of_segment(page, offset);
            }
        } else {
            scratch.longer.count += 1;
            scratch.longer.bytes += bytes;
        }
        scratch.segments[n as usize] = Segment {
            page,
            dma_addr: entry.u64(config!(scatterlist.dma_address)),
            offset,
            length,
            dma_len: entry.u32(config!(scatterlist.dma_length)),
            dma_flags: entry.u32(config!(scatterlist.dma_flags)),
            memory,
        };
        scratch.head.recorded = n + 1;
        if link & 2 != 0 {
            return false;
        }
        self.at += u64::from(config!(scatterlist.size));
        true
    }
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
        let mut words = MaybeUninit::<[u64; Self::WORDS]>::uninit();
        let first = words.as_mut_ptr().cast::<u64>();
        for n in 0..Self::WORDS {
            // Volatile, or it becomes a loop of its own, byte by byte, that the verifier walks in every turn.
            // SAFETY: inside the array.
            unsafe { first.add(n).write_volatile(0) };
        }
        if size as usize > size_of::<Self>() {
            return None;
        }
        // SAFETY: no more than the buffer holds; the helper checks the address itself and fails instead of faulting.
        let failed = unsafe { bpf_probe_read_kernel(first.cast(), size, addr as *const _) } != 0;
        // SAFETY: every word has been written.
        (!failed).then(|| Self(unsafe { words.assume_init() }))
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
