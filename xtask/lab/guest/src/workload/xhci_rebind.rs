//! `xhci-rebind N`: takes the xHCI from its driver and gives it back, N times; everything behind it goes and comes again.

use std::time::Duration;

use super::{fact, storage, wait_for_devices};
use crate::sysfs;

const DRIVER: &str = "/sys/bus/pci/drivers/xhci_hcd";

pub(super) fn run(count: u64) -> Result<(), String> {
    let controller = sysfs::entries(DRIVER)
        .iter()
        .map(|path| sysfs::name(path))
        .find(|name| name.contains(':'))
        .ok_or("no xHCI bound")?;
    for _ in 0..count {
        sysfs::write(format!("{DRIVER}/unbind"), &controller)?;
        sysfs::wait_for("the USB disk's end", Duration::from_mins(2), || {
            sysfs::entries("/sys/block").iter().all(|path| !sysfs::name(path).starts_with("sd")).then_some(())
        })?;
        sysfs::write(format!("{DRIVER}/bind"), &controller)?;
        wait_for_devices()?;
    }
    storage::wait_for_disks()?;
    fact("rebinds", count);
    Ok(())
}
