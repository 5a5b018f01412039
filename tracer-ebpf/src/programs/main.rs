//! The eBPF programs. One file per subject; what they share is here and in `emit`.
//!
//! Built for `bpfel-unknown-none` by `cargo xtask build-ebpf`. The programs know no kernel version: offsets and argument
//! positions come in through [`CONFIG`].
#![no_std]
#![no_main]
// aya-ebpf needs the same one for this target.
#![feature(asm_experimental_arch)]

mod coherent;
mod device;
mod emit;
mod kmalloc;
mod lengths;
mod link;
mod loops;
mod map;
mod objects;
mod own_ring;
mod probe;
mod resource;
mod sg;
mod slab;
mod streamed;
mod swiotlb;
mod sync;
mod times;
mod traced;

use tracer_ebpf::config::Config;

/// Overridden by the loader before the programs are verified, so that the verifier sees constants.
#[unsafe(no_mangle)]
static CONFIG: Config = Config::EMPTY;

/// Reads one field of [`CONFIG`]; volatile, because the compiler must not fold in the value from this file.
macro_rules! config {
    ($($path:tt)+) => {{
        // SAFETY: a read of an initialised static of this program.
        unsafe { core::ptr::read_volatile(&raw const $crate::CONFIG.$($path)+) }
    }};
}
use config;

/// The helpers used are GPL-only in the kernel, and so is loading them.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
