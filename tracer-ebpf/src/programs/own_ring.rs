//! Objects into the rings of [`tracer_ebpf::object_ring`]: how they are laid out in maps, and what a program knows of an object.

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns},
    macros::map,
    maps::Array,
};
use tracer_ebpf::{
    counter,
    object_ring::{Control, Now, PLACES, Place, PlaceWords, Put, RINGS, Span, TABLES, Writer, put, take_turn},
    record::Kind,
};

use crate::{
    config,
    emit::{add_to, count, see, wake},
};

/// Of all rings: [`RINGS`] for each CPU. As many entries as the loader says, as in the others.
#[map]
static OBJECT_CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The slots of all rings, where [`Span::of`] says.
#[map]
static OBJECT_SLOTS: Array<[u64; 2]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The tables of all rings that have one: what the reader has been told of each place.
#[map]
static OBJECT_PLACES: Array<PlaceWords> = Array::with_max_entries(1, 0);

/// An object was allocated.
#[inline(always)]
pub(crate) fn allocated<C: EbpfContext>(ctx: &C, ptr: u64, place: Place) {
    let sizes = u64::from(place.bytes_req) ^ u64::from(place.gfp) << 8;
    send(ctx, Writer::Kmalloc, ptr, Some((number(place.call_site ^ sizes << 32), place)));
}

/// An object was freed.
#[inline(always)]
pub(crate) fn freed<C: EbpfContext>(ctx: &C, ptr: u64, call_site: u64) {
    let place = Place { call_site, bytes_req: 0, bytes_alloc: 0, gfp: 0, reserved: 0 };
    send(ctx, Writer::Kfree, ptr, Some((number(call_site), place)));
}

/// An object was freed together with others.
#[inline(always)]
pub(crate) fn freed_in_bulk<C: EbpfContext>(ctx: &C, ptr: u64) {
    send(ctx, Writer::Bulk, ptr, None);
}

/// The place of what has this hash.
#[inline(always)]
fn number(hash: u64) -> u32 {
    (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32 % PLACES
}

#[inline(always)]
fn send<C: EbpfContext>(ctx: &C, writer: Writer, ptr: u64, place: Option<(u32, Place)>) {
    // SAFETY: the helper has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let table = (cpu * TABLES + writer as u32) * PLACES;
    let Some(control) = OBJECT_CONTROL.get_ptr_mut(cpu * RINGS + writer as u32) else { return lost(writer) };
    let Some(first) = OBJECT_CONTROL.get_ptr_mut(cpu * RINGS) else { return lost(writer) };
    let shared = match place {
        Some((number, place)) => {
            let Some(there) = OBJECT_PLACES.get_ptr_mut(table + number) else { return lost(writer) };
            Some((there, number, place))
        }
        None => None,
    };
    let span = Span::of(writer, cpu, config!(object_slots_log2));
    let now = || {
        // SAFETY: the helper has no precondition.
        let time_ns = unsafe { bpf_ktime_get_ns() };
        // SAFETY: the map keeps the clock alive and aligned, and it is this CPU's.
        let turn = unsafe { take_turn(&raw mut (*first).clock, time_ns) };
        Now { time_ns, turn, task: ctx.pid() }
    };
    // SAFETY: the maps keep all of it alive and aligned, and it is this CPU's and this program's own.
    match unsafe { put(control, shared, ptr, span, now, |slot| OBJECT_SLOTS.get_ptr_mut(slot)) } {
        Put::In | Put::Refused => {}
        Put::Fills => wake(),
        // SAFETY: as above.
        Put::Nested => unsafe { add_to(&raw mut (*control).nested, 1) },
    }
}

/// On a CPU that the loader knew nothing of, of which there is none.
#[inline(always)]
fn lost(writer: Writer) {
    let kind = if matches!(writer, Writer::Kmalloc) { Kind::Kmalloc } else { Kind::Kfree };
    see(kind);
    count(counter::ring_full(kind));
}
