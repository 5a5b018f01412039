//! Kernel modules: loading and unloading, by system call.

use std::{ffi::CString, fs, io, os::fd::AsRawFd, path::Path};

/// Loads the object in a file, with parameters as on `insmod`'s command line.
pub(crate) fn load(file: &Path, parameters: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("module {}: {error}", file.display());
    let object = fs::File::open(file).map_err(failed)?;
    let parameters = CString::new(parameters).unwrap_or_default();
    // SAFETY: the descriptor is open for the call, and the parameter string is NUL-terminated and outlives it.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, object.as_raw_fd(), parameters.as_ptr(), 0) };
    if result == 0 { Ok(()) } else { Err(failed(io::Error::last_os_error())) }
}

/// Modules that a workload loads, in their order.
pub(crate) const LATER: &str = "/modules/later";

/// Loads `dir/NAME` for every NAME in `dir/order`.
pub(crate) fn load_all(dir: &Path) -> Result<(), String> {
    let order =
        fs::read_to_string(dir.join("order")).map_err(|error| format!("cannot read the module order: {error}"))?;
    order.lines().try_for_each(|name| load(&dir.join(name), ""))
}

/// Unloads a module, which nothing may be using.
pub(crate) fn unload(name: &str) -> Result<(), String> {
    let text = CString::new(name).unwrap_or_default();
    // SAFETY: the name is NUL-terminated and outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_delete_module, text.as_ptr(), libc::O_NONBLOCK) };
    if result == 0 { Ok(()) } else { Err(format!("cannot unload {name}: {}", io::Error::last_os_error())) }
}
