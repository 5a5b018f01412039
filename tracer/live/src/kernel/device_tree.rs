//! Which nodes of the device tree are coherent. Most devices' coherence is only seen when they map; this is what the
//! firmware says beforehand.

use super::root::Root;
use bouncescope_capture::facts::DeviceTree;

const TREE: &str = "proc/device-tree";
/// Levels that are looked at: real trees have fewer than ten.
const DEEPEST: usize = 32;

/// The running machine's; `None` without one.
pub fn read(root: &Root) -> Option<DeviceTree> {
    if !root.path(TREE).is_dir() {
        return None;
    }
    let mut tree = DeviceTree::default();
    visit(root, "", DEEPEST, &mut tree);
    tree.coherent.sort();
    tree.non_coherent.sort();
    Some(tree)
}

fn visit(root: &Root, node: &str, levels: usize, tree: &mut DeviceTree) {
    let shown = || if node.is_empty() { "/".to_owned() } else { node.to_owned() };
    for name in root.names(&format!("{TREE}{node}")) {
        let path = format!("{node}/{name}");
        match name.as_str() {
            "dma-coherent" => tree.coherent.push(shown()),
            "dma-noncoherent" => tree.non_coherent.push(shown()),
            _ if levels > 0 && is_node(root, &path) => visit(root, &path, levels - 1, tree),
            _ => {}
        }
    }
}

/// Nodes are directories, properties are files. Links would lead in circles; sysfs has none here.
fn is_node(root: &Root, path: &str) -> bool {
    root.path(format!("{TREE}{path}")).symlink_metadata().is_ok_and(|found| found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::super::root::sample::SampleRoot;
    use super::*;

    #[test]
    fn nodes_with_either_property_are_named_by_path() {
        let sample = SampleRoot::new(&[
            ("proc/device-tree/model", "board"),
            ("proc/device-tree/soc/usb@7e980000/reg", ""),
            ("proc/device-tree/soc/pcie@10000000/dma-coherent", ""),
            ("proc/device-tree/soc/mmc@1/dma-noncoherent", ""),
        ]);
        let tree = read(&sample.root()).unwrap();
        assert_eq!(tree.coherent, ["/soc/pcie@10000000"]);
        assert_eq!(tree.non_coherent, ["/soc/mmc@1"]);
    }

    #[test]
    fn the_root_itself_may_be_coherent() {
        let sample = SampleRoot::new(&[("proc/device-tree/dma-coherent", "")]);
        assert_eq!(read(&sample.root()).unwrap().coherent, ["/"]);
    }

    #[test]
    fn a_machine_without_device_tree_has_none() {
        assert_eq!(read(&SampleRoot::new(&[]).root()), None);
    }
}
