//! Reading kernel memory, and entries of probed functions kept until their return.

use aya_ebpf::{
    bindings::pt_regs,
    helpers::bpf_probe_read_kernel,
    macros::map,
    maps::HashMap,
    programs::{ProbeContext, RetProbeContext},
};
use tracer_ebpf::{config::NONE, counter::Other};

use crate::emit::count_other;

/// What was passed to a probed function; which fields mean what is the function's affair.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Call {
    pub(crate) entry_ns: u64,
    pub(crate) args: [u64; 5],
}

/// Calls that have not returned, by [`frame`].
#[map]
static CALLS: HashMap<u64, Call> = HashMap::with_max_entries(4096, 0);

/// Reads a `T` at `base + offset`; `None` where this kernel has no such field, or (counted) the read faults.
#[inline(always)]
pub(crate) fn field<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if offset == NONE || base == 0 {
        return None;
    }
    read(base.wrapping_add(u64::from(offset)))
}

/// Reads a `T` at `addr`; `None`, and counted, when the read faults.
#[inline(always)]
pub(crate) fn read<T: Copy>(addr: u64) -> Option<T> {
    // SAFETY: the helper checks the address itself and fails instead of faulting.
    let value = unsafe { bpf_probe_read_kernel(addr as *const T) };
    if value.is_err() {
        count_other(Other::ReadFault);
    }
    value.ok()
}

/// Keeps the arguments of the function being entered.
#[inline(always)]
pub(crate) fn entered(ctx: &ProbeContext, call: Call) {
    if CALLS.insert(&frame(ctx.regs, true), &call, 0).is_err() {
        count_other(Other::CallsFull);
    }
}

/// What was kept at the entry of the function that now returns; `None`, and counted, when nothing was.
#[inline(always)]
pub(crate) fn returned(ctx: &RetProbeContext) -> Option<Call> {
    let key = frame(ctx.regs, false);
    let Some(call) = CALLS.get_ptr(&key) else {
        count_other(Other::UnpairedReturn);
        return None;
    };
    // SAFETY: the entry belongs to this very frame, which cannot be entered again before it has returned.
    let call = unsafe { *call };
    let _ = CALLS.remove(&key);
    Some(call)
}

/// The stack pointer of the caller: one of a kind among all calls in progress, in tasks and in the interrupts nested in
/// them, and the same at entry and at return.
#[inline(always)]
fn frame(regs: *mut pt_regs, entry: bool) -> u64 {
    // SAFETY: the context of a kprobe program is the probed CPU's registers.
    #[cfg(bpf_target_arch = "aarch64")]
    let (sp, return_address) = (unsafe { (*regs).sp }, 0);
    // SAFETY: as above. x86 has pushed the return address at entry, and popped it at return.
    #[cfg(bpf_target_arch = "x86_64")]
    let (sp, return_address) = (unsafe { (*regs).rsp }, 8);
    if entry { sp.wrapping_add(return_address) } else { sp }
}

/// The `n`-th argument of the probed function; `None` for [`NONE`] and beyond the registers.
#[inline(always)]
pub(crate) fn argument(ctx: &ProbeContext, n: u32) -> Option<u64> {
    // Registers by constant number: the verifier takes no variable offset into the context.
    match n {
        0 => ctx.arg(0),
        1 => ctx.arg(1),
        2 => ctx.arg(2),
        3 => ctx.arg(3),
        4 => ctx.arg(4),
        5 => ctx.arg(5),
        _ => None,
    }
}
