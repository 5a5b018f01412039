//! What sysfs and the device tree tell of a device, for kernels without BTF: there the programs can read nothing of a device
//! but its name.

use std::path::{Path, PathBuf};

use super::root::Root;
use bouncescope_capture::facts::Device;

/// Fills in bus, driver, coherence and IOMMU of a device of which only the name is known. Its DMA masks stay unknown.
///
/// A name that several buses have, or none, is left as it is: not coherent, as devices on arm64 are unless firmware says
/// otherwise (`of_dma_is_coherent()`, `drivers/of/address.c`).
pub fn complete(root: &Root, device: &mut Device, page_size: u32) {
    let Some((bus, dir)) = find(root, &device.name) else { return };
    device.bus = bus;
    device.driver = target_name(&dir.join("driver")).unwrap_or_default();
    device.coherent = of_node(&dir).is_some_and(|node| is_coherent(&node));
    device.iommu_granule = maps_through_iommu(&dir).then_some(u64::from(page_size));
}

/// The bus and the directory of the only device of that name.
fn find(root: &Root, name: &str) -> Option<(String, PathBuf)> {
    let on_bus = |bus: String| {
        let dir = root.path(format!("sys/bus/{bus}/devices/{name}")).canonicalize().ok()?;
        Some((bus, dir))
    };
    let mut found = root.names("sys/bus").filter_map(on_bus);
    found.next().filter(|_| found.next().is_none())
}

/// The device tree's node of the device, or of the nearest one above it: a PCI device is described by its host bridge
/// (`pci_dma_configure()`, `drivers/pci/pci-driver.c`).
fn of_node(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().find_map(|above| above.join("of_node").canonicalize().ok())
}

/// `of_dma_is_coherent()`: the nearest node that says anything.
fn is_coherent(node: &Path) -> bool {
    let says = |above: &Path| {
        if above.join("dma-coherent").exists() {
            return Some(true);
        }
        above.join("dma-noncoherent").exists().then_some(false)
    };
    node.ancestors().find_map(says).unwrap_or(false)
}

/// Whether it has an IOMMU domain of the DMA API's (`iommu_group_show_type()`, `drivers/iommu/iommu.c`).
fn maps_through_iommu(dir: &Path) -> bool {
    let kind = std::fs::read_to_string(dir.join("iommu_group/type")).unwrap_or_default();
    matches!(kind.trim(), "DMA" | "DMA-FQ")
}

fn target_name(link: &Path) -> Option<String> {
    Some(link.canonicalize().ok()?.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::root::sample::SampleRoot;

    /// A PCI device below a host bridge that has a node in the device tree with these properties, or its root has.
    fn completed(properties: &[&str]) -> Device {
        let sample = SampleRoot::new(&[
            ("sys/devices/platform/pcie/pci0000:00/0000:00:01.0/vendor", "x"),
            ("sys/devices/platform/pcie/pci0000:00/0000:00:01.0/iommu_group/type", "DMA-FQ\n"),
            ("sys/bus/pci/drivers/nvme/bind", ""),
            ("sys/bus/pci/devices/.keep", ""),
            ("sys/firmware/devicetree/base/pcie/reg", ""),
        ]);
        for property in properties {
            sample.write(&format!("sys/firmware/devicetree/base/{property}"), b"");
        }
        let root = sample.root();
        let link = |to: &str, from: &str| std::os::unix::fs::symlink(root.path(to), root.path(from)).unwrap();
        let dir = "sys/devices/platform/pcie/pci0000:00/0000:00:01.0";
        link(dir, "sys/bus/pci/devices/0000:00:01.0");
        link("sys/bus/pci/drivers/nvme", &format!("{dir}/driver"));
        link("sys/firmware/devicetree/base/pcie", "sys/devices/platform/pcie/of_node");
        let mut device = Device { name: "0000:00:01.0".into(), ..Device::default() };
        complete(&root, &mut device, 4096);
        device
    }

    #[test]
    fn a_pci_device_is_as_coherent_as_its_bridge() {
        assert!(completed(&["pcie/dma-coherent"]).coherent);
        assert!(!completed(&[]).coherent);
    }

    #[test]
    fn the_nearest_word_counts() {
        assert!(completed(&["dma-coherent"]).coherent);
        assert!(!completed(&["dma-coherent", "pcie/dma-noncoherent"]).coherent);
    }

    #[test]
    fn bus_driver_and_iommu_come_from_sysfs() {
        let device = completed(&[]);
        assert_eq!((device.bus.as_str(), device.driver.as_str(), device.iommu_granule), ("pci", "nvme", Some(4096)));
    }

    #[test]
    fn a_device_that_is_not_there_is_left_as_it_is() {
        let mut device = Device { name: "gone".into(), coherent: true, ..Device::default() };
        complete(&SampleRoot::new(&[("sys/bus/pci/devices/.keep", "")]).root(), &mut device, 4096);
        assert!(device.coherent && device.bus.is_empty());
    }
}
