//! What a run's outcome needs besides the run.

use crate::{devices::Devices, objects::Objects, site::Symbols};
use bouncescope_capture::facts::PoolTimes;

/// What is known at the end of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Last<'a> {
    /// Devices.
    pub devices: &'a Devices,
    /// Objects and call sites.
    pub objects: &'a Objects,
    /// Names.
    pub symbols: &'a Symbols,
    /// How long the pool's functions took.
    pub pool_times: Option<&'a PoolTimes>,
    /// When it ends, ns.
    pub end_ns: u64,
    /// Time that the stream covers, ns.
    pub span_ns: u64,
    /// Mappings of devices whose description was lost.
    pub not_simulated: u64,
}
