//! Real messages, damaged ones, and what must be said of them.

use proptest::prelude::*;

use super::{Explanation, Kind};

/// The explanations alone.
fn explain(log: &str) -> Vec<Explanation> {
    super::explain(log).explanations
}

fn one(line: &str) -> Explanation {
    let mut found = explain(line);
    assert_eq!(found.len(), 1, "{line}: {found:#?}");
    found.remove(0)
}

fn means(explanation: &Explanation) -> String {
    explanation.means.join("\n")
}

fn helps(explanation: &Explanation) -> String {
    explanation.helps.join("\n")
}

#[test]
fn more_than_a_segment_never_fits_and_no_pool_is_proposed() {
    let said = one(
        "[ 52.1] spacemit-k1xvi c0230000.vi: swiotlb buffer is full (sz: 1048576 bytes), total 65536 (slots), used 498 (slots)",
    );
    assert_eq!((said.kind, said.device.as_deref(), said.size), (Kind::NeverFits, Some("c0230000.vi"), Some(1 << 20)));
    assert!(means(&said).contains("needs 512 slots, which would span 4 segments"), "{said:#?}");
    assert!(means(&said).contains("498 of 65536 slots were in use"), "{said:#?}");
    assert!(helps(&said).starts_with("No swiotlb= helps"), "{said:#?}");
}

#[test]
fn exactly_a_segment_may_fit() {
    let line = |size: u64| format!("swiotlb buffer is full (sz: {size} bytes), total 65536 (slots), used 498 (slots)");
    // 498 slots in use cannot be in the way in each of 512 segments.
    assert_eq!(one(&line(262_144)).kind, Kind::NoFit);
    assert_eq!(one(&line(262_145)).kind, Kind::NeverFits);
}

#[test]
fn a_full_pool_gets_one_that_would_have_done() {
    let said = one("mmc0: swiotlb buffer is full (sz: 65536 bytes), total 512 (slots), used 498 (slots)");
    assert_eq!((said.kind, said.device.as_deref()), (Kind::Full, Some("mmc0")));
    assert!(means(&said).contains("14 free, and this mapping needs 32 slots"), "{said:#?}");
    assert!(
        helps(&said).contains("swiotlb=1024 (2 MiB) on the command line (this moment needed 530 slots)"),
        "{said:#?}"
    );
}

#[test]
fn enough_free_slots_are_fragmentation_or_alignment() {
    let said = one("mmc0: swiotlb buffer is full (sz: 28672 bytes), total 512 (slots), used 498 (slots)");
    assert_eq!(said.kind, Kind::NotInOnePiece);
    assert!(means(&said).contains("14 of 512 slots were free"), "{said:#?}");
    assert!(means(&said).contains("fragmented"), "{said:#?}");
    // 32 slots for 64 KiB: four places in each of 256 segments.
    let sparse = one("mmc0: swiotlb buffer is full (sz: 65536 bytes), total 32768 (slots), used 4 (slots)");
    assert!(means(&sparse).contains("at least 1024 used slots"), "{sparse:#?}");
    let single = one("mmc0: swiotlb buffer is full (sz: 8 bytes), total 512 (slots), used 511 (slots)");
    assert!(means(&single).contains("One slot fits wherever one is free"), "{single:#?}");
}

#[test]
fn no_pool_says_why_where_the_log_does() {
    let line = "e1000 0000:00:03.0: swiotlb buffer is full (sz: 81 bytes), total 0 (slots), used 0 (slots)";
    assert_eq!(one(line).kind, Kind::NoPool);
    let log = format!("Kernel command line: root=/dev/vda swiotlb=noforce\n{line}\n");
    assert!(means(&one(&log)).contains("this kernel was booted with swiotlb=noforce"));
}

#[test]
fn the_length_in_the_message_means_what_the_release_says() {
    let line = "x 1-1: swiotlb buffer is full (sz: 4096 bytes), total 512 (slots), used 511 (slots)";
    let of = |release: &str| means(&one(&format!("[    0.0] Linux version {release} (x@y)\n{line}")));
    assert!(of("6.12.107+deb13-arm64").contains("the driver mapped 4096 bytes or fewer"));
    assert!(of("6.6.50-android15").contains("as the caller rounded it"));
    assert!(!means(&one(line)).contains("On this kernel"));
}

#[test]
fn a_message_without_how_full_is_explained_as_far_as_it_goes() {
    assert_eq!(one("ehci 0:1: swiotlb buffer is full (sz: 4096 bytes)").kind, Kind::FullUnknown);
    assert!(means(&one("ehci 0:1: swiotlb buffer is full (sz: 4194304 bytes)")).contains("can never bounce"));
}

