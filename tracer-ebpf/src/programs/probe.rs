//! Reading kernel memory, and entries of probed functions kept until their return.

use core::mem::{MaybeUninit, size_of};

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_EXIST, BPF_NOEXIST, pt_regs},
    helpers::{self, generated::bpf_probe_read_kernel},
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
    pub(crate) args: [u64; 6],
}

/// A call that has not returned, and the thread that was current at its entry: the same one as at its return.
#[derive(Clone, Copy)]
#[repr(C)]
struct Kept {
    call: Call,
    task: u64,
}

/// Calls that have not returned, by [`frame`] and [`Probed`].
#[map]
static CALLS: HashMap<u64, Kept> = HashMap::with_max_entries(4096, 0);

/// Which function a call is of. A function that ends by jumping to another has its frame in common with it.
///
/// No stack pointer has any of the lowest three bits.
#[derive(Clone, Copy)]
#[repr(u64)]
pub(crate) enum Probed {
    /// The search for slots.
    Slot = 0,
    /// One of the pool's functions of which only the time is taken.
    Timed = 1,
    /// The mapping of a scatterlist.
    List = 2,
    /// The mapping of a single buffer.
    Single = 3,
    /// The linking of a buffer into a range of DMA addresses.
    Link = 4,
    /// The allocation of coherent memory from a pool.
    Coherent = 5,
}

/// Reads a `T` at `base + offset`; `None` where this kernel has no such field, or (counted) the read faults.
#[inline(always)]
pub(crate) fn field<T: Copy>(base: u64, offset: u32) -> Option<T> {
    if offset == NONE || base == 0 {
        return None;
    }
    read(base.wrapping_add(u64::from(offset)))
}

/// As [`field`], or zeroes, which every `T` that is read so must be a value of: numbers, and arrays of them. Which of the two it
/// is, is no way of its own through the program, so that the verifier does not walk the rest once for each field that may
/// be missing.
#[inline(always)]
pub(crate) fn field_or_zero<T: Copy>(base: u64, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    if offset != NONE && base != 0 {
        let addr = base.wrapping_add(u64::from(offset));
        // SAFETY: memory of that size. The helper checks the address itself, and clears the memory when it fails.
        let failed =
            unsafe { bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, addr as *const _) };
        if failed != 0 {
            count_other(Other::ReadFault);
        }
    }
    // SAFETY: zeroes, which are a value of it, or what was read in full.
    unsafe { value.assume_init() }
}

/// Reads a `T` at `addr`; `None`, and counted, when the read faults.
#[inline(always)]
pub(crate) fn read<T: Copy>(addr: u64) -> Option<T> {
    // SAFETY: the helper checks the address itself and fails instead of faulting.
    let value = unsafe { helpers::bpf_probe_read_kernel(addr as *const T) };
    if value.is_err() {
        count_other(Other::ReadFault);
    }
    value.ok()
}

/// Keeps the arguments of the function being entered. What an earlier call left in the same frame never saw its return.
#[inline(always)]
pub(crate) fn entered(ctx: &ProbeContext, probed: Probed, call: Call) {
    let key = frame(ctx.regs, true) | probed as u64;
    let kept = Kept { call, task: u64::from(ctx.pid()) };
    if CALLS.insert(&key, &kept, u64::from(BPF_NOEXIST)).is_ok() {
        return;
    }
    if CALLS.insert(&key, &kept, u64::from(BPF_EXIST)).is_ok() {
        count_other(Other::MissedReturn);
    } else {
        count_other(Other::CallsFull);
    }
}

/// What was kept at the entry of the function that now returns; `None`, and counted, when nothing was, or only what another
/// task had left in a stack that is this one's now.
#[inline(always)]
pub(crate) fn returned(ctx: &RetProbeContext, probed: Probed) -> Option<Call> {
    let key = frame(ctx.regs, false) | probed as u64;
    let Some(kept) = CALLS.get_ptr(&key) else {
        count_other(Other::UnpairedReturn);
        return None;
    };
    // SAFETY: the entry belongs to this very frame, which cannot be entered again before it has returned.
    let Kept { call, task } = unsafe { *kept };
    let _ = CALLS.remove(&key);
    if task != u64::from(ctx.pid()) {
        count_other(Other::MissedReturn);
        count_other(Other::UnpairedReturn);
        return None;
    }
    Some(call)
}

