//! What the library reads of the running kernel, held against that kernel. Needs Linux, root, BTF, tracefs and debugfs:
//! ignored unless asked for, with `cargo test -p bouncescope-live --test live_kernel -- --ignored`.
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{IoSlice, Write};

use bouncescope_live::kernel::btf::{Btf, Kind};
use bouncescope_live::kernel::event_count::EventCount;
use bouncescope_live::kernel::events::{self, Tracefs};
use bouncescope_live::kernel::facts;
use bouncescope_live::kernel::layout;
use bouncescope_live::kernel::pool::{self, PoolCounters};
use bouncescope_live::kernel::privilege::Privilege;
use bouncescope_live::kernel::root::Root;
use bouncescope_live::kernel::slab::KmallocCaches;
use bouncescope_live::kernel::slab_fill::SlabFill;
use bouncescope_live::kernel::symbols::Symbols;
use tracer_ebpf::config::NONE;

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn btf_of_this_kernel_gives_every_offset_the_programs_need() {
    let btf = Btf::of_running_kernel().unwrap();
    assert!(btf.type_count() > 10_000, "{} types", btf.type_count());
    let symbols = Symbols::read(&Root::default()).unwrap();
    let (config, mut missing) = layout::resolve(&btf, std::env::consts::ARCH, |name| symbols.address_of(name));
    // Data, which kallsyms has only with CONFIG_KALLSYMS_ALL; needed before 6.12 alone.
    missing.retain(|unresolved| unresolved.field != "the address of iommu_dma_ops");
    assert_eq!(missing, [], "{config:#?}");
    // Facts of C that no kernel can change.
    assert_eq!((config.device.kobj_name, config.scatterlist.page_link), (0, 0));
    assert!(config.scatterlist.size >= 32 && config.scatterlist.dma_address >= 16);
    let device = btf.structure_size("device").unwrap() as u32;
    let inside = [config.device.driver, config.device.bus, config.device.dma_mask, config.device.pool];
    assert!(inside.iter().all(|&offset| offset != NONE && offset < device), "{inside:?} in {device}");
}

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn parameters_of_a_function_are_those_of_its_source() {
    let btf = Btf::of_running_kernel().unwrap();
    let function = btf.function("dma_map_sg_attrs").unwrap();
    let parameters: Vec<_> = function.parameters.iter().map(|p| (p.name.as_str(), p.pointer)).collect();
    assert_eq!(parameters, [("dev", true), ("sg", true), ("nents", false), ("dir", false), ("attrs", false)]);
    assert_eq!(btf.enum_value("dma_data_direction", "DMA_FROM_DEVICE"), Some(2));
    assert!(btf.find(Kind::Struct, "scatterlist").next().is_some());
}

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn facts_agree_with_what_uname_and_getconf_say() {
    let btf = Btf::of_running_kernel().unwrap();
    let (facts, notes) = facts::read(&Root::default(), Some(&btf));
    assert_eq!(facts.release, output("uname", &["-r"]));
    assert_eq!(facts.version, output("uname", &["-v"]));
    assert_eq!(facts.machine, output("uname", &["-m"]));
    assert_eq!(facts.page_size.to_string(), output("getconf", &["PAGESIZE"]));
    assert_eq!(facts.possible_cpus.to_string(), output("getconf", &["_NPROCESSORS_CONF"]));
    assert!(facts.memory > 64 << 20 && facts.cache_line_size >= 32, "{facts:#?}");
    assert!(facts.kmalloc_minalign.is_power_of_two(), "{facts:#?}");
    assert!(!facts.config.is_empty() || notes.iter().any(|note| note.contains("configuration")), "{notes:?}");
    println!("{facts:#?}\n{notes:#?}");
}

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn the_linear_map_is_known_exactly_where_kcore_can_be_read() {
    let btf = Btf::of_running_kernel().unwrap();
    let (facts, notes) = facts::read(&Root::default(), Some(&btf));
    let readable = File::open("/proc/kcore").is_ok();
    assert_eq!(facts.linear_map.is_some(), readable, "{notes:?}");
    assert_eq!(notes.iter().any(|note| note.contains("origins of mappings can't be told")), !readable, "{notes:?}");
    if let Some(map) = facts.linear_map {
        // A distance of whole pages, and a virtual address of the kernel's half.
        let page = u64::from(facts.page_size);
        assert_eq!(map.virt_base.wrapping_sub(map.phys_base) % page, 0, "{map:x?}");
        assert!(map.virt_base > 1 << 63 && map.phys_base < 1 << 52, "{map:x?}");
    }
    // 64 on most kernels; debugging and accounting options add to it.
    assert!((32..=128).contains(&facts.struct_page_size), "{}", facts.struct_page_size);
}

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn the_caches_of_slabinfo_are_those_of_sysfs() {
    let root = Root::default();
    let sample = SlabFill::open(&root, false).unwrap().sample(1, false).unwrap();
    let caches = KmallocCaches::read(&root).unwrap();
    for size in &caches.sizes {
        let name = if *size >= 1024 { format!("kmalloc-{}k", size / 1024) } else { format!("kmalloc-{size}") };
        let cache = sample.caches.iter().find(|cache| cache.name == name).unwrap_or_else(|| panic!("no {name}"));
        assert!(cache.size >= *size && cache.objects >= cache.active_objects, "{cache:?}");
        assert_eq!(cache.objects, cache.slabs * u64::from(cache.objects_per_slab), "{cache:?}");
    }
}

