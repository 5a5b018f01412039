//! Numbers of the call sites of kmalloc in a stream, and their names.

use bouncescope_capture::event::Memory;
use bouncescope_capture::facts::Symbol;
use hashbrown::HashMap;

/// A call site of kmalloc: index in order of appearance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

impl SiteId {
    /// Not known.
    pub const UNKNOWN: Self = Self(0);
}

/// In place of a call site's address: the buffer lies in pages that are no slab.
pub(crate) const PAGES: u64 = 1;
/// In place of its module.
pub(crate) const NO_SLAB: &str = "no slab";

/// Whether this is the address of a call site, and not what stands in place of one.
pub(crate) const fn is_code(address: u64) -> bool {
    address != PAGES && !Memory::is_cache(address)
}

/// Names of call sites, by address.
pub type Symbols = HashMap<u64, Symbol>;

/// What an address in the kernel's code is called, and the module; the address where it has no name, nothing for 0. What stands in
/// place of one where only a buffer's memory is known is called what that is.
pub(crate) fn named(address: u64, symbols: &Symbols) -> (String, String) {
    match symbols.get(&address) {
        Some(symbol) => (symbol.name.clone(), symbol.module.clone()),
        None if address == 0 => Default::default(),
        None if address == PAGES => ("pages".to_owned(), NO_SLAB.to_owned()),
        None if Memory::is_cache(address) => (format!("cache {address}"), Symbol::SLAB_CACHE.to_owned()),
        None => (format!("{address:#x}"), String::new()),
    }
}
