//! `usb-rescan N`: makes the USB disk tell its size N times: READ CAPACITY, an 8-byte answer into a buffer of its own.

use super::fact;
use crate::sysfs;

pub(super) fn run(count: u64) -> Result<(), String> {
    let disk = sysfs::entries("/sys/block")
        .into_iter()
        .find(|path| path.canonicalize().is_ok_and(|real| real.to_string_lossy().contains("/usb")))
        .ok_or("no USB disk")?;
    for _ in 0..count {
        sysfs::write(disk.join("device/rescan"), "1")?;
    }
    fact("rescans", count);
    Ok(())
}
