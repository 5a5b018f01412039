//! Names of devices, their drivers, modules and rows, as people read them.

use bouncescope_capture::plain::shortened;
use bouncescope_replay::outcome::{ListCallerRow, Tally};

/// Rows of devices, or of drivers, that are shown to people; programs get all.
pub(crate) const SHOWN: usize = 64;
/// Characters of a name that are shown; the kernel's own are shorter.
const LONGEST: usize = 64;
/// Of a call site, which Rust's and C++'s mangled names make long.
const LONGEST_SITE: usize = 128;

/// A name, shortened.
pub(crate) fn name(name: &str) -> String {
    shortened(name, LONGEST).into_owned()
}

/// A device with its driver.
pub(crate) fn device(name: &str, driver: &str, coherent: bool) -> String {
    let coherent = if coherent { ", coherent" } else { "" };
    format!("{} ({}{coherent})", shortened(name, LONGEST), shortened(self::driver(driver), LONGEST))
}

/// How many rows there are behind those that are shown; empty where there are none.
pub(crate) fn more(rows: usize, what: &str) -> String {
    match rows.checked_sub(SHOWN) {
        Some(more) if more > 0 => format!("  … and {more} more {what}: --json has all\n"),
        _ => String::new(),
    }
}

/// What the kernel did, among policies.
pub(crate) const OBSERVED: &str = "(kernel did)";

/// A call site's module, where it has one.
pub(crate) fn module(module: &str) -> String {
    if module.is_empty() { String::new() } else { format!(" [{}]", shortened(module, LONGEST)) }
}

/// A call site with its module.
pub(crate) fn call_site(call_site: &str, module: &str) -> String {
    format!("{}{}", shortened(call_site, LONGEST_SITE), self::module(module))
}

/// Who mapped scatterlists, with the module.
pub(crate) fn list_caller(row: &ListCallerRow) -> String {
    if row.caller.is_empty() { "not recorded".to_owned() } else { call_site(&row.caller, &row.module) }
}

/// Hazards with a foreign object, unknown ones, and those with the rest of the buffer's own object, in this order.
pub(crate) fn hazards(tally: &Tally) -> String {
    format!("{} + {} + {}", tally.hazards_foreign, tally.hazards_unknown, tally.hazards_own)
}

/// A device's driver, in words where there is none.
pub fn driver(driver: &str) -> &str {
    if driver.is_empty() { "no driver" } else { driver }
}
