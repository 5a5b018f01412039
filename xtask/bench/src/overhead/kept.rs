//! What a tool has of a storm when it is over.

/// What a tool has of a storm.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// Events, of those that the storm made and others; `None` where the tool does not say.
    pub(super) events: Option<u64>,
    /// Bytes on disk, or read.
    pub(super) bytes: Option<u64>,
    /// What the tool itself says that it lost.
    pub(super) lost: Option<u64>,
    /// Runs of its programs that the kernel skipped.
    pub(super) skipped: u64,
}
