//! The kernel's build configuration, as far as bouncing and tracing depend on it.

use std::collections::BTreeMap;
use std::io::Read;

use super::root::Root;

/// Options that are kept, without `CONFIG_`.
const KEPT: &[&str] = &[
    "ARCH_DMA_DEFAULT_COHERENT",
    "ARCH_HAS_DMA_PREP_COHERENT",
    "ARM64_16K_PAGES",
    "ARM64_4K_PAGES",
    "ARM64_64K_PAGES",
    "ARM64_MTE",
    "ARM64_VA_BITS",
    "BPF_JIT",
    "BPF_SYSCALL",
    "DEBUG_INFO_BTF",
    "DMA_API_DEBUG",
    "DMA_BOUNCE_UNALIGNED_KMALLOC",
    "DMA_RESTRICTED_POOL",
    "FTRACE",
    "FUNCTION_TRACER",
    "IOMMU_DEFAULT_DMA_LAZY",
    "IOMMU_DEFAULT_DMA_STRICT",
    "IOMMU_DEFAULT_PASSTHROUGH",
    "IOMMU_DMA",
    "KASAN_HW_TAGS",
    "KASAN_SW_TAGS",
    "KPROBES",
    "NEED_SG_DMA_FLAGS",
    "NEED_SG_DMA_LENGTH",
    "NR_CPUS",
    "PREEMPT",
    "PREEMPT_RT",
    "RANDOM_KMALLOC_CACHES",
    "SLAB",
    "SLUB",
    "SLUB_DEBUG_ON",
    "SLUB_TINY",
    "SWIOTLB",
    "SWIOTLB_DEFAULT_SIZE_MB",
    "SWIOTLB_DYNAMIC",
    "SWIOTLB_XEN",
    "ZONE_DMA",
    "ZONE_DMA32",
];

/// Longest configuration that is read, bytes: real ones have some 300,000.
const MAX_LEN: u64 = 16 << 20;

/// The kept options that are set, by full name, from the first place that has the running kernel's configuration:
/// `/proc/config.gz`, `/boot/config-RELEASE`, `/lib/modules/RELEASE/config`. `None` when there is none.
///
/// An option that is absent from the result is off.
pub fn read(root: &Root, release: &str) -> Option<BTreeMap<String, String>> {
    let packed = std::fs::File::open(root.path("proc/config.gz"))
        .ok()
        .and_then(|file| text(flate2::read::MultiGzDecoder::new(file)));
    let plain = || {
        let places = [
            format!("boot/config-{release}"),
            format!("lib/modules/{release}/config"),
            format!("usr/lib/modules/{release}/config"),
        ];
        places.iter().find_map(|place| text(std::fs::File::open(root.path(place)).ok()?))
    };
    packed.or_else(plain).map(|text| parse(&text))
}

fn text(from: impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    from.take(MAX_LEN).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The kept options of a `.config`.
fn parse(text: &str) -> BTreeMap<String, String> {
    let set = text.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='));
    set.filter(|(name, _)| KEPT.binary_search(name).is_ok())
        .map(|(name, value)| (format!("CONFIG_{name}"), value.trim().trim_matches('"').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::root::sample::SampleRoot;
    use super::*;

    const TEXT: &str = "#\n# Automatically generated file; DO NOT EDIT.\n#\nCONFIG_SWIOTLB=y\n# CONFIG_SWIOTLB_DYNAMIC is not \
                        set\nCONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC=y\nCONFIG_ARM64_VA_BITS=48\nCONFIG_USB=m\n";

    #[test]
    fn the_kept_options_are_sorted_for_the_search() {
        assert!(KEPT.is_sorted());
    }

    #[test]
    fn set_options_are_kept_and_unset_and_unrelated_ones_are_not() {
        let config = parse(TEXT);
        assert_eq!(config["CONFIG_SWIOTLB"], "y");
        assert_eq!(config["CONFIG_ARM64_VA_BITS"], "48");
        assert!(!config.contains_key("CONFIG_SWIOTLB_DYNAMIC"));
        assert!(!config.contains_key("CONFIG_USB"));
    }

    #[test]
    fn a_packed_configuration_is_unpacked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(TEXT.as_bytes()).unwrap();
        let sample = SampleRoot::new(&[("boot/config-6.12", "CONFIG_SLUB=y\n")]);
        sample.write("proc/config.gz", &packed.finish().unwrap());
        let config = read(&sample.root(), "6.12").unwrap();
        assert_eq!(config["CONFIG_DMA_BOUNCE_UNALIGNED_KMALLOC"], "y");
        assert!(!config.contains_key("CONFIG_SLUB"), "the running kernel's own comes first");
    }

    #[test]
    fn a_damaged_packed_configuration_gives_way_to_the_plain_one() {
        let sample = SampleRoot::new(&[("boot/config-6.12", TEXT), ("proc/config.gz", "\u{1f}nonsense")]);
        assert_eq!(read(&sample.root(), "6.12").unwrap()["CONFIG_SWIOTLB"], "y");
    }

    #[test]
    fn the_configuration_may_lie_with_the_modules() {
        let sample = SampleRoot::new(&[("usr/lib/modules/7.3/config", TEXT)]);
        assert!(read(&sample.root(), "7.3").is_some());
        assert!(read(&sample.root(), "7.4").is_none());
    }
}
