//! Numbers of the call sites of kmalloc in a stream, and their names.

use bouncescope_capture::facts::Symbol;
use hashbrown::HashMap;

/// A call site of kmalloc: index in order of appearance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

impl SiteId {
    /// Not known.
    pub const UNKNOWN: Self = Self(0);
}

/// Names of call sites, by address.
pub type Symbols = HashMap<u64, Symbol>;

/// What an address in the kernel's code is called, and the module; the address where it has no name, nothing for 0.
pub(crate) fn named(address: u64, symbols: &Symbols) -> (String, String) {
    match symbols.get(&address) {
        Some(symbol) => (symbol.name.clone(), symbol.module.clone()),
        None if address == 0 => Default::default(),
        None => (format!("{address:#x}"), String::new()),
    }
}
