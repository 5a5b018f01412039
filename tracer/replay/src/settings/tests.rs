//! Policies met with captured kernels.

use super::*;
use bouncescope_capture::facts::{PoolFacts, RestrictedPool};
use bouncescope_model::policy::{PoolSize, builtin};

fn kernel() -> KernelFacts {
    KernelFacts {
        page_size: 4096,
        possible_cpus: 2,
        cache_line_size: 64,
        dma_minalign: 128,
        kmalloc_minalign: 8,
        bounce_unaligned_kmalloc: true,
        pool: PoolFacts { slots: 512, areas: 2, ..PoolFacts::default() },
        ..KernelFacts::default()
    }
}

fn under(policy: &str, kernel: &KernelFacts, change: &WhatIf) -> Settings {
    Settings::what_if(kernel, &builtin(policy).unwrap(), change)
}

#[test]
fn without_a_pool_mainline_builds_its_caches_at_the_line_size() {
    let none = WhatIf { pool: Some(PoolChoice::None), ..WhatIf::default() };
    let settings = under("mainline", &kernel(), &none);
    assert_eq!((settings.slots, settings.decider.minalign), (0, 64));
}

#[test]
fn each_policy_has_its_caches() {
    let minalign = |policy| under(policy, &kernel(), &WhatIf::default()).decider.minalign;
    assert_eq!(["legacy", "dynamic", "packed", "mainline", "exact"].map(minalign), [128, 64, 128, 8, 8]);
}

#[test]
fn legacy_never_bounces_for_alignment() {
    let settings = under("legacy", &kernel(), &WhatIf::default());
    assert_eq!((settings.decider.bounce_unaligned, settings.rule.look), (0, Look::Never));
}

#[test]
fn mainline_on_a_kernel_that_had_no_pool_starts_at_8() {
    let mut kernel = kernel();
    kernel.pool.slots = 0;
    kernel.kmalloc_minalign = 64;
    let change = WhatIf { pool: Some(PoolChoice::Slots(1)), ..WhatIf::default() };
    let settings = under("mainline", &kernel, &change);
    assert_eq!((settings.slots, settings.areas, settings.decider.minalign), (256, 2, 8));
}

#[test]
fn packed_call_sites_have_smaller_caches() {
    let change = WhatIf { packed_sites: Arc::new(HashSet::from([7])), ..WhatIf::default() };
    let settings = under("packed", &kernel(), &change);
    assert_eq!((settings.caches(7).minalign, settings.caches(8).minalign), (8, 128));
}

#[test]
fn the_last_word_on_a_device_counts() {
    let change = |name: &str, coherent| Override { name: name.into(), coherent, ..Override::default() };
    let devices = vec![change("*", Some(true)), change("a", Some(false)), change("a", None)];
    let settings = Settings { devices, ..Settings::captured(&kernel()) };
    let coherent = |name: &str| {
        let device = Device { name: name.into(), ..Device::default() };
        settings.device(&device, DeviceTraits::default()).0.coherent
    };
    assert_eq!((coherent("a"), coherent("b")), (false, true));
}

#[test]
fn a_device_with_a_pool_of_its_own_bounces_everything() {
    let own_pool = Some(PoolSize(512));
    let devices = vec![Override { name: "a".into(), own_pool, ..Override::default() }];
    let settings = Settings { devices, ..Settings::captured(&kernel()) };
    let device = Device { name: "a".into(), ..Device::default() };
    let (traits, own_pool) = settings.device(&device, DeviceTraits::default());
    assert_eq!((traits.force_bounce, own_pool.map(|pool| pool.slots)), (true, Some(512)));
}

#[test]
fn devices_with_a_pool_of_their_own_share_the_only_restricted_one() {
    let restricted = |name: &str| RestrictedPool { name: name.into(), slots: 512, used_at_start: 3 };
    let own_pool = |pools: Vec<RestrictedPool>, device: Device| {
        let mut kernel = kernel();
        kernel.pool.restricted = pools;
        Settings::captured(&kernel).device(&device, DeviceTraits::default()).1
    };
    let device = Device { own_pool: true, ..Device::default() };
    let shared = OwnPool { slots: 512, used_at_start: 3, captured: Some(0) };
    assert_eq!(own_pool(vec![restricted("a")], device.clone()), Some(shared));
    assert_eq!(own_pool(vec![restricted("a")], Device::default()), None);
    assert_eq!(own_pool(vec![restricted("a"), restricted("b")], device.clone()), None, "nothing tells which");
    let of_b = Device { restricted_pool: Some("b".into()), ..device };
    let second = OwnPool { captured: Some(1), ..shared };
    assert_eq!(own_pool(vec![restricted("a"), restricted("b")], of_b), Some(second));
}

