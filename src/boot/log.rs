//! What is said at boot: into the kernel's log, which outlives it.

use std::{
    fs::File,
    io::{self, Write as _},
};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open, unlink};

use crate::input::say;

/// `PRINTKRB_RECORD_MAX` (`kernel/printk/internal.h`): the kernel takes no longer record.
const LONGEST: usize = 1024;

/// Where a node for the log is made for a moment while there is no /dev/kmsg: before devtmpfs is mounted.
const NODES: [&str; 3] = ["/dev/bouncescope-kmsg", "/run/bouncescope-kmsg", "/bouncescope-kmsg"];

/// The kernel's log, to write a record at a time into; an error where it cannot be had.
pub(super) fn kernel_log() -> io::Result<File> {
    let write = |path: &str| open(path, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty());
    let log = write("/dev/kmsg").or_else(|error| {
        let made = |path: &&str| {
            // `devlist` in `drivers/char/mem.c`.
            mknodat(CWD, *path, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, makedev(1, 11)).is_ok()
        };
        let path = NODES.into_iter().find(|path| made(path)).ok_or(error)?;
        let log = write(path);
        unlink(path).ok();
        log
    })?;
    Ok(log.into())
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
