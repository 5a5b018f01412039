//! kmem: every allocation counted exactly by call site and size; a sample of the objects, or all, streamed with the
//! moment they are freed.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_NOEXIST,
    macros::{fentry, kprobe, map, raw_tracepoint},
    maps::{PerCpuArray, PerCpuHashMap},
    programs::{FEntryContext, ProbeContext, RawTracePointContext},
};
use tracer_ebpf::{
    counter::{HOT_SITES, HotSite, Other, SiteKey},
    object_ring::Place,
    record::{Kfree, Kind, Kmalloc},
};

use crate::{
    config,
    emit::{add_other, add_to, header},
    loops::may_go_on,
    objects::send,
    own_ring,
    probe::{arguments, field_or_zero},
};

/// Allocations by call site and size, but for those that [`HOT`] still has.
#[map]
static SITES: PerCpuHashMap<SiteKey, u64> = PerCpuHashMap::with_max_entries(16384, 0);

/// The call sites at hand.
#[map]
static HOT: PerCpuArray<HotSite> = PerCpuArray::with_max_entries(HOT_SITES, 0);

/// Objects of one bulk that are looked at: `kfree_rcu()` fills a page of 4 KiB with pointers, less two words and a list's head
/// (`KVFREE_BULK_MAX_ENTR`, `kernel/rcu/tree.c`, from 6.14 on `mm/slab_common.c`).
const MOST_IN_BULK: u64 = 512;

/// The object of a bulk that comes next, for [`free_bulk`] alone. Here, because the verifier would know a number of its own, and tell the turns
/// apart.
#[map]
static NEXT_IN_BULK: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// `kmem:kmalloc` (call_site, ptr, bytes_req, bytes_alloc, gfp_flags, …), and `kmem:kmalloc_node`, which kernels before 6.1 have
/// too and which begins alike.
#[raw_tracepoint]
pub fn kmalloc(ctx: RawTracePointContext) -> i32 {
    let call_site: u64 = ctx.arg(0);
    let ptr: u64 = ctx.arg(1);
    let bytes_req: u64 = ctx.arg(2);
    let bytes_alloc: u64 = ctx.arg(3);
    count_site(call_site, bytes_req, bytes_alloc);
    if !sampled(ptr) {
        return 0;
    }
    let gfp: u32 = ctx.arg(4);
    if config!(object_slots_log2) != 0 {
        let (bytes_req, bytes_alloc) = (saturate(bytes_req), saturate(bytes_alloc));
        own_ring::allocated(&ctx, ptr, Place { call_site, bytes_req, bytes_alloc, gfp, reserved: 0 });
    } else {
        let header = header(&ctx, Kind::Kmalloc, 0);
        send(Kind::Kmalloc, Kmalloc { header, call_site, ptr, bytes_req, bytes_alloc, gfp: u64::from(gfp) });
    }
    0
}

/// `kmem:kfree` (call_site, ptr).
#[raw_tracepoint]
pub fn kfree(ctx: RawTracePointContext) -> i32 {
    let ptr: u64 = ctx.arg(1);
    // kfree(NULL) is common, and nothing.
    if ptr > 16 && sampled(ptr) {
        if config!(object_slots_log2) != 0 {
            own_ring::freed(&ctx, ptr, ctx.arg(0));
        } else {
            let header = header(&ctx, Kind::Kfree, 0);
            send(Kind::Kfree, Kfree { header, call_site: ctx.arg(0), ptr });
        }
    }
    0
}

/// `kmem_cache_free_bulk(cache, size, objects)`.
#[kprobe]
pub fn free_bulk(ctx: ProbeContext) -> u32 {
    let [cache, size, objects, ..] = arguments(&ctx);
    freed_in_bulk::<_, true>(&ctx, cache, size, objects);
    0
}

/// The same before 6.9.
#[kprobe]
pub fn free_bulk_turns(ctx: ProbeContext) -> u32 {
    let [cache, size, objects, ..] = arguments(&ctx);
    freed_in_bulk::<_, false>(&ctx, cache, size, objects);
    0
}

