//! The slab that a small buffer lies in, read from its page when the buffer is mapped; and its cache, described before the first
//! record that names it.

use core::mem::MaybeUninit;

use aya_ebpf::{
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns, generated::bpf_probe_read_kernel},
    macros::map,
    maps::HashMap,
};
use tracer_ebpf::{
    config::NONE,
    memory::{self, PAGES, UNKNOWN},
    record::{Cache, Header, Kind, UNKNOWN_PHYS, device_flag},
    streamed::Streamed,
};

use crate::{config, device::text, emit::send_with};

/// The names (their addresses) of the caches already described, by `struct kmem_cache *`. With more caches than there is room for,
/// the others are described with each of their buffers.
#[map]
static CACHES: HashMap<u64, u64> = HashMap::with_max_entries(1024, 0);

/// Whether the memory of a buffer is looked up: of small ones that a non-coherent device writes.
#[inline(always)]
pub(crate) fn is_looked_up(flags: u32, direction: u64, len: u64) -> bool {
    config!(slab.cache) != NONE && Streamed::Small.covers(flags & device_flag::COHERENT != 0, direction, len)
}

/// What a buffer at this physical address lies in.
#[inline(always)]
pub(crate) fn of_phys(phys: u64) -> u64 {
    let vmemmap = config!(pages.vmemmap);
    if vmemmap == 0 || phys & UNKNOWN_PHYS != 0 {
        return UNKNOWN;
    }
    let number = phys >> (config!(pages.shift) & 63);
    of_page(vmemmap.wrapping_add(number.wrapping_mul(u64::from(config!(pages.struct_size)))))
}

/// What a segment lies in, which may begin pages behind the one that it names.
#[inline(always)]
pub(crate) fn of_segment(page: u64, offset: u32) -> u64 {
    let behind = u64::from(offset) >> (config!(pages.shift) & 63);
    of_page(page.wrapping_add(behind.wrapping_mul(u64::from(config!(pages.struct_size)))))
}

/// What a page belongs to, by the address of its `struct page`. A page that has none cannot be read, which is no loss.
///
/// Not inlined: behind a call, the verifier forgets the many ways through it.
#[inline(never)]
fn of_page(page: u64) -> u64 {
    let head = memory::head(page, peek(page, config!(slab.compound)));
    let (mark, failed) = read::<u32>(head, config!(slab.mark));
    if failed {
        return UNKNOWN;
    }
    if mark & config!(slab.mark_mask) != config!(slab.mark_value) {
        return PAGES;
    }
    let cache: u64 = peek(head, config!(slab.cache));
    let name: u64 = peek(cache, config!(slab.name));
    let size = u64::from(config!(pages.struct_size));
    if name == 0 || size == 0 {
        return UNKNOWN;
    }
    // SAFETY: a value of one word; replaced meanwhile, it at worst describes the cache once more.
    if unsafe { CACHES.get(&cache) } != Some(&name) {
        describe(cache, name);
    }
    memory::in_slab(cache, page.wrapping_sub(head) / size)
}

/// Sends the description; only when the ring took it is the cache taken as known, so that no record can come before it.
#[inline(never)]
fn describe(cache: u64, name: u64) {
    let sent = send_with(Kind::Cache, |record: *mut Cache| {
        // SAFETY: the ring's memory for one record, written here and nowhere else.
        let record = unsafe { &mut *record };
        // SAFETY: the helpers have no precondition.
        let (time_ns, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id() as u16) };
        record.header = Header { time_ns, task: 0, cpu, kind: Kind::Cache as u8, direction: 0 };
        record.key = memory::key(cache);
        record.size = peek(cache, config!(slab.size));
        record.left_pad = peek(cache, config!(slab.left_pad));
        text(name, &mut record.name);
    });
    if sent {
        let _ = CACHES.insert(&cache, &name, 0);
    }
}

/// Reads a number at `base + offset`; 0 where it cannot be read.
#[inline(always)]
fn peek<T: Copy>(base: u64, offset: u32) -> T {
    read(base, offset).0
}

/// The same, and whether it could not be read.
#[inline(always)]
fn read<T: Copy>(base: u64, offset: u32) -> (T, bool) {
    let mut value = MaybeUninit::<T>::zeroed();
    let addr = base.wrapping_add(u64::from(offset));
    // SAFETY: memory of that size. The helper checks the address itself, and clears the memory when it fails.
    let error = unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, addr as *const _) };
    // SAFETY: zeroes, which are a value of any number, or what was read in full.
    (unsafe { value.assume_init() }, error != 0)
}
