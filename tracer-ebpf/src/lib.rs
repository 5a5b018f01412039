//! What the eBPF programs and user space agree on: ring records, counters, load-time configuration, and the bounce
//! decider itself, which both sides call.
//!
//! `no_std`, no dependency but (for user space) `bytemuck`. The programs are in `programs/`, which only the BPF target
//! builds. Nothing here knows aya, a file or a clock.
//!
//! ```
//! use tracer_ebpf::decide::{Decider, FROM_DEVICE, TO_DEVICE};
//!
//! // arm64 since Linux 6.5: caches from 8 bytes, lines of 64.
//! let kernel = Decider { bounce_unaligned: 1, cache_line_size: 64, minalign: 8, dma_minalign: 128 };
//! assert!(kernel.needs_bounce(false, FROM_DEVICE, 8));
//! assert!(!kernel.needs_bounce(false, FROM_DEVICE, 64));
//! // What the device only reads is written back to memory, and nothing beside it is lost.
//! assert!(!kernel.needs_bounce(false, TO_DEVICE, 8));
//! ```
#![no_std]

pub mod attrs;
pub mod config;
pub mod counter;
pub mod decide;
pub mod memory;
mod memory_access;
pub mod object_ring;
pub mod record;
pub mod ring;
pub mod streamed;
