//! Recording from boot: what this program does as process 1, and as the recorder that it leaves behind.
//!
//! Process 1 starts the recorder, waits until its hooks are attached, and becomes the real init, whatever happens to the
//! recorder. The capture is in the recorder's own memory until `record --finish` fetches it.

mod init;
mod log;
mod parameters;
mod recorder;

use std::{fs, os::unix::fs::MetadataExt as _};

use crate::record::RECORDER;

/// `PROC_PID_INIT_INO` (`include/linux/proc_ns.h`): the first of all namespaces of processes.
const FIRST_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Takes over where the kernel started this program as its init, or where it is the recorder; else returns at once. It also returns where
/// no init could be executed.
pub(crate) fn take_over() {
    if std::env::args_os().next().is_some_and(|name| name == RECORDER) {
        recorder::run();
    }
    if std::process::id() == 1 && is_first_namespace() {
        init::run();
    }
}

/// Process 1 of a container is not the kernel's init. Containers have a /proc; when the kernel starts its init, there may be none.
fn is_first_namespace() -> bool {
    fs::metadata("/proc/self/ns/pid").map_or(true, |namespace| namespace.ino() == FIRST_NAMESPACE)
}
