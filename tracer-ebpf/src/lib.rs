//! What the eBPF programs and user space agree on: ring records, counters, load-time configuration, and the bounce
//! decider itself, which both sides call.
//!
//! `no_std`, no dependency but (for user space) `bytemuck`. The programs are in `programs/`, which only the BPF target
//! builds. Nothing here knows aya, a file or a clock.
#![no_std]

pub mod config;
pub mod counter;
pub mod decide;
pub mod record;
pub mod ring;
pub mod streamed;
