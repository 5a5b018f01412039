//! What a run's outcome needs besides the run.

use crate::{maintenance::Spared, names::Names};
use bouncescope_capture::facts::PoolTimes;

/// What is known at the end of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Last<'a> {
    /// Devices and call sites.
    pub names: Names<'a>,
    /// How long the pool's functions took.
    pub pool_times: Option<&'a PoolTimes>,
    /// CPU time of cache maintenance, ns; `None` where it was not timed.
    pub cache_maintenance_ns: Option<u64>,
    /// The cache maintenance that the recorded kernel did not do, because it refused the mappings.
    pub(crate) spared: &'a Spared,
    /// When it begins, ns.
    pub start_ns: u64,
    /// When it ends, ns.
    pub end_ns: u64,
    /// Time that the stream covers, ns.
    pub span_ns: u64,
    /// Mappings of devices whose description was lost.
    pub not_simulated: u64,
}
