//! How far the running machine's devices reach: memory from `/proc/iomem` or the device tree, windows from dma-ranges, masks and
//! IOMMUs from sysfs, pools from the kernel's log and from reserved-memory.
//!
//! Windows as `of_dma_get_range()` and `of_dma_configure_id()` find them (`drivers/of/address.c`, `drivers/of/device.c`, 6.12). What ACPI says of
//! buses (`_DMA`, IORT) is not read here.

use std::path::{Component, Path, PathBuf};

use bouncescope_capture::reach::{PoolPlace, Reach, ReachingDevice, Span, Window};

use super::pool;
use super::root::Root;

const TREE: &str = "proc/device-tree";
/// Devices, ranges and levels that are looked at; real machines have fewer.
const MOST_DEVICES: usize = 4096;
const MOST_RANGES: usize = 256;
const DEEPEST: usize = 32;

/// The running machine's.
pub fn read(root: &Root) -> Reach {
    let mut notes = Vec::new();
    let memory = memory(root, &mut notes);
    let (default, restricted) = (pool::place(root), restricted_pools(root));
    if default.is_none() {
        notes.push(
            "where the default pool lies: the kernel's log (/dev/kmsg) does not have its line any more, is not readable, or there is no pool".to_owned(),
        );
    }
    let pools = default
        .map(|place| PoolPlace { name: "default".to_owned(), place })
        .into_iter()
        .chain(restricted.iter().map(|(_, pool)| pool.clone()))
        .collect();
    if !root.path(TREE).is_dir() {
        notes.push(
            "windows of buses: there is no device tree, and what ACPI says of them (_DMA, IORT) is not read".to_owned(),
        );
    }
    let mut devices: Vec<ReachingDevice> =
        ["pci", "platform"].iter().flat_map(|bus| devices_of(root, bus, &restricted)).collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    Reach { memory, pools, is_pool_known: default.is_some(), devices, notes }
}

/// System RAM; without privilege the kernel shows zeros, and the device tree's memory nodes stand in.
fn memory(root: &Root, notes: &mut Vec<String>) -> Vec<Span> {
    let listed: Vec<Span> =
        root.text("proc/iomem").unwrap_or_default().lines().filter_map(ram).take(MOST_RANGES).collect();
    if !listed.is_empty() {
        return joined(listed);
    }
    let mut found = Vec::new();
    for name in root.names(TREE).filter(|name| name == "memory" || name.starts_with("memory@")) {
        found.extend(regions(root, &format!("/{name}"), ""));
    }
    notes.push(if found.is_empty() {
        "memory: /proc/iomem shows its addresses to root alone".to_owned()
    } else {
        "memory is that of the device tree, since /proc/iomem shows its addresses to root alone: what the kernel took away is in it".to_owned()
    });
    joined(found)
}

/// `40000000-7fffffff : System RAM`, not one within another.
fn ram(line: &str) -> Option<Span> {
    let (range, what) = line.split_once(" : ")?;
    if what.trim() != "System RAM" || range.starts_with(' ') {
        return None;
    }
    let (start, last) = range.split_once('-')?;
    let (start, last) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(last.trim(), 16).ok()?);
    (last > start).then(|| Span { start, end: last.saturating_add(1) })
}

/// In order, neighbours as one.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort();
    let mut all: Vec<Span> = Vec::new();
    for span in spans {
        match all.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => all.push(span),
        }
    }
    all
}

/// Restricted pools by the `phandle` of their node.
fn restricted_pools(root: &Root) -> Vec<(u32, PoolPlace)> {
    let mut found = Vec::new();
    for name in root.names(&format!("{TREE}/reserved-memory")) {
        let node = format!("/reserved-memory/{name}");
        let is_pool = property(root, &node, "compatible")
            .is_some_and(|value| value.split(|byte| *byte == 0).any(|one| one == b"restricted-dma-pool"));
        let handle = property(root, &node, "phandle").and_then(|value| cells(&value).first().copied());
        let place = regions(root, &node, "/reserved-memory").first().copied();
        if let (true, Some(handle), Some(place)) = (is_pool, handle, place) {
            found.push((handle, PoolPlace { name, place }));
        }
    }
    found
}

