//! The lab's module: the kernel's own truth table, made while it is loaded and brought out as `NAME.truth`, of which nothing
//! here knows what is in it; and what else it does when it is loaded.

use std::{fs, path::Path};

use crate::module;

const OBJECT: &str = "/lab/bounce_truth.ko";
const MODULE: &str = "bounce_truth";

/// Loads the module, and leaves it loaded.
pub(crate) fn load(parameters: &[String]) -> Result<(), String> {
    module::load(Path::new(OBJECT), &parameters.join(" "))
}

/// Loads the module for what it then does, and unloads it.
pub(crate) fn run(parameters: &str) -> Result<(), String> {
    module::load(Path::new(OBJECT), parameters)?;
    module::unload(MODULE)
}

/// Loads the module for what it then does, and leaves it loaded, so that the kernel has names for its functions when a recording ends.
pub(crate) fn run_and_stay(parameters: &str) -> Result<(), String> {
    if Path::new("/sys/module").join(MODULE).exists() {
        module::unload(MODULE)?;
    }
    module::load(Path::new(OBJECT), parameters)
}

/// Makes one table; the words are the module's parameters.
pub(crate) fn make(name: &str, parameters: &[String], share: &Path) -> Result<(), String> {
    load(parameters)?;
    let table = fs::read(format!("/proc/{MODULE}")).map_err(|error| format!("cannot read the table: {error}"))?;
    module::unload(MODULE)?;
    let file = share.join(format!("{name}.truth"));
    fs::write(&file, table).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