/// The same, where there are no kprobes.
#[fentry]
pub fn free_bulk_enter(ctx: FEntryContext) -> i32 {
    freed_in_bulk::<_, false>(&ctx, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// Without a cache this is `kfree_bulk()`, which has no event; what was handed to `kfree_rcu()` is freed by it.
#[inline(always)]
fn freed_in_bulk<C: EbpfContext, const MAY_GOTO: bool>(ctx: &C, cache: u64, size: u64, objects: u64) {
    if cache != 0 {
        return;
    }
    if MAY_GOTO {
        let Some(next) = NEXT_IN_BULK.get_ptr_mut(0) else { return };
        // SAFETY: this CPU's own value, used by one program that does not run inside itself.
        let next = unsafe { &mut *next };
        *next = 0;
        while may_go_on() {
            // SAFETY: a read of memory that is borrowed here.
            let n = unsafe { (&raw const *next).read_volatile() };
            if n >= MOST_IN_BULK || n >= size {
                break;
            }
            *next = n + 1;
            freed(ctx, field_or_zero(objects.wrapping_add(n * 8), 0));
        }
    } else {
        let mut n = 0;
        while n < MOST_IN_BULK && n < size {
            freed(ctx, field_or_zero(objects.wrapping_add(n * 8), 0));
            n += 1;
        }
    }
    if size > MOST_IN_BULK {
        add_other(Other::BulkCut, size - MOST_IN_BULK);
    }
}

/// Not inlined: behind a call, the verifier forgets the ways through it.
#[inline(never)]
fn freed<C: EbpfContext>(ctx: &C, ptr: u64) {
    // kfree_bulk() passes over what kfree(NULL) does.
    if ptr > 16 && sampled(ptr) {
        if config!(object_slots_log2) != 0 {
            own_ring::freed_in_bulk(ctx, ptr);
        } else {
            send(Kind::Kfree, Kfree { header: header(ctx, Kind::Kfree, 0), call_site: 0, ptr });
        }
    }
}

/// Counts an allocation. Kernels before 6.1 run a raw tracepoint's program inside itself, when an interrupt that comes while it runs
/// allocates too: the inner run finds the place taken, and counts in the map of all.
#[inline(always)]
fn count_site(call_site: u64, bytes_req: u64, bytes_alloc: u64) {
    let key = SiteKey { call_site, bytes_req: saturate(bytes_req), bytes_alloc: saturate(bytes_alloc) };
    let Some(hot) = HOT.get_ptr_mut(key.hot()) else { return };
    // SAFETY: the map keeps the value alive and aligned; it is this CPU's own. Volatile, and in this order, for what interrupts it.
    unsafe {
        if (&raw const (*hot).taken).read_volatile() != 0 {
            return add(&key, 1);
        }
        (&raw mut (*hot).taken).write_volatile(1);
        if (*hot).key != key {
            let before = HotSite { key: (*hot).key, count: (*hot).count, taken: 0 };
            // The count first: user space, which reads at any time, must not find that of one site with the other's key.
            (&raw mut (*hot).count).write_volatile(0);
            (&raw mut (*hot).key).write_volatile(key);
            if before.count > 0 {
                add(&before.key, before.count);
            }
        }
        (&raw mut (*hot).count).write_volatile((*hot).count + 1);
        (&raw mut (*hot).taken).write_volatile(0);
    }
}

/// Adds to a call site in the map of all.
#[inline(always)]
fn add(key: &SiteKey, count: u64) {
    if added(key, count) || SITES.insert(key, &count, u64::from(BPF_NOEXIST)).is_ok() {
        return;
    }
    // An interrupt was first; or there is no room.
    if !added(key, count) {
        add_other(Other::SitesFull, count);
    }
}

/// Adds to what is there already; whether there was something.
#[inline(always)]
fn added(key: &SiteKey, count: u64) -> bool {
    let Some(total) = SITES.get_ptr_mut(key) else { return false };
    // SAFETY: the map keeps the value alive and aligned.
    unsafe { add_to(total, count) };
    true
}

#[inline(always)]
fn saturate(bytes: u64) -> u32 {
    if bytes > u64::from(u32::MAX) { u32::MAX } else { bytes as u32 }
}

/// Whether this object is in the sample: decided by its address alone, so that allocation and free agree.
#[inline(always)]
fn sampled(ptr: u64) -> bool {
    let mask = config!(sample_mask);
    // As many objects as a coin would take, whatever their distance: a single multiplication takes whole runs of neighbours, and
    // leaves out others, where its product is nearly periodic in the size of a cache.
    let mixed = (ptr >> 3).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mask != u64::MAX && (mixed >> 32) & mask == 0
}
