//! What all boots of a run share: where their files go, the programs in their guests, and what is kept of them.

use std::{path::PathBuf, time::Duration};

use crate::initramfs::Programs;

/// One boot with all its recordings; under emulation on a busy machine it takes a minute or two.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_mins(10);
/// One whose workload takes ten minutes.
pub(crate) const LONG_BOOT_LIMIT: Duration = Duration::from_mins(30);

/// A run of the lab.
pub(crate) struct Run {
    /// Where captures, counts and console logs go.
    pub(crate) out: PathBuf,
    /// Boots at the same time.
    pub(crate) jobs: usize,
    /// Print the QEMU command of each boot, and keep what it needs to be run by hand.
    pub(crate) keep: bool,
    /// Nothing is booted: what an earlier run left is judged again.
    pub(crate) again: bool,
    /// The workloads run without the product.
    pub(crate) bare: bool,
    /// What goes into the guests.
    pub(crate) programs: Programs,
    /// Where each capture is copied to, if anywhere.
    pub(crate) captures: Option<PathBuf>,
}
