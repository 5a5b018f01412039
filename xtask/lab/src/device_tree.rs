//! Edits of a device tree in source form: what firmware says of coherence and of cache lines. Pure.

/// Without any `dma-coherent`, and how many there were.
pub(super) fn without_coherence(source: &str) -> (String, usize) {
    let mut removed = 0;
    let kept = source.lines().filter(|line| {
        let coherent = line.trim() == "dma-coherent;";
        removed += usize::from(coherent);
        !coherent
    });
    let text = kept.flat_map(|line| [line, "\n"]).collect();
    (text, removed)
}

/// With caches of lines of `line` bytes for each CPU, which the kernel then believes rather than `CTR_EL0`
/// (`cache_line_size()`, `arch/arm64/kernel/cacheinfo.c`), and how many CPUs there are.
pub(super) fn with_cache_lines(source: &str, line: u32) -> (String, usize) {
    let (mut text, mut cpus) = (String::new(), 0);
    for source_line in source.lines() {
        let node = source_line.trim();
        let cpu = node.starts_with("cpu@") && node.ends_with('{');
        if cpu && cpus == 0 {
            text += &format!(
                "lab_l2: l2-cache {{ compatible = \"cache\"; cache-level = <2>; cache-unified; cache-size = <0x100000>; \
                 cache-line-size = <{line}>; cache-sets = <{}>; }};\n",
                0x10_0000 / (16 * line)
            );
        }
        text += source_line;
        text.push('\n');
        if cpu {
            cpus += 1;
            for kind in ["d", "i"] {
                text += &format!(
                    "{kind}-cache-size = <0x8000>; {kind}-cache-line-size = <{line}>; {kind}-cache-sets = <{}>;\n",
                    0x8000 / (4 * line)
                );
            }
            text += "next-level-cache = <&lab_l2>;\n";
        }
    }
    (text, cpus)
}

/// Where the xHCI is that has a pool for itself.
pub(super) const XHCI_SLOT: u32 = 0x10;

/// With a pool of 4 MiB that PCI devices bounce everything through (`restricted-dma-pool`), and whether there was a host
/// bridge to give it to. A second pool, of 2 MiB, is the xHCI's own.
pub(super) fn with_restricted_pools(source: &str, pools: u32) -> (String, bool) {
    let (second, xhci) = if pools > 1 {
        let pool = "xhci_pool: xhci-pool@70800000 { compatible = \"restricted-dma-pool\"; reg = <0 0x70800000 0 0x200000>; };\n";
        // A PCI device's node is found by its device and function (`of_pci_find_child_device()`, `drivers/pci/of.c`).
        let devfn = XHCI_SLOT << 11;
        let node = format!("usb@{XHCI_SLOT:x},0 {{ reg = <{devfn:#x} 0 0 0 0>; memory-region = <&xhci_pool>; }};\n");
        (pool, node)
    } else {
        ("", String::new())
    };
    let (mut text, mut given, mut in_bridge) = (String::new(), false, false);
    for line in source.lines() {
        let node = line.trim();
        if in_bridge && node == "};" {
            text += &xhci;
            in_bridge = false;
        }
        let bridge = node.starts_with("pcie@") && node.ends_with('{');
        if bridge && !given {
            // Far from where QEMU puts kernel, initramfs and device tree; before the bridge, since a node's own properties come
            // first in its source.
            text += "reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges;\n\
                     lab_pool: lab-pool@70000000 { compatible = \"restricted-dma-pool\"; reg = <0 0x70000000 0 0x400000>; };\n";
            text += second;
            text += "};\n";
        }
        text += line;
        text.push('\n');
        if bridge {
            text += "memory-region = <&lab_pool>;\n";
            in_bridge = !given;
            given = true;
        }
    }
    (text, given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_reserved_and_given_to_the_host_bridge() {
        let (text, given) = with_restricted_pools("/ {\n\tpcie@10000000 {\n\t};\n};\n", 1);
        assert!(given);
        let bridge = text.split_once("pcie@10000000 {").unwrap().1;
        assert!(bridge.starts_with("\nmemory-region = <&lab_pool>;"), "{text}");
        assert!(text.starts_with("/ {\nreserved-memory {"), "{text}");
        assert!(!with_restricted_pools("/ {\n};\n", 1).1);
    }

    #[test]
    fn a_second_pool_is_the_xhcis_behind_the_properties_of_its_bridge() {
        let (text, _) = with_restricted_pools("/ {\n\tpcie@10000000 {\n\t\treg = <1>;\n\t};\n};\n", 2);
        let bridge = text.split_once("pcie@10000000 {").unwrap().1;
        assert!(
            bridge.contains("reg = <1>;\nusb@10,0 { reg = <0x8000 0 0 0 0>; memory-region = <&xhci_pool>; };\n\t};"),
            "{text}"
        );
        assert_eq!(text.matches("restricted-dma-pool").count(), 2);
    }

    #[test]
    fn every_dma_coherent_is_removed_and_nothing_else() {
        let source = "/ {\n\tdma-coherent;\n\tpcie {\n\t\tdma-coherent;\n\t\tdma-ranges = <1>;\n\t\tdma-noncoherent;\n\t};\n};\n";
        let (text, removed) = without_coherence(source);
        assert_eq!(removed, 2);
        assert_eq!(text, "/ {\n\tpcie {\n\t\tdma-ranges = <1>;\n\t\tdma-noncoherent;\n\t};\n};\n");
    }

    #[test]
    fn each_cpu_gets_caches_and_all_share_the_second_level() {
        let source = "cpus {\n\tcpu-map {\n\t};\n\tcpu@0 {\n\t\treg = <0>;\n\t};\n\tcpu@1 {\n\t};\n};\n";
        let (text, cpus) = with_cache_lines(source, 128);
        assert_eq!(cpus, 2);
        let count = |what: &str| text.matches(what).count();
        assert_eq!((count("lab_l2: l2-cache {"), count("next-level-cache = <&lab_l2>;")), (1, 2));
        assert_eq!((count("d-cache-line-size = <128>;"), count("i-cache-line-size = <128>;")), (2, 2));
        assert_eq!(count(" cache-line-size = <128>;"), 1);
        assert!(text.find("lab_l2:") < text.find("cpu@0"));
    }
}
