//! Loops that the verifier walks once.

use core::arch::asm;

/// Whether a loop may go on, which the kernel ends in time (`may_goto`, 6.9 on): asked at the head of a loop, it lets the verifier stop at the
/// second turn that looks like the first, where it else walks every turn (`is_may_goto_insn()`, `kernel/bpf/verifier.c`). The verifier of
/// older kernels refuses the program.
#[inline(always)]
pub(crate) fn may_go_on() -> bool {
    // SAFETY: it jumps or does not, and touches nothing.
    unsafe {
        asm!("may_goto {}", label { return false });
    }
    true
}