fn devices_of(root: &Root, bus: &str, restricted: &[(u32, PoolPlace)]) -> Vec<ReachingDevice> {
    let directory = format!("sys/bus/{bus}/devices");
    root.names(&directory)
        .take(MOST_DEVICES)
        .filter_map(|name| device(root, bus, &format!("{directory}/{name}"), name, restricted))
        .collect()
}

/// A device that is driven and may do DMA: on PCI every one; on the platform bus those with an IOMMU, with windows, or with a restricted pool. Others show
/// when they map.
fn device(
    root: &Root,
    bus: &str,
    directory: &str,
    name: String,
    restricted: &[(u32, PoolPlace)],
) -> Option<ReachingDevice> {
    let driver = std::fs::read_link(root.path(format!("{directory}/driver"))).ok()?;
    let driver = driver.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let bits = root.number(&format!("{directory}/dma_mask_bits"));
    let mask = bits.map(|bits| if bits >= 64 { u64::MAX } else { (1 << bits) - 1 });
    let kind = root.text(&format!("{directory}/iommu_group/type")).ok();
    let iommu = kind.is_some_and(|kind| kind.starts_with("DMA"));
    let own = node_of(root, directory);
    let windows = match (&own, bus) {
        (Some(node), "platform") => windows(root, parent(node)?),
        // The host bridge's node, which a parent of the device has.
        _ => host_bridge(root, directory).map(|node| windows(root, &node)).unwrap_or_default(),
    };
    let bus_limit =
        windows.iter().map(|window| window.bus.saturating_add(window.memory.size().saturating_sub(1))).max();
    let pool = pool_of(root, directory, own.as_deref(), restricted);
    let wanted = bus == "pci" || iommu || !windows.is_empty() || pool.is_some();
    wanted.then_some(ReachingDevice { name, driver, mask, bus_limit, windows, iommu, restricted: pool })
}

/// The name of the restricted pool that a device gets: the first that its node names, or where that names no memory at all, its host bridge's node
/// (`of_dma_set_restricted_buffer()`, `drivers/of/device.c`, 6.12).
fn pool_of(root: &Root, directory: &str, own: Option<&str>, restricted: &[(u32, PoolPlace)]) -> Option<String> {
    let regions = |node: &str| property(root, node, "memory-region").filter(|value| value.len() >= 4);
    let handles = own.and_then(regions).or_else(|| regions(&host_bridge(root, directory)?))?;
    let named = |handle: &u32| restricted.iter().find(|(of, _)| of == handle).map(|(_, pool)| pool.name.clone());
    cells(&handles).iter().find_map(named)
}

/// The name of the restricted pool that the device of this name gets, on the buses that firmware describes.
pub(crate) fn restricted_pool(root: &Root, bus: &str, name: &str) -> Option<String> {
    let directory = format!("sys/bus/{bus}/devices/{name}");
    let own = node_of(root, &directory);
    pool_of(root, &directory, own.as_deref(), &restricted_pools(root))
}

/// The node of a device, as a path in the device tree.
fn node_of(root: &Root, directory: &str) -> Option<String> {
    let link = std::fs::read_link(root.path(format!("{directory}/of_node"))).ok()?;
    let path = link.to_string_lossy().into_owned();
    // `…/firmware/devicetree/base/soc/usb@1`.
    path.split_once("devicetree/base").map(|(_, node)| node.to_owned())
}

/// The nearest ancestor's node that is no PCI device's.
fn host_bridge(root: &Root, directory: &str) -> Option<String> {
    let link = std::fs::read_link(root.path(directory)).ok()?;
    let beside = Path::new(directory).parent()?;
    let mut place = normal(&beside.join(link));
    for _ in 0..DEEPEST {
        let name = place.file_name()?.to_string_lossy().into_owned();
        let is_pci = name.starts_with("pci") || name.matches(':').count() == 2;
        let place_text = place.to_string_lossy().into_owned();
        if let (false, Some(node)) = (is_pci, node_of(root, &place_text)) {
            return Some(node);
        }
        place = place.parent()?.to_owned();
    }
    None
}

