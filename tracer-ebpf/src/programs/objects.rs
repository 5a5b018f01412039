//! Sending records of objects, of which there are more than of all others: into the ring of the CPU
//! ([`tracer_ebpf::ring::OBJECTS`]).

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP},
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{RingBuf, ring_buf::RingBufEntry},
};
use tracer_ebpf::{counter, record::Kind, ring::OBJECTS};

use crate::{
    config,
    emit::{count, see, wakeup},
};

/// Of records of its kind on its CPU, one in how many looks how full the ring is: for each, that would cost as much as the record.
const LOOK_EVERY: u64 = 32;

/// The rings, whose sizes are set by the loader, and what is asked of the one of a CPU: the verifier must know at every call
/// which map it is for.
macro_rules! rings {
    ($($cpu:literal $ring:ident)*) => {
        $(#[map] static $ring: RingBuf = RingBuf::with_byte_size(4096, 0);)*

        #[inline(always)]
        fn reserve<T: 'static>(cpu: u32) -> Option<RingBufEntry<T>> {
            match cpu {
                $($cpu => $ring.reserve::<T>(0),)*
                _ => None,
            }
        }

        #[inline(always)]
        fn unread(cpu: u32) -> u64 {
            match cpu {
                $($cpu => $ring.query(u64::from(BPF_RB_AVAIL_DATA)),)*
                _ => 0,
            }
        }
    };
}
rings! { 0 OBJECTS_0 1 OBJECTS_1 2 OBJECTS_2 3 OBJECTS_3 4 OBJECTS_4 5 OBJECTS_5 6 OBJECTS_6 7 OBJECTS_7 }

/// Sends a record of `kind`; counts it, and counts it again as lost when the ring is full.
#[inline(always)]
pub(crate) fn send<T: Copy + 'static>(kind: Kind, record: T) {
    let seen = see(kind);
    // SAFETY: the helper has no precondition.
    let cpu = unsafe { bpf_get_smp_processor_id() } % OBJECTS.len() as u32;
    let Some(mut entry) = reserve::<T>(cpu) else { return count(counter::ring_full(kind)) };
    // SAFETY: valid and aligned memory of that type.
    unsafe { entry.as_mut_ptr().write(record) };
    let looks = seen % LOOK_EVERY == 0;
    entry.submit(if looks { wakeup(unread(cpu), config!(wake_at_objects)) } else { u64::from(BPF_RB_NO_WAKEUP) });
}
