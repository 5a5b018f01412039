//! Numbers of the call sites of kmalloc in a stream.

/// A call site of kmalloc: index in order of appearance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

impl SiteId {
    /// Not known.
    pub const UNKNOWN: Self = Self(0);
}
