//! What a run's outcome needs besides the run.

use crate::names::Names;
use bouncescope_capture::facts::PoolTimes;

/// What is known at the end of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Last<'a> {
    /// Devices and call sites.
    pub names: Names<'a>,
    /// How long the pool's functions took.
    pub pool_times: Option<&'a PoolTimes>,
    /// When it begins, ns.
    pub start_ns: u64,
    /// When it ends, ns.
    pub end_ns: u64,
    /// Time that the stream covers, ns.
    pub span_ns: u64,
    /// Mappings of devices whose description was lost.
    pub not_simulated: u64,
}
