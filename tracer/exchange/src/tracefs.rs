//! Files of tracefs as trace-cmd and perf copy them into their own: where the fields of each event lie, where those of a page of the ring
//! buffer, and the names of functions.

mod formats;
mod header;
mod kallsyms;
mod numbers;

pub(super) use header::{Begin, Header, MAGIC, Page};
pub(super) use numbers::{Numbers, Order, damaged};

/// Such files, made in tests.
#[cfg(test)]
pub(super) mod made;
