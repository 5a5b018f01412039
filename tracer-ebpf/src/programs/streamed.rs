//! Which mappings, unmappings and syncs are sent: [`Streamed`], kept up between a mapping and what becomes of it.

use aya_ebpf::{EbpfContext, macros::map, maps::HashMap};
use tracer_ebpf::{counter::Other, record::device_flag, streamed::Streamed};

use crate::{config, device, emit::count_other};

/// Devices that bounced for another reason than their buffers' length: whatever they map is sent from then on.
#[map]
static BOUNCING: HashMap<u64, u64> = HashMap::with_max_entries(1024, 0);

/// Scatterlists that were sent and are mapped, by device and first entry: an unmapping does not tell the lengths.
#[map]
static LISTS: HashMap<[u64; 2], u64> = HashMap::with_max_entries(4096, 0);

/// Whether a single mapping is sent, or what becomes of it. Of a sync, whose length may be that of a part, this holds
/// whenever it holds for the mapping.
#[inline(always)]
pub(crate) fn single(dev: u64, fingerprint: u64, direction: u64, len: u64) -> bool {
    let streamed = streamed();
    streamed == Streamed::All || streamed.covers(coherent(fingerprint), direction, len) || whole(dev, fingerprint)
}

/// Whether the mapping of a list is sent whose shortest segment has `shortest` bytes; if so, it is remembered until it ends.
///
/// Not inlined: the program that walks the list has hardly any stack left.
#[inline(never)]
pub(crate) fn list_begins(dev: u64, fingerprint: u64, direction: u64, list: u64, shortest: u64) -> bool {
    let streamed = streamed();
    if streamed == Streamed::All || whole(dev, fingerprint) {
        return true;
    }
    if !streamed.covers(coherent(fingerprint), direction, shortest) {
        return false;
    }
    if streamed == Streamed::Small && LISTS.insert(&[dev, list], &0, 0).is_err() {
        count_other(Other::ListsFull);
    }
    true
}

/// Whether what becomes of a mapped list is sent.
#[inline(always)]
pub(crate) fn list(dev: u64, fingerprint: u64, direction: u64, list: u64) -> bool {
    match streamed() {
        Streamed::All => true,
        Streamed::Small => LISTS.get_ptr(&[dev, list]).is_some() || whole(dev, fingerprint),
        streamed => streamed.covers(coherent(fingerprint), direction, 0) || whole(dev, fingerprint),
    }
}

/// As [`list`], and the list is mapped no more.
#[inline(always)]
pub(crate) fn list_ends(dev: u64, fingerprint: u64, direction: u64, list: u64) -> bool {
    if streamed() == Streamed::Small && LISTS.remove(&[dev, list]).is_ok() {
        return true;
    }
    self::list(dev, fingerprint, direction, list)
}

/// A device bounces: unless for what is sent of it anyway, all of it is from now on. To be called before the event of the
/// mapping, which comes when the kernel has the slots.
#[inline(always)]
pub(crate) fn bounced<C: EbpfContext>(ctx: &C, dev: u64, direction: u64, len: u64) {
    let fingerprint = device::known(ctx, dev);
    if !single(dev, fingerprint, direction, len) && BOUNCING.insert(&dev, &0, 0).is_err() {
        count_other(Other::DevicesFull);
    }
}

#[inline(always)]
fn streamed() -> Streamed {
    Streamed::from_raw(config!(streamed))
}

#[inline(always)]
fn coherent(fingerprint: u64) -> bool {
    device::flags(fingerprint) & device_flag::COHERENT != 0
}

/// All of the device is sent.
#[inline(always)]
fn whole(dev: u64, fingerprint: u64) -> bool {
    device::flags(fingerprint) & device_flag::FORCE_BOUNCE != 0 || BOUNCING.get_ptr(&dev).is_some()
}
