//! What devices and call sites are called.

use crate::{devices::Devices, objects::Objects, site::Symbols};

/// What names are made of.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Devices.
    pub devices: &'a Devices,
    /// Objects and call sites.
    pub objects: &'a Objects,
    /// Names of call sites.
    pub symbols: &'a Symbols,
}