/// `a/b/../c` as `a/c`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::Normal(name) => out.push(name),
            _ => {}
        }
    }
    out
}

fn parent(node: &str) -> Option<&str> {
    node.rfind('/').map(|at| &node[..at])
}

/// `of_dma_get_range()`: from the bus upwards, the first dma-ranges that is not empty; a bus above another that has none ends the search.
fn windows(root: &Root, bus: &str) -> Vec<Window> {
    let mut node = bus;
    for level in 0..DEEPEST {
        match property(root, node, "dma-ranges") {
            Some(ranges) if !ranges.is_empty() => return parse(root, node, &ranges),
            None if level > 0 => return Vec::new(),
            _ => {}
        }
        match parent(node) {
            Some(above) => node = above,
            None => return Vec::new(),
        }
    }
    Vec::new()
}

/// Bus address, parent's address and size, each of as many cells as the nodes say; the parent's address goes through what is above.
fn parse(root: &Root, node: &str, ranges: &[u8]) -> Vec<Window> {
    let above = parent(node).unwrap_or_default();
    let (own, size, outer) = (
        cells_of(root, node, "#address-cells", 2),
        cells_of(root, node, "#size-cells", 1),
        cells_of(root, above, "#address-cells", 2),
    );
    let cells = cells(ranges);
    let entry = own + outer + size;
    cells
        .chunks_exact(entry.max(1))
        .take(MOST_RANGES)
        .filter_map(|entry| {
            let (bus, outside, size) =
                (number(&entry[..own]), number(&entry[own..own + outer]), number(&entry[own + outer..]));
            let start = translated(root, above, outside)?;
            Some(Window { memory: Span { start, end: start.checked_add(size)? }, bus })
        })
        .collect()
}

/// An address of a bus on the bus above, up to the root; a bus without dma-ranges, or with empty ones, translates nothing.
fn translated(root: &Root, bus: &str, address: u64) -> Option<u64> {
    let (mut node, mut address) = (bus, address);
    for _ in 0..DEEPEST {
        let Some(above) = parent(node) else { return Some(address) };
        if let Some(ranges) = property(root, node, "dma-ranges").filter(|ranges| !ranges.is_empty()) {
            let (own, size, outer) = (
                cells_of(root, node, "#address-cells", 2),
                cells_of(root, node, "#size-cells", 1),
                cells_of(root, above, "#address-cells", 2),
            );
            let all = cells(&ranges);
            address = all.chunks_exact((own + outer + size).max(1)).find_map(|entry| {
                let (from, to, size) =
                    (number(&entry[..own]), number(&entry[own..own + outer]), number(&entry[own + outer..]));
                let offset = address.checked_sub(from).filter(|offset| *offset < size)?;
                to.checked_add(offset)
            })?;
        }
        node = above;
    }
    None
}

/// Address and size pairs of `reg`, by the cells of the parent.
fn regions(root: &Root, node: &str, above: &str) -> Vec<Span> {
    let (address, size) = (cells_of(root, above, "#address-cells", 2), cells_of(root, above, "#size-cells", 1));
    let all = property(root, node, "reg").map(|value| cells(&value)).unwrap_or_default();
    all.chunks_exact((address + size).max(1))
        .take(MOST_RANGES)
        .filter_map(|entry| {
            let (start, size) = (number(&entry[..address]), number(&entry[address..]));
            (size > 0).then_some(Span { start, end: start.checked_add(size)? })
        })
        .collect()
}

fn property(root: &Root, node: &str, name: &str) -> Option<Vec<u8>> {
    std::fs::read(root.path(format!("{TREE}{node}/{name}"))).ok()
}

