//! The simulated kernel: what becomes of a mapping, the swiotlb pool, the kmalloc caches.
//!
//! Pure: no operating system, clock, thread or file; it sees one mapping at a time and knows nothing of captures. No number,
//! however damaged, makes it panic or loop.

pub mod concatenation;
pub mod kmalloc;
pub mod mapping;
pub mod policy;
pub mod pool;
#[cfg(test)]
mod reference;
pub mod rule;
pub mod sharing;
pub mod slab;