#[test]
fn an_overflow_within_reach_is_a_small_buffer_without_a_pool() {
    let said = one("[    2.0] usb 1-1: DMA addr 0x0000000041234568+8 overflow (mask ffffffffffffffff, bus limit 0).");
    assert_eq!((said.kind, said.size), (Kind::UnalignedWithoutPool, Some(8)));
    assert!(means(&said).contains("misleads"), "{said:#?}");
    assert!(means(&said).contains("32, 64, 128, 256 bytes"), "{said:#?}");
    // 129 to 192 bytes bounce with lines of 128 and 256 alone.
    let longer = one("usb 1-1: DMA addr 0x0000000041234568+136 overflow (mask ffffffff, bus limit 0).");
    assert!(means(&longer).contains("lines of 128, 256 bytes"), "{longer:#?}");
}

#[test]
fn an_overflow_out_of_reach_names_what_limits() {
    let mask = one("x 1:1: DMA addr 0x0000000a1c8f9a60+8 overflow (mask ffffffff, bus limit 0).");
    assert_eq!(mask.kind, Kind::OutOfReach);
    assert!(means(&mask).contains("ends at 0xa1c8f9a67, and the device's DMA mask ends at 0xffffffff"), "{mask:#?}");
    let bus = one("x 1:1: DMA addr 0x0000000040000000+4096 overflow (mask ffffffff, bus limit 3fffffff).");
    assert!(means(&bus).contains("the bus that the device is on (dma-ranges) ends at 0x3fffffff"), "{bus:#?}");
    let last_byte = one("x 1:1: DMA addr 0x00000000fffffff8+9 overflow (mask ffffffff, bus limit 0).");
    assert_eq!(last_byte.kind, Kind::OutOfReach);
    let first_out = one("x 1:1: DMA addr 0x00000000fffffff8+8 overflow (mask ffffffff, bus limit 0).");
    assert_eq!(first_out.kind, Kind::UnalignedWithoutPool);
    let nowhere = one("x 1:1: DMA addr 0xffffffffffffffff+8 overflow (mask ffffffffffffffff, bus limit 0).");
    assert!(means(&nowhere).contains("no DMA address at all"), "{nowhere:#?}");
}

#[test]
fn a_long_buffer_within_reach_is_not_called_a_small_one() {
    let said = one("x 1:1: DMA addr 0x0000000040000000+4096 overflow (mask ffffffff, bus limit 0).");
    assert_eq!(said.kind, Kind::OutOfReach);
    assert!(means(&said).contains("do not bounce for kmalloc's alignment either"), "{said:#?}");
}

#[test]
fn a_pool_out_of_reach_is_not_helped_by_its_size() {
    let said = one("virtio_gpu v0: swiotlb addr 0x00000000fb5a4000+4096 overflow (mask 3fffffff, bus limit 0).");
    assert_eq!(said.kind, Kind::PoolOutOfReach);
    assert!(means(&said).contains("Its size does not matter"));
}

#[test]
fn boot_lines_are_put_into_slots() {
    let log = "\
[    0.000000] software IO TLB: SWIOTLB bounce buffer size adjusted to 1MB
[    0.000000] software IO TLB: area num 2.
[    0.000000] software IO TLB: SWIOTLB bounce buffer size roundup to 2MB
[    0.000000] software IO TLB: mapped [mem 0x00000000bfa04000-0x00000000bfc04000] (2MB)
[    0.000000] software IO TLB: SWIOTLB bounce buffer size adjusted 32768 -> 512 slabs
[    0.000000] software IO TLB: Reserved memory: created restricted DMA pool at 0x0000000050000000, size 4 MiB
";
    let kinds: Vec<Kind> = explain(log).iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [Kind::Resized, Kind::Areas, Kind::Resized, Kind::Pool, Kind::Resized, Kind::RestrictedPool]);
    let pool = one(log.lines().nth(3).unwrap());
    assert!(means(&pool).starts_with("The pool: 1024 slots of 2 KiB (2 MiB), below 4 GiB"), "{pool:#?}");
    assert!(means(&one(log.lines().nth(4).unwrap())).contains("512 slots (1 MiB)"));
    assert!(means(&one(log.lines().nth(5).unwrap())).contains("of 2048 slots"));
}

#[test]
fn a_pool_above_4_gib_is_reached_through_a_bus_with_an_offset() {
    let said = one("software IO TLB: mapped [mem 0x0000000880000000-0x0000000884000000] (64MB)");
    assert!(means(&said).contains("not wholly below 4 GiB") && means(&said).contains("dma-ranges"), "{said:#?}");
}

#[test]
fn what_was_not_made_is_told_from_other_lines_of_the_same_functions() {
    let failed = "software IO TLB: swiotlb_memblock_alloc: Failed to allocate 67108864 bytes tlb structure";
    assert_eq!(one(failed).kind, Kind::PoolNotMade);
    assert_eq!(explain("software IO TLB: swiotlb_something: fine"), []);
    let missing = "x 1:1: Can not allocate SWIOTLB buffer earlier and can't now provide you with the DMA bounce buffer";
    assert_eq!(one(missing).kind, Kind::NoPool);
}

#[test]
fn a_pool_that_nobody_wanted_is_not_a_lack_of_memory() {
    let line = "[    0.000000] software IO TLB: No low mem";
    assert!(means(&one(line)).contains("no contiguous low memory") && means(&one(line)).contains("swiotlb=noforce"));
    let log = format!("[    0.000000] Kernel command line: console=ttyS0 swiotlb=noforce\n{line}\n");
    assert!(means(&one(&log)).contains("memory was not looked for"));
}