/// The entry of a function of which only the time is taken, with what the time is kept by.
#[derive(Clone, Copy)]
pub(crate) struct Timed {
    pub(crate) entry_ns: u64,
    pub(crate) len: u64,
    /// [`tracer_ebpf::counter::Function`].
    pub(crate) function: u64,
}

/// As [`entered`], beside it in the same frame; what goes wrong costs a time and no record, so it is counted apart.
#[inline(always)]
pub(crate) fn timed_entered(ctx: &ProbeContext, timed: Timed) {
    let key = frame(ctx.regs, true) | Probed::Timed as u64;
    let call = Call { entry_ns: timed.entry_ns, args: [timed.len, timed.function, 0, 0, 0, 0] };
    let kept = Kept { call, task: u64::from(ctx.pid()) };
    if CALLS.insert(&key, &kept, u64::from(BPF_NOEXIST)).is_err() {
        let _ = CALLS.insert(&key, &kept, u64::from(BPF_EXIST));
        count_other(Other::Untimed);
    }
}

/// As [`returned`], of what [`timed_entered`] kept.
#[inline(always)]
pub(crate) fn timed_returned(ctx: &RetProbeContext) -> Option<Timed> {
    let key = frame(ctx.regs, false) | Probed::Timed as u64;
    let Some(kept) = CALLS.get_ptr(&key) else {
        count_other(Other::Untimed);
        return None;
    };
    // SAFETY: the entry belongs to this very frame, which cannot be entered again before it has returned.
    let Kept { call: Call { entry_ns, args: [len, function, ..] }, task } = unsafe { *kept };
    let _ = CALLS.remove(&key);
    if task != u64::from(ctx.pid()) {
        count_other(Other::Untimed);
        return None;
    }
    Some(Timed { entry_ns, len, function })
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

/// The first six arguments of the probed function.
///
/// Read at once and volatile: left to itself the compiler picks the register by a computed offset, and the verifier
/// takes no variable offset into the context.
#[inline(always)]
pub(crate) fn arguments(ctx: &ProbeContext) -> [u64; 6] {
    let regs = ctx.regs;
    [register(regs, 0), register(regs, 1), register(regs, 2), register(regs, 3), register(regs, 4), register(regs, 5)]
}

/// The seventh argument of the probed function, at its entry.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn seventh_argument(ctx: &ProbeContext) -> u64 {
    register(ctx.regs, 6)
}

/// The seventh argument of the probed function, at its entry: x86 has it on the stack, behind the return address.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn seventh_argument(ctx: &ProbeContext) -> u64 {
    // SAFETY: the context of a kprobe program is the probed CPU's registers.
    let stack = unsafe { core::ptr::read_volatile(&raw const (*ctx.regs).rsp) };
    read(stack.wrapping_add(8)).unwrap_or(0)
}

/// The argument at a position that the loader told; 0 for [`NONE`].
#[inline(always)]
pub(crate) fn at(arguments: [u64; 6], position: u32) -> u64 {
    let [_, _, _, third, fourth, fifth] = arguments;
    match position {
        3 => third,
        4 => fourth,
        5 => fifth,
        _ => 0,
    }
}

#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn register(regs: *mut pt_regs, n: usize) -> u64 {
    // SAFETY: the context of a kprobe program is the probed CPU's registers; arguments are in x0 to x7.
    unsafe { core::ptr::read_volatile(&raw const (*regs).regs[n]) }
}

#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn register(regs: *mut pt_regs, n: usize) -> u64 {
    // SAFETY: as above; arguments are in these registers, in this order.
    unsafe {
        let register = match n {
            0 => &raw const (*regs).rdi,
            1 => &raw const (*regs).rsi,
            2 => &raw const (*regs).rdx,
            3 => &raw const (*regs).rcx,
            4 => &raw const (*regs).r8,
            _ => &raw const (*regs).r9,
        };
        core::ptr::read_volatile(register)
    }
}
