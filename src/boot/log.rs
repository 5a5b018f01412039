//! What is said at boot: into the kernel's log, which outlives it.

use std::{
    fs::File,
    io::{self, Write as _},
};

use rustix::fs::{Mode, OFlags, open};

use crate::input::say;

/// `PRINTKRB_RECORD_MAX` (`kernel/printk/internal.h`): the kernel takes no longer record.
const LONGEST: usize = 1024;

/// The kernel's log, to write a record at a time into; an error where there is none, such as without /dev.
pub(super) fn kernel_log() -> io::Result<File> {
    Ok(open("/dev/kmsg", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Says a line, on standard error where it cannot be logged.
pub(super) fn tell(line: &str) {
    let mut line = tracer::plain::plain(line).into_owned();
    line.truncate(line.floor_char_boundary(LONGEST - 64));
    let line = format!("bouncescope: {line}\n");
    if kernel_log().and_then(|mut log| log.write_all(line.as_bytes())).is_err() {
        say(&line);
    }
}