/// What a program prints, without the line end.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn pool_counters_can_be_sampled_exactly_when_there_is_a_pool() {
    let root = Root::default();
    let btf = Btf::of_running_kernel().unwrap();
    let (facts, _) = facts::read(&root, Some(&btf));
    let keeps = pool::keeps_hiwater(&root, Some(&btf), &facts.cmdline, |_| false);
    let sample = PoolCounters::new(&root, keeps).sample(1).unwrap();
    assert_eq!(sample.is_some(), facts.pool.slots > 0, "{sample:?}");
    assert!(!keeps || facts.pool.slots > 0, "no pool, no high-water mark");
}

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn symbols_are_found_by_name_and_by_address() {
    let symbols = Symbols::read(&Root::default()).unwrap();
    symbols.check_addresses().unwrap();
    let kfree = symbols.address_of("kfree").unwrap();
    assert_eq!(symbols.resolve(kfree + 4).unwrap().name, "kfree+0x4");
    assert!(symbols.exists("dma_map_sg_attrs") && !symbols.exists("no_such_function_at_all"));
}

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn tracefs_and_btf_agree_on_which_events_there_are() {
    let tracefs = Tracefs::find(&Root::default()).expect(Tracefs::REMEDY);
    let btf = Btf::of_running_kernel().unwrap();
    for (group, name) in [
        ("kmem", "kmalloc"),
        ("kmem", "kmalloc_node"),
        ("dma", "dma_map_page"),
        ("dma", "dma_map_phys"),
        ("dma", "dma_map_sg"),
        ("swiotlb", "swiotlb_bounced"),
    ] {
        let here = events::has_event(Some(&tracefs), None, group, name);
        assert_eq!(here, events::has_event(None, Some(&btf), group, name), "{group}:{name}");
    }
    assert!(tracefs.has_event("kmem", "kmalloc"));
}

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn root_may_trace() {
    assert_eq!(Privilege::read(&Root::default()).advice(), None);
}

/// `writev` of more than 8 pieces makes the kernel kmalloc a copy of the list (`iovec_from_user()` in `lib/iov_iter.c`).
#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn tracefs_counts_every_event_though_its_buffer_overflows() {
    const WRITES: u64 = 50_000;
    let tracefs = Tracefs::find(&Root::default()).expect(Tracefs::REMEDY);
    let mut null = File::options().write(true).open("/dev/null").unwrap();
    let count = EventCount::start(&tracefs, "kmem", "kmalloc").unwrap();
    let began = std::time::Instant::now();
    for _ in 0..WRITES {
        let written = null.write_vectored(&[IoSlice::new(b"x"); 9]).unwrap();
        assert_eq!(written, 9);
    }
    let hits = count.stop().unwrap();
    println!("{hits} events in {:?}", began.elapsed());
    assert!(hits >= WRITES, "{hits} of at least {WRITES}");
}

#[test]
#[ignore = "needs root, BTF, tracefs and debugfs: cargo test --test live_kernel -- --ignored"]
fn a_count_without_events_is_zero_and_leaves_no_instance() {
    let tracefs = Tracefs::find(&Root::default()).expect(Tracefs::REMEDY);
    let ours = || {
        let prefix = format!("bouncescope-{}-", std::process::id());
        let entries = std::fs::read_dir(tracefs.dir().join("instances")).unwrap().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).count()
    };
    // Nothing bounces while this runs: the machines that test this have no pool, or coherent devices only.
    let count = EventCount::start(&tracefs, "swiotlb", "swiotlb_bounced").unwrap();
    assert_eq!(count.hits().unwrap(), 0);
    assert!(ours() >= 1);
    drop(count);
    // The other test of this process may have one of its own at the same time, never two.
    assert!(ours() <= 1);
}
