//! The simulated kernel: what becomes of a mapping, the swiotlb pool, the kmalloc caches.
//!
//! Pure: no operating system, clock, thread or file; it sees one mapping at a time and knows nothing of captures. No number,
//! however damaged, makes it panic or loop.
//!
//! ```
//! use bouncescope_model::{
//!     policy::builtin,
//!     pool::{Pool, PoolConfig, Refused, Request, SlotRule},
//! };
//!
//! // swiotlb=128 on one CPU: 256 KiB, in slots of 2 KiB.
//! let mut pool = Pool::new(PoolConfig { slots: 128, areas: 1, slot_rule: SlotRule::default(), page_size: 4096 });
//! let request = Request { cpu: 0, phys: 0x1008, size: 8, align_mask: 0, min_align_mask: 0, is_memory: false };
//! let held = pool.map(&request)?;
//! assert_eq!((held.slots(), pool.used_slots()), (1, 1));
//! pool.unmap(held);
//! assert_eq!((pool.used_slots(), pool.peak_slots()), (0, 1));
//!
//! // A policy is data: which buffers bounce, and from which caches they come.
//! assert_eq!(builtin("mainline").map(|policy| policy.name).as_deref(), Some("mainline"));
//! # Ok::<(), Refused>(())
//! ```

pub mod architecture;
pub mod buffer;
pub mod concatenation;
pub mod kmalloc;
pub mod link;
pub mod mapping;
pub mod policy;
pub mod pool;
#[cfg(test)]
mod reference;
pub mod release;
pub mod rule;
pub mod sharing;
pub mod size;
pub mod slab;