fn cells_of(root: &Root, node: &str, name: &str, default: u32) -> usize {
    let said = property(root, node, name).and_then(|value| cells(&value).first().copied());
    // More than four cells has no bus.
    said.unwrap_or(default).min(4) as usize
}

fn cells(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|cell| u32::from_be_bytes([cell[0], cell[1], cell[2], cell[3]])).collect()
}

/// Cells as one number: the last two count, since PCI puts the kind of space into the first of three.
fn number(cells: &[u32]) -> u64 {
    cells.iter().rev().take(2).rev().fold(0, |number, cell| number << 32 | u64::from(*cell))
}

#[cfg(test)]
mod tests {
    use super::super::root::sample::SampleRoot;
    use super::*;

    fn be(cells: &[u32]) -> Vec<u8> {
        cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()
    }

    /// A board whose `PCIe` has its memory 16 GiB up, and whose other devices have an offset of 3 GiB and 1 GiB of reach.
    fn board() -> SampleRoot {
        let sample = SampleRoot::new(&[
            (
                "proc/iomem",
                "00000000-3b3fffff : System RAM\n  00210000-0143ffff : Kernel code\n40000000-fbffffff : System RAM\nfe000000-fe0fffff : soc\n",
            ),
            ("dev/kmsg", "6,1,0,-;software IO TLB: mapped [mem 0x0000000029000000-0x000000002d000000] (64MB)\n"),
            ("sys/devices/platform/scb/fd500000.pcie/x", ""),
            ("sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/dma_mask_bits", "32\n"),
            ("sys/devices/platform/soc/fe300000.mmc/x", ""),
            ("proc/device-tree/soc/mmc@7e300000/status", "okay"),
        ]);
        for (path, cells) in [
            ("scb/#address-cells", &[2][..]),
            ("scb/#size-cells", &[1]),
            ("#address-cells", &[2]),
            ("#size-cells", &[1]),
            ("scb/pcie@7d500000/#address-cells", &[3]),
            ("scb/pcie@7d500000/#size-cells", &[2]),
            ("scb/pcie@7d500000/dma-ranges", &[0x0200_0000, 4, 0, 0, 0, 1, 0]),
            ("soc/#address-cells", &[1]),
            ("soc/#size-cells", &[1]),
            ("soc/dma-ranges", &[0xc000_0000, 0, 0, 0x4000_0000]),
            ("soc/mmc@7e300000/memory-region", &[7]),
            ("reserved-memory/#address-cells", &[2]),
            ("reserved-memory/#size-cells", &[1]),
            ("reserved-memory/pool@20000000/reg", &[0, 0x2000_0000, 0x40_0000]),
            ("reserved-memory/pool@20000000/phandle", &[7]),
        ] {
            sample.write(&format!("proc/device-tree/{path}"), &be(cells));
        }
        sample.write("proc/device-tree/reserved-memory/pool@20000000/compatible", b"restricted-dma-pool\0");
        let link = |target: &str, at: &str| {
            let at = sample.root().path(at);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, at).unwrap();
        };
        link("../../../devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0", "sys/bus/pci/devices/0000:00:00.0");
        link("../../../devices/platform/soc/fe300000.mmc", "sys/bus/platform/devices/fe300000.mmc");
        link(
            "../../../../../../bus/pci/drivers/nvme",
            "sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/driver",
        );
        link("../../../../bus/platform/drivers/sdhci", "sys/devices/platform/soc/fe300000.mmc/driver");
        link(
            "../../../../firmware/devicetree/base/scb/pcie@7d500000",
            "sys/devices/platform/scb/fd500000.pcie/of_node",
        );
        link("../../../../firmware/devicetree/base/soc/mmc@7e300000", "sys/devices/platform/soc/fe300000.mmc/of_node");
        sample
    }

    #[test]
    fn memory_is_system_ram_and_the_pool_is_where_the_log_says() {
        let reach = read(&board().root());
        assert_eq!(reach.memory, [Span { start: 0, end: 0x3b40_0000 }, Span { start: 0x4000_0000, end: 0xfc00_0000 }]);
        assert_eq!(reach.pools[0].place, Span { start: 0x2900_0000, end: 0x2d00_0000 });
        assert_eq!((reach.pools[1].name.as_str(), reach.pools[1].place.size()), ("pool@20000000", 4 << 20));
    }

    #[test]
    fn windows_are_those_of_the_bus_that_a_device_is_on() {
        let reach = read(&board().root());
        let device = |name: &str| reach.devices.iter().find(|device| device.name == name).unwrap();
        let nvme = device("0000:00:00.0");
        assert_eq!(nvme.windows, [Window { memory: Span { start: 0, end: 1 << 32 }, bus: 4 << 32 }]);
        assert_eq!((nvme.driver.as_str(), nvme.mask, nvme.bus_limit), ("nvme", Some(0xffff_ffff), Some(0x4_ffff_ffff)));
        let mmc = device("fe300000.mmc");
        assert_eq!(mmc.windows, [Window { memory: Span { start: 0, end: 1 << 30 }, bus: 0xc000_0000 }]);
        assert_eq!((mmc.restricted.as_deref(), mmc.mask), (Some("pool@20000000"), None));
    }

    #[test]
    fn a_pci_device_has_the_pool_of_its_own_node_or_of_its_host_bridge() {
        let sample = board();
        let pool = |bus: &str, name: &str| restricted_pool(&sample.root(), bus, name);
        assert_eq!(pool("pci", "0000:00:00.0"), None);
        assert_eq!(pool("platform", "fe300000.mmc").as_deref(), Some("pool@20000000"));
        sample.write("proc/device-tree/scb/pcie@7d500000/memory-region", &be(&[7]));
        assert_eq!(pool("pci", "0000:00:00.0").as_deref(), Some("pool@20000000"));
        for (path, cells) in [
            ("reserved-memory/nvme@30000000/reg", &[0, 0x3000_0000, 0x40_0000][..]),
            ("reserved-memory/nvme@30000000/phandle", &[9]),
            ("scb/pcie@7d500000/nvme@0,0/memory-region", &[9]),
        ] {
            sample.write(&format!("proc/device-tree/{path}"), &be(cells));
        }
        sample.write("proc/device-tree/reserved-memory/nvme@30000000/compatible", b"restricted-dma-pool\0");
        let at = "sys/devices/platform/scb/fd500000.pcie/pci0000:00/0000:00:00.0/of_node";
        let node = "../../../../../../firmware/devicetree/base/scb/pcie@7d500000/nvme@0,0";
        std::os::unix::fs::symlink(node, sample.root().path(at)).unwrap();
        assert_eq!(pool("pci", "0000:00:00.0").as_deref(), Some("nvme@30000000"));
    }

    #[test]
    fn without_privilege_memory_is_that_of_the_device_tree() {
        let sample = SampleRoot::new(&[("proc/iomem", "00000000-00000000 : System RAM\n")]);
        sample.write("proc/device-tree/memory@40000000/reg", &be(&[0, 0x4000_0000, 0x2000_0000]));
        let reach = read(&sample.root());
        assert_eq!(reach.memory, [Span { start: 0x4000_0000, end: 0x6000_0000 }]);
        assert!(reach.notes.iter().any(|note| note.contains("device tree, since /proc/iomem")), "{:?}", reach.notes);
    }

    #[test]
    fn a_machine_that_shows_nothing_has_notes_alone() {
        let reach = read(&SampleRoot::new(&[]).root());
        assert!(reach.memory.is_empty() && reach.devices.is_empty() && reach.notes.len() == 3, "{reach:?}");
    }

    #[test]
    fn damaged_properties_give_no_windows() {
        let sample = SampleRoot::new(&[]);
        sample.write("proc/device-tree/soc/dma-ranges", &[1, 2, 3]);
        sample.write("proc/device-tree/soc/#address-cells", &be(&[u32::MAX]));
        assert_eq!(windows(&sample.root(), "/soc"), []);
    }
}