#[test]
fn a_kernel_without_pool_keeps_the_caches_that_it_found_at_boot() {
    let kernel = KernelFacts {
        cache_line_size: 128,
        kmalloc_minalign: 64,
        bounce_unaligned_kmalloc: true,
        pool: PoolFacts::default(),
        ..kernel()
    };
    let minalign =
        |name: &str, change: &WhatIf| Settings::what_if(&kernel, &builtin(name).unwrap(), change).decider.minalign;
    assert_eq!(["mainline", "dynamic"].map(|name| minalign(name, &WhatIf::default())), [64, 64]);
    let longer = WhatIf { cache_line_size: Some(256), ..WhatIf::default() };
    assert_eq!(minalign("mainline", &longer), 256, "another line size is another machine");
}

#[test]
fn a_line_size_that_firmware_tells_comes_after_the_caches_were_built() {
    let kernel = KernelFacts { cpu_line_size: Some(64), ..kernel() };
    let none = WhatIf { pool: Some(PoolChoice::None), cache_line_size: Some(128), ..WhatIf::default() };
    let of = |settings: Settings| (settings.decider.minalign, settings.caches_may_be_smaller);
    assert_eq!(of(under("mainline", &kernel, &none)), (64, false));
    assert_eq!(of(under("mainline", &kernel, &WhatIf { minalign: Some(128), ..none.clone() })), (128, false));
    assert_eq!(under("dynamic", &kernel, &none).decider.minalign, 128, "as of a CPU that says so itself");
    // Firmware has told the captured kernel, too.
    let kernel = KernelFacts { cache_line_size: 128, ..kernel };
    let none = WhatIf { cache_line_size: None, ..none };
    assert_eq!(of(under("mainline", &kernel, &none)), (64, false));
    assert_eq!(under("dynamic", &kernel, &none).decider.minalign, 64);
}

#[test]
fn without_the_cpus_own_line_size_caches_may_be_smaller_than_another_line_size() {
    let may_be = |pool, line, policy: &str| {
        let change = WhatIf { pool: Some(pool), cache_line_size: Some(line), ..WhatIf::default() };
        under(policy, &kernel(), &change).caches_may_be_smaller
    };
    assert!(may_be(PoolChoice::None, 128, "mainline"));
    assert!(!may_be(PoolChoice::None, 64, "mainline") && !may_be(PoolChoice::None, 32, "mainline"));
    assert!(!may_be(PoolChoice::Slots(512), 128, "mainline"), "caches begin at 8 beside a pool");
    assert!(!may_be(PoolChoice::None, 128, "legacy"));
}

#[test]
fn what_is_short_or_begins_off_a_line_is_measured_by_either_constant() {
    let rule = |name| under(name, &kernel(), &WhatIf::default()).rule;
    let either = |multiple_of| ResolvedRule { look: Look::ShortOrStart { below: 256, multiple_of }, below: u64::MAX };
    assert_eq!(["short-or-start", "short-or-start-minalign"].map(rule), [either(64), either(128)]);
    assert_eq!(under("short-or-start", &kernel(), &WhatIf::default()).looks_at(), Streamed::Written);
}

#[test]
fn a_minimum_alignment_leaves_policies_alone_whose_caches_are_a_part_of_them() {
    let change = WhatIf { minalign: Some(16), ..WhatIf::default() };
    let minalign = |name: &str| Settings::what_if(&kernel(), &builtin(name).unwrap(), &change).decider.minalign;
    assert_eq!(["mainline", "dynamic", "legacy"].map(minalign), [16, 64, 128]);
}

#[test]
fn a_device_behind_an_iommu_gets_no_pool_of_its_own() {
    let devices = vec![Override { name: "a".into(), own_pool: Some(PoolSize(512)), ..Override::default() }];
    let settings = Settings { devices, ..Settings::captured(&kernel()) };
    let device = Device { name: "a".into(), ..Device::default() };
    let traits = DeviceTraits { iommu_granule: Some(4096), ..DeviceTraits::default() };
    let (traits, own_pool) = settings.device(&device, traits);
    assert_eq!((traits.force_bounce, own_pool), (false, None));
}

#[test]
fn objects_of_96_bytes_are_aligned_since_6_11() {
    let of = |release: &str| divisor_alignment(&KernelFacts { release: release.into(), ..KernelFacts::default() });
    assert_eq!(["6.1.192-arm64", "6.10.0", "6.12.107", "7.3.4"].map(of), [false, false, true, true]);
}

#[test]
fn what_changes_whole_devices_looks_at_every_mapping() {
    let devices = |change: Override| WhatIf { devices: vec![change], ..WhatIf::default() };
    let looks_at = |change: &WhatIf| under("mainline", &kernel(), change).looks_at();
    assert_eq!(looks_at(&WhatIf::default()), Streamed::Small);
    let coherent = Override { name: "*".into(), coherent: Some(true), ..Override::default() };
    assert_eq!(looks_at(&devices(coherent.clone())), Streamed::Small);
    assert_eq!(looks_at(&devices(Override { coherent: Some(false), ..coherent.clone() })), Streamed::All);
    assert_eq!(looks_at(&devices(Override { untrusted: Some(true), ..coherent })), Streamed::All);
    assert_eq!(looks_at(&WhatIf { pool: Some(PoolChoice::Restricted(64)), ..WhatIf::default() }), Streamed::All);
}
