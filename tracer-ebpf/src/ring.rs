//! The kernel's ring buffers by name: one for all CPUs, and those of the objects, one for each of the first CPUs. The latter are used only
//! where those of [`crate::object_ring`] cannot be had.
//!
//! Allocations are so many that a ring for all, whose lock the CPUs share, would cost each of them more than everything else
//! (`__bpf_ringbuf_reserve()`, `kernel/bpf/ringbuf.c`). User space reads the rings as one, in the order of time.

/// Of every record that is not one of an object.
pub const EVENTS: &str = "EVENTS";

/// Of records of objects: the n-th of CPU n, which CPU n + 8 shares.
pub const OBJECTS: [&str; 8] =
    ["OBJECTS_0", "OBJECTS_1", "OBJECTS_2", "OBJECTS_3", "OBJECTS_4", "OBJECTS_5", "OBJECTS_6", "OBJECTS_7"];
