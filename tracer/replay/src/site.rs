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
    /// Of no call site: coherent memory in a restricted pool.
    pub(crate) const COHERENT: Self = Self(u32::MAX);
}

/// In place of a call site's address: the buffer lies in pages that are no slab.
pub(crate) const PAGES: u64 = 1;
/// In place of its module.
pub(crate) const NO_SLAB: &str = "no slab";

/// What coherent memory in a restricted pool is called, in place of a call site.
pub(crate) const COHERENT_MEMORY: &str = "coherent memory";

/// Whether this is the address of a call site, and not what stands in place of one.
pub(crate) const fn is_code(address: u64) -> bool {
    address != PAGES && !Memory::is_cache(address)
}

/// Names of call sites, by address.
pub type Symbols = HashMap<u64, Symbol>;

/// What a buffer's call site is called, and its module; or the memory that stands in place of one.
pub(crate) fn origin(address: u64, symbols: &Symbols) -> (String, String) {
    if address == PAGES {
        return ("pages".to_owned(), NO_SLAB.to_owned());
    }
    if Memory::is_cache(address) {
        let name = symbols.get(&address).map_or_else(|| format!("cache {address}"), |symbol| symbol.name.clone());
        return (name, Symbol::SLAB_CACHE.to_owned());
    }
    named(address, symbols)
}

/// What an address in the kernel's code is called, and the module; the address where it has no name, nothing for 0.
pub(crate) fn named(address: u64, symbols: &Symbols) -> (String, String) {
    match symbols.get(&address) {
        Some(symbol) => (symbol.name.clone(), symbol.module.clone()),
        None if address == 0 => Default::default(),
        None => (format!("{address:#x}"), String::new()),
    }
}