#[test]
fn messages_from_behind_an_iommu_are_known() {
    let inactive = one("nvme 0000:01:00.0: DMA bounce buffers are inactive, unable to map unaligned transaction.");
    assert_eq!((inactive.kind, inactive.device.as_deref()), (Kind::IommuWithoutPool, Some("0000:01:00.0")));
    let tables = one("arm-smmu-v3 9050000.smmuv3: Cannot accommodate DMA translation for IOMMU page tables");
    assert_eq!(tables.kind, Kind::IommuTables);
    assert_eq!(one("nvme 0000:01:00.0: Unsupported alignment constraint").kind, Kind::IommuGranule);
}

#[test]
fn the_taint_of_long_lines_names_the_device() {
    let said = one("[    0.032446] uart-pl011 9000000.pl011: ARCH_DMA_MINALIGN smaller than CTR_EL0.CWG (128 < 256)");
    assert_eq!((said.kind, said.device.as_deref()), (Kind::LongLines, Some("9000000.pl011")));
    assert!(means(&said).contains("Lengths of 256 bytes and more"));
}

#[test]
fn lines_alike_are_counted_and_others_are_not_mixed_up() {
    let full = |device: &str, size: u64, used: u64| {
        format!("x {device}: swiotlb buffer is full (sz: {size} bytes), total 512 (slots), used {used} (slots)\n")
    };
    let log = full("a", 8, 512) + "nothing\n" + &full("a", 8, 512) + &full("b", 8, 512) + &full("a", 4096, 511);
    let found: Vec<_> = explain(&log).into_iter().map(|one| (one.device.unwrap(), one.line, one.times)).collect();
    assert_eq!(found, [("a".to_owned(), 1, 2), ("b".to_owned(), 4, 1), ("a".to_owned(), 5, 1)]);
}

#[test]
fn damaged_and_unknown_lines_are_passed_over() {
    for line in [
        "",
        "[    1.0] nvme 0000:01:00.0: 4/0/0 default/read/poll queues",
        "x a: DMA addr 0x41234568+8 overflow (mask ffff",
        "x a: DMA addr 41234568 overflow",
        "software IO TLB: mapped [mem 0x10-0x08] (0MB)",
        "software IO TLB: mapped [mem 0x00000000bfa04000-",
        "software IO TLB: area num",
        "x a: ARCH_DMA_MINALIGN smaller than CTR_EL0.CWG (128",
    ] {
        assert_eq!(explain(line), [], "{line}");
    }
}

#[test]
fn a_phrase_without_figures_gets_the_general_answer_and_what_to_paste() {
    for line in [
        "swiotlb buffer is full",
        "x a: swiotlb buffer is full (sz: 1048",
        "x a: swiotlb buffer is full (sz: 99999999999999999999 bytes), total 512 (slots), used 1 (slots)",
        "x a: swiotlb buffer is full (sz: 8 bytes), total 51",
        "x a: swiotlb buffer is full (sz: 8 bytes), total 512 (slots), used 1",
    ] {
        let said = one(line);
        assert_eq!((said.kind, said.helps.len()), (Kind::FullUnknown, 0), "{said:#?}");
        assert!(said.unknown[0].contains("Paste the whole line"), "{said:#?}");
    }
}

#[test]
fn absurd_numbers_are_answered() {
    let max = u64::MAX;
    for line in [
        format!("swiotlb buffer is full (sz: {max} bytes), total {max} (slots), used {max} (slots)"),
        format!("swiotlb buffer is full (sz: 8 bytes), total {max} (slots), used {max} (slots)"),
        format!("swiotlb buffer is full (sz: 8 bytes), total {max} (slots), used 0 (slots)"),
        format!("swiotlb buffer is full (sz: 0 bytes), total 1 (slots), used {max} (slots)"),
        format!("DMA addr {max:#x}+{max} overflow (mask 0, bus limit 0)"),
        format!("DMA addr 0x1+0 overflow (mask {max:x}, bus limit {max:x})"),
        "DMA addr 0x0+0 overflow (mask 0, bus limit 0)".to_owned(),
        format!("software IO TLB: mapped [mem 0x0-{max:#x}] (1MB)"),
        format!("software IO TLB: area num {max}"),
        format!("ARCH_DMA_MINALIGN smaller than CTR_EL0.CWG ({max} < {max})"),
    ] {
        assert_eq!(explain(&line).len(), 1, "{line}");
    }
}

proptest! {
    #[test]
    fn any_text_is_explained_without_panic(
        text in "((swiotlb buffer is full \\(sz: |DMA addr |swiotlb addr |software IO TLB: (mapped \\[mem |area num )?| bytes\\), total |\
                 \\+[0-9]{1,20} overflow \\(mask |[0-9a-fx]{1,20}|, bus limit |\\(slots\\)|, used |[ -~é]{0,8}|\n)){0,24}"
    ) {
        explain(&text);
    }
}
