//! Files made to hurt: a small one that claims much, or becomes much. Whatever it is, every command ends soon, takes little memory,
//! and says what it left out, or in one line why it cannot go on.

#![cfg(target_os = "linux")]

#[path = "hostile/forge.rs"]
mod forge;
#[path = "hostile/measured.rs"]
mod measured;

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read as _},
};

use forge::{Events, Forged};
use measured::{Measured, bouncescope};

const RULES: &str = "[[rule]]\ndevice = \"*\"\nfigure = \"bounces-per-second\"\nmax = 1\n\
                     [[rule]]\nfigure = \"peak-percent\"\nmax = \"50 %\"\nwhat-if = { policy = \"mainline\" }\n";

/// Every command that takes a capture does what it does with this one; what they were. The file is small.
fn all_commands(capture: Vec<u8>) -> Vec<Measured> {
    assert!(capture.len() < 4 << 20, "{} bytes are no small file", capture.len());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("rules.toml"), RULES).unwrap();
    fs::write(dir.path().join("x.bounce"), capture).unwrap();
    let mut commands: Vec<&[&str]> = vec![
        &["stats", "x.bounce"],
        &["verify", "x.bounce"],
        &["replay", "x.bounce", "--policy", "all"],
        &["check", "rules.toml", "x.bounce"],
        &["diff", "x.bounce", "x.bounce"],
        &["packed", "x.bounce"],
        &["doctor", "--capture", "x.bounce"],
        &["label", "x.bounce"],
        &["convert", "x.bounce", "-o", "converted.bounce"],
        &["export", "x.bounce", "--format", "csv", "-o", "tables"],
        &["export", "x.bounce", "--format", "perfetto", "-o", "x.pftrace"],
        &["top", "x.bounce", "--picture", "x.txt"],
    ];
    if cfg!(feature = "report") {
        commands.push(&["report", "x.bounce", "-o", "x.html"]);
    }
    commands.into_iter().map(|arguments| bouncescope(dir.path(), arguments)).collect()
}

/// What `stats` says of a capture.
fn stats(capture: Vec<u8>) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.bounce"), capture).unwrap();
    let stats = bouncescope(dir.path(), &["stats", "x.bounce"]);
    assert_eq!(stats.code, Some(0), "{}", stats.err);
    stats.out
}

/// A name that sets a window's title, forges a line, turns the direction, hides in C1 and has no end.
const EVIL: &str = "evil\\u001b]0;owned\\u0007\\nFORGED row 0\\r\\u202etxt\\u009b31m";

/// A capture in which everything that has a name has an evil one.
fn evil_names() -> Vec<u8> {
    let hooks = ["map", "unmap", "bounced", "slot_map", "slot_unmap", "kmalloc", "kfree"]
        .map(|subject| format!(r#"{{"subject":"{subject}","place":"{EVIL}","attached":true,"programs":["{EVIL}"]}}"#));
    let start = format!(
        r#"{{"kernel":{{"release":"6.12{EVIL}","machine":"{EVIL}","version":"{EVIL}","cmdline":"{EVIL}","page_size":4096,
        "possible_cpus":1,"cache_line_size":64,"cache_line_source":"{EVIL}","dma_minalign":128,"kmalloc_minalign":8,
        "kmalloc_minalign_source":"{EVIL}","bounce_unaligned_kmalloc":true,"config":{{"{EVIL}":"{EVIL}"}},
        "pool":{{"slots":512,"areas":1,"restricted":[{{"name":"{EVIL}","slots":128}}]}},
        "linear_map":{{"virt_base":0,"phys_base":0}}}},"allocation_sample":1,"labels":{{"{EVIL}":"{EVIL}"}},"notes":["{EVIL}"],"recorder":"{EVIL}",
        "hooks":[{},{{"subject":"{EVIL}","place":"{EVIL}","why_not":"{EVIL}","lost_without":"{EVIL}"}}]}}"#,
        hooks.join(",")
    );
    let device = format!(r#"{{"id":0,"name":"{EVIL}","driver":"{EVIL}","bus":"{EVIL}"}}"#);
    let counters =
        format!(r#"{{"seen":{{"map":[9],"{EVIL}":[1]}},"lost":{{"{EVIL}":[3],"missed.{EVIL}":[3]}},"predicted":0}}"#);
    let caches = format!(r#"{{"caches":[{{"name":"{EVIL}","size":64,"objects_per_slab":64,"pages_per_slab":1}}]}}"#);
    let mut events = Events::default();
    for n in 0..20_u64 {
        events.event(1, n, 0, &[(26, 1), (28, n << 12), (30, 18), (31, 64), (32, 0)]);
        events.event(8, n, 0, &[(4, 0), (5, 0), (7, 18), (8, n << 12), (22, n << 11), (24, 0), (25, 0)]);
        events.event(3, n, 0, &map(n << 12, 18));
    }
    // One that differs from what the model says.
    events.event(3, 30, 0, &map(99 << 12, 18));
    Forged::empty()
        .frame(1, start.as_bytes())
        .frame(2, device.as_bytes())
        .frame(3, &events.payload())
        .frame(6, format!(r#"[{{"addr":1,"name":"{EVIL}","module":"{EVIL}"}}]"#).as_bytes())
        .frame(5, br#"[{"call_site":1,"bytes_req":18,"bytes_alloc":64,"count":20}]"#)
        .frame(7, counters.as_bytes())
        .frame(9, caches.as_bytes())
        .frame(8, format!(r#"{{"time_ns":50,"programs":[{{"name":"{EVIL}","run_cnt":1}}]}}"#).as_bytes())
        .bytes()
}

/// Whether a text, printed, is nothing but its lines, none of which began inside a name.
fn is_plain(text: &str) -> bool {
    let controls = |c: char| c != '\n' && tracer::plain::controls(c);
    !text.chars().any(controls) && !text.lines().any(|line| line.starts_with("FORGED"))
}

#[test]
fn names_that_control_a_terminal_are_only_names() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "evil\\u001b]0;owned\\u0007\\nFORGED\\u202e";
    let rules = format!(
        "[[rule]]\nname = \"{toml}\"\ndevice = \"*\"\nfigure = \"bounces\"\nmax = 1\n\
         [[rule]]\nname = \"{toml}\"\nfigure = \"peak-percent\"\nmax = \"1 %\"\nwhat-if = {{ policy = \"./p.toml\" }}\n"
    );
    let policy = format!(
        "name = \"{toml}\"\nabout = \"{toml}\"\ncaches = \"smallest\"\nbounce = \"kmalloc\"\n[[device]]\nname = \"{toml}\"\ncoherent = true\n"
    );
    fs::write(dir.path().join("rules.toml"), rules).unwrap();
    fs::write(dir.path().join("p.toml"), policy).unwrap();
    fs::write(dir.path().join("x.bounce"), evil_names()).unwrap();
    let commands: &[&[&str]] = &[
        &["stats", "x.bounce"],
        &["verify", "x.bounce"],
        &["replay", "x.bounce", "--advise"],
        &["replay", "x.bounce", "--policy", "p.toml,mainline"],
        &["replay", "x.bounce", "--csv"],
        &["replay", "x.bounce", "--json"],
        &["replay", "x.bounce", "--coherent", "nothing"],
        &["check", "rules.toml", "x.bounce", "--junit", "x.xml"],
        &["check", "rules.toml", "x.bounce", "--json"],
        &["diff", "x.bounce", "x.bounce"],
        &["diff", "x.bounce", "x.bounce", "--json", "--fail-if", "device *: mappings > 0"],
        &["packed", "x.bounce"],
        &["doctor", "--capture", "x.bounce"],
        &["doctor", "--capture", "x.bounce", "--json"],
        &["export", "x.bounce", "--format", "csv", "-o", "tables"],
        &["top", "x.bounce", "--picture", "x.txt"],
        &[
            "explain",
            "usb\u{1b}]0;owned\u{7} 1-1: swiotlb buffer is full (sz: 4096 bytes), total 512 (slots), used 0\u{202e} (slots)",
        ],
        &["explain", "none\u{1b}[31m"],
        &["stats", "gone\u{1b}]0;owned\u{7}\nFORGED"],
        &["check", "gone\u{1b}]0;owned\u{7}", "x.bounce"],
        &["replay", "--policy", "gone\u{1b}]0;owned\u{7}"],
        &["import", "gone\u{1b}]0;owned\u{7}"],
    ];
    for (n, arguments) in commands.iter().enumerate() {
        let said = bouncescope(dir.path(), arguments);
        let is_refused = arguments.contains(&"nothing") || n > 16;
        assert_eq!(said.code == Some(2), is_refused, "{arguments:?}: {}", said.err);
        assert!(is_plain(&said.out) && is_plain(&said.err), "{arguments:?}: {:?} {:?}", said.out, said.err);
    }
    let mut written = vec!["x.txt".into(), "x.xml".into()];
    written.extend(fs::read_dir(dir.path().join("tables")).unwrap().map(|entry| entry.unwrap().path()));
    if cfg!(feature = "report") {
        for file in ["x.html", "x.md"] {
            let arguments: &[&str] = if file == "x.md" {
                &["report", "x.bounce", "--md", "-o", file]
            } else {
                &["report", "x.bounce", "-o", file]
            };
            bouncescope(dir.path(), arguments);
            written.push(file.into());
        }
    }
    for file in written {
        let text = fs::read_to_string(dir.path().join(&file)).unwrap();
        assert!(is_plain(&text), "{}: {text:?}", file.display());
    }
}

#[test]
fn a_trace_whose_names_control_a_terminal_is_imported_without() {
    let dir = tempfile::tempdir().unwrap();
    let line = "    a-1 [000] 1.000001: dma_map_phys: e\u{1b}]0;owned\u{7}\u{202e} dir=FROM_DEVICE dma_addr=52000 size=18 phys_addr=52000 attrs=\n";
    fs::write(dir.path().join("x.txt"), line).unwrap();
    fs::write(dir.path().join("d.toml"), "[[device]]\nname = \"gone\"\n").unwrap();
    for arguments in [&["import", "x.txt", "-o", "x.bounce"][..], &["import", "x.txt", "--devices", "d.toml"]] {
        let said = bouncescope(dir.path(), arguments);
        assert!(is_plain(&said.out) && is_plain(&said.err), "{arguments:?}: {:?} {:?}", said.out, said.err);
    }
}

#[test]
fn devices_of_policies_that_are_not_there_are_named_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.bounce"), many_devices()).unwrap();
    let mut policy = "name = \"mine\"\ncaches = \"smallest\"\nbounce = \"kmalloc\"\n".to_owned();
    for n in 0..20_000 {
        writeln!(policy, "[[device]]\nname = \"gone{n}\"\ncoherent = true").unwrap();
    }
    fs::write(dir.path().join("p.toml"), policy).unwrap();
    let said = bouncescope(dir.path(), &["replay", "x.bounce", "--policy", "p.toml"]);
    assert_eq!(said.code, Some(0));
    assert!(said.err.len() < 4096 && said.err.contains("and 19990 more"), "{} bytes", said.err.len());
}

#[test]
fn files_that_are_no_texts_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::File::create(dir.path().join("long.toml")).unwrap().set_len(17 << 20).unwrap();
    for (arguments, why) in [
        (&["policies", "/dev/zero"][..], "/dev/zero is a device"),
        (&["check", "/dev/zero", "x.bounce"], "/dev/zero is a device"),
        (&["check", "long.toml", "x.bounce"], "long.toml is longer than the 16 MiB"),
        (&["check", ".", "x.bounce"], ". is a directory"),
        (&["replay", "--policy", "packed", "--packed-sites", "/dev/zero"], "/dev/zero is a device"),
        (&["import", "/dev/zero"], "/dev/zero is a device"),
    ] {
        let said = bouncescope(dir.path(), arguments);
        assert_eq!((said.code, said.err.lines().count()), (Some(2), 1), "{arguments:?}: {}", said.err);
        assert!(said.err.contains(why), "{arguments:?}: {}", said.err);
    }
}

#[test]
fn a_packed_binary_trace_that_unpacks_to_many_times_its_size_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (name, magic) in [("trace.dat.zst", &b"\x17\x08\x44tracing6\0"[..]), ("perf.data.zst", b"PERFILE2")] {
        let file = fs::File::create(dir.path().join(name)).unwrap();
        let bytes = magic.chain(io::repeat(0).take(100 << 20));
        zstd::stream::copy_encode(bytes, file, 1).unwrap();
        let said = bouncescope(dir.path(), &["import", name, "-o", "x.bounce"]);
        assert_eq!((said.code, said.err.lines().count()), (Some(2), 1), "{}", said.err);
        assert!(said.err.contains(&format!("{name} unpacks to more than ")), "{}", said.err);
        assert!(!dir.path().join("x.bounce").exists());
    }
}

#[test]
fn facts_of_devices_that_none_has_are_replaced_and_said() {
    let device = r#"{"id":1,"name":"odd","min_align_mask":4294967295,"iommu_granule":3}"#;
    let told = stats(Forged::kernel().frame(2, device.as_bytes()).bytes());
    assert!(told.contains("note: iommu_granule of odd is 3, which no device has: assumed to be 4096"), "{told}");
    assert!(told.contains("note: min_align_mask of odd is 4294967295"), "{told}");
}

#[test]
fn events_before_the_beginning_are_said() {
    let mut events = Events::default();
    events.event(3, 1, 0, &map(0, 18));
    let told = stats(Forged::empty().frame(3, &events.payload()).frame(1, br#"{"kernel":{"release":"6.12"}}"#).bytes());
    assert!(told.contains("note: 1 events stand before the beginning of the capture"), "{told}");
}

/// A single mapping that the kernel's rule bounces, of the device 0, as columns and values.
fn map(phys: u64, size: u64) -> [(usize, u64); 6] {
    [(4, 0), (5, 2), (6, 0), (7, size), (8, phys), (9, 0)]
}

#[test]
fn numbers_beyond_all_measure_are_brought_within_measure() {
    const MOST: u64 = u64::MAX;
    let start = format!(
        r#"{{"time_ns":{MOST},"wall_clock_s":{MOST},"allocation_sample":{MOST},"kernel":{{"release":"6.12","page_size":{0},
        "possible_cpus":{0},"memory":{MOST},"cache_line_size":{0},"dma_minalign":{0},"kmalloc_minalign":{0},
        "bounce_unaligned_kmalloc":true,"struct_page_size":{0},"vmemmap":{MOST},
        "linear_map":{{"virt_base":{MOST},"phys_base":{MOST}}},
        "pool":{{"slots":{MOST},"areas":{0},"dynamic":true,"used_at_start":{MOST},"hiwater_reset":true,
        "restricted":[{{"name":"own","slots":{MOST},"used_at_start":{MOST}}}]}}}},
        "hooks":[{{"subject":"map","attached":true}},{{"subject":"slot_map","attached":true}},
        {{"subject":"bounced","attached":true}},{{"subject":"unmap","attached":true}}]}}"#,
        u32::MAX
    );
    let device = format!(
        r#"{{"id":0,"name":"usb","dma_mask":{MOST},"bus_dma_limit":{MOST},"min_align_mask":{0},"iommu_granule":{MOST},
        "untrusted":true,"force_bounce":true,"own_pool":true,"time_ns":{MOST}}}"#,
        u32::MAX
    );
    let mut events = Events::default();
    let time = |n: u64| if n.is_multiple_of(2) { MOST } else { n };
    for n in 0..200 {
        events.event(3, time(n), 65535, &[(4, 0), (5, n % 3), (6, MOST), (7, MOST), (8, MOST - n), (9, n)]);
        events.event(
            8,
            time(n),
            65535,
            &[(4, 0), (5, 0), (7, MOST), (8, MOST), (22, MOST - n), (24, MOST), (25, MOST)],
        );
        events.event(7, time(n), 65535, &[(4, u64::from(u32::MAX)), (7, MOST), (21, MOST)]);
        events.event(4, time(n), 65535, &[(4, 0), (5, n % 3), (6, MOST), (7, MOST), (10, n)]);
        events.event(1, time(n), 65535, &[(26, MOST), (28, MOST - n), (30, MOST), (31, MOST), (32, MOST)]);
        events.event(2, time(n), 65535, &[(27, MOST), (29, n)]);
        events.event(9, time(n), 65535, &[(4, 0), (5, 0), (7, MOST), (23, MOST - n)]);
        events.event(10, time(n), 65535, &[(4, 0), (5, 0), (7, MOST), (33, n), (34, 1)]);
    }
    let counts = format!(
        r#"{{"seen":{{"map":[{MOST},{MOST}]}},"lost":{{"ring_full.map":[{MOST},{MOST}],"missed.kfree":[{MOST}]}},
        "predicted":{MOST},"linked":{MOST},"linked_bytes":{MOST},"tracefs_bounced":{MOST}}}"#
    );
    let caches = format!(
        r#"{{"caches":[{{"name":"kmalloc-64","size":{0},"objects_per_slab":{0},"pages_per_slab":{0},"active_objects":{MOST},
        "objects":{MOST},"slabs":{MOST},"cpu_slabs":{MOST},"sheaf_capacity":{MOST}}}]}}"#,
        u32::MAX
    );
    let sites = format!(
        r#"[{{"call_site":1,"bytes_req":{0},"bytes_alloc":{0},"count":{MOST}}},{{"call_site":2,"bytes_req":{0},"bytes_alloc":{0},"count":{MOST}}}]"#,
        u32::MAX
    );
    let lengths = format!(
        r#"[{{"device":0,"direction":"FROM_DEVICE","mapped":"single","length":{0},"count":{MOST},"bytes":{MOST}}},
        {{"device":{0},"direction":"FROM_DEVICE","mapped":"segment","length":1,"count":{MOST},"bytes":{MOST}}}]"#,
        u32::MAX
    );
    let times = format!(
        r#"{{"times":[{{"function":"map","log2":255,"calls":{MOST},"bytes":{MOST},"total_ns":{MOST}}},
        {{"function":"map","log2":0,"calls":{MOST},"bytes":{MOST},"total_ns":{MOST}}}]}}"#
    );
    let sample = format!(r#"{{"time_ns":{MOST},"slots":{MOST},"used_slots":{MOST},"hiwater_slots":{MOST}}}"#);
    let end = format!(
        r#"{{"time_ns":{MOST},"events":{{"map":{MOST}}},"recorder_cpu_ns":{MOST},"detach_began_ns":{MOST},
        "programs":[{{"name":"map","run_cnt":{MOST},"run_time_ns":{MOST}}}]}}"#
    );
    let capture = Forged::empty()
        .frame(1, start.as_bytes())
        .frame(2, device.as_bytes())
        .frame(9, caches.as_bytes())
        .frame(3, &events.payload())
        .frame(9, caches.as_bytes())
        .frame(4, sample.as_bytes())
        .frame(5, sites.as_bytes())
        .frame(11, lengths.as_bytes())
        .frame(10, times.as_bytes())
        .frame(7, counts.as_bytes())
        .frame(8, end.as_bytes())
        .bytes();
    let said = all_commands(capture);
    assert!(said[0].out.contains("pool.slots is 18446744073709551615, which no kernel has"), "{}", said[0].out);
}

#[test]
fn counts_beyond_what_a_frame_holds_cost_the_frame() {
    let mut list = Events::default();
    let most = u64::from(u32::MAX);
    // Not one segment of the four thousand million is there.
    list.event(5, 1, 0, &[(4, 0), (5, 2), (6, 0), (11, 4096), (12, most), (13, most), (14, most)]);
    let mut bytes = list.payload();
    let events = Forged::kernel().frame(3, &bytes).bytes();
    assert!(stats(events).contains("DAMAGED: 1 frames skipped"));
    bytes.splice(0..1, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    assert!(stats(Forged::kernel().frame(3, &bytes).bytes()).contains("DAMAGED: 1 frames skipped"));
}

#[test]
fn a_list_of_four_thousand_million_segments_of_which_none_was_recorded_is_a_list() {
    let mut list = Events::default();
    let most = u64::from(u32::MAX);
    for n in 0..100 {
        list.event(5, n, 0, &[(4, 0), (5, 2), (6, 0), (11, n), (12, most), (13, most), (14, 0)]);
        list.event(6, n, 0, &[(4, 0), (5, 2), (6, 0), (11, n), (12, most)]);
        list.event(11, n, 0, &[(4, 0), (5, 2), (11, n), (12, most), (34, 0)]);
    }
    all_commands(Forged::kernel().frame(3, &list.payload()).bytes());
}

#[test]
fn a_frame_that_unpacks_to_more_than_it_says_is_damage() {
    // 16 GiB of zeros would be 1.6 MB; one that says 100 bytes and is 15 MiB tells the same.
    let bomb = zstd::bulk::compress(&vec![b' '; 15 << 20], 3).unwrap();
    let lying = Forged::kernel().raw_frame(7, &bomb, 100).raw_frame(7, &bomb, u32::MAX).bytes();
    assert!(stats(lying).contains("DAMAGED"));
}

/// The head of a frame of blocks in which all events are in the third one, with these totals of it.
fn head(events: u64, totals: &[u64]) -> Vec<u8> {
    let mut head = Vec::new();
    let all = |head: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|value| forge::put(head, *value));
    all(&mut head, &[1, events]);
    head.resize(head.len() + events.div_ceil(2) as usize, 0x22);
    // Time, alignment, flags, devices; and nothing in the second block.
    all(&mut head, &[5, 5, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    all(&mut head, totals);
    // Nor in the last one.
    all(&mut head, &[0; 9]);
    head
}

/// Totals of as many single mappings, each of another device and length, as there may be.
fn every_one_different(events: u64) -> Vec<u64> {
    let columns: [fn(u64) -> u64; 5] = [|n| n * 65537, |n| n % 3, |_| 0, |n| (1 << 40) - n, |_| 1];
    let rows = columns.into_iter().flat_map(|column| (0..events).map(column));
    [1, 3, events, 0, events, 0, 0, 0, 0, events].into_iter().chain(rows).chain([0]).collect()
}

#[test]
fn totals_of_blocks_that_stay_closed_may_say_anything() {
    let filler = vec![7; 100];
    let block = [&[][..], &[], &filler, &[], &[]];
    let (events, replay) = (65_536, ["replay", "x.bounce", "--policy", "all"]);
    let dir = tempfile::tempdir().unwrap();
    // What is read ahead of the question is read whole.
    let kernel = || (0..8).fold(Forged::kernel(), |forged, _| forged.frame(4, b"{}"));
    let flood = (0..8).fold(kernel(), |forged, _| forged.blocks(&head(events, &every_one_different(events)), block));
    fs::write(dir.path().join("x.bounce"), flood.bytes()).unwrap();
    let replayed = bouncescope(dir.path(), &replay);
    assert_eq!(replayed.code, Some(0), "{}", replayed.err);
    assert!(replayed.out.contains("524288 mappings"), "{}", replayed.out);
    // What does not fit together is damage, and so is a block that nobody can open once it is to be opened.
    let totals = |mut totals: Vec<u64>, at: usize, value: u64| {
        totals[at] = value;
        kernel().blocks(&head(3, &totals), block).bytes()
    };
    for (at, value) in
        [(2, 4), (2, u64::MAX), (4, 2), (9, 2), (9, u64::MAX), (10, u64::MAX), (19, u64::MAX), (22, u64::MAX), (25, 1)]
    {
        fs::write(dir.path().join("x.bounce"), totals(every_one_different(3), at, value)).unwrap();
        let told = bouncescope(dir.path(), &["replay", "x.bounce", "--wide"]).out;
        assert!(told.contains("DAMAGED"), "{at} {value}: {told}");
    }
    assert!(stats(kernel().blocks(&head(3, &every_one_different(3)), block).bytes()).contains("DAMAGED"));
    all_commands(kernel().blocks(&head(3, &every_one_different(3)), block).bytes());
}

/// Frames of blocks that unpack to 64 MiB each, and whose last block is damaged. Nothing follows where they end, so each is taken for a frame
/// with bytes missing, and the next is looked for within it.
fn fruitless_blocks() -> Vec<u8> {
    let bomb = vec![0; 16 << 20];
    let mut one = Forged::empty().blocks(&head(3, &every_one_different(3)), [&bomb, &bomb, &bomb, &[], &bomb]).bytes();
    one.drain(..Forged::empty().bytes().len());
    let last = one.len() - 1;
    one[last] ^= 1;
    one.push(0);
    let mut capture = Forged::kernel().bytes();
    while capture.len() < 3 << 20 {
        capture.extend(&one);
    }
    capture
}

#[test]
fn blocks_that_are_looked_at_in_vain_cost_no_more_than_their_length() {
    let capture = fruitless_blocks();
    assert!(stats(capture.clone()).contains("DAMAGED: 1 frames skipped"));
    let converted = all_commands(capture);
    let convert = converted.iter().find(|said| said.err.contains("would hide that"));
    assert!(convert.is_some_and(|said| said.code == Some(2)));
}

#[test]
fn an_object_whose_members_would_fill_memory_is_damage() {
    // Three bytes each here; a hook is 136 in memory.
    let many = |empty: &str, count: usize| vec![empty; count].join(",");
    let hooks = format!(r#"{{"hooks":[{}]}}"#, many("{}", 5 << 20));
    let caches = format!(r#"{{"caches":[{}]}}"#, many("{}", 5 << 20));
    let values = format!(r#"{{"later":[{}]}}"#, many("0", 8 << 20));
    for (kind, payload) in
        [(1, hooks), (9, caches), (1, values), (8, format!(r#"{{"programs":[{}]}}"#, many("{}", 5 << 20)))]
    {
        let capture = Forged::kernel().frame(kind, payload.as_bytes()).bytes();
        assert!(stats(capture).contains("DAMAGED: 1 frames skipped"), "type {kind}");
    }
    let name = format!(r#"{{"id":1,"name":"{}"}}"#, "x".repeat(1 << 20));
    assert!(stats(Forged::kernel().frame(2, name.as_bytes()).bytes()).contains("DAMAGED: 1 frames skipped"));
}

/// Objects as large as they may be, with as much in them as fits, and names without end.
fn full_objects() -> Vec<u8> {
    let many = |empty: &str, bytes: usize| vec![empty; bytes / (empty.len() + 1) - 20].join(",");
    let hooks = format!(r#"{{"hooks":[{}]}}"#, many("{}", 1 << 20));
    let caches = format!(r#"{{"caches":[{}]}}"#, many("{}", 1 << 20));
    let symbols = format!("[{}]", many(r#"{"addr":0,"name":""}"#, 16 << 20));
    Forged::empty().frame(1, hooks.as_bytes()).frame(9, caches.as_bytes()).frame(6, symbols.as_bytes()).bytes()
}

#[test]
fn the_most_that_an_object_may_hold_is_no_burden() {
    let told = stats(full_objects());
    assert!(told.contains("the capture's hooks are 349505: the first 256 are taken"), "{}", &told[..2000]);
}

#[test]
fn nesting_without_end_is_damage() {
    for open in ["[", r#"{"a":"#] {
        let nested = format!(r#"{{"later":{}"#, open.repeat(100_000));
        assert!(stats(Forged::kernel().frame(1, nested.as_bytes()).bytes()).contains("DAMAGED: 1 frames skipped"));
    }
}

/// More devices than a machine has, each with a pool of its own, and a mapping of each.
fn many_devices() -> Vec<u8> {
    let mut capture = Forged::kernel();
    for id in 1..20_000 {
        capture = capture.frame(2, format!(r#"{{"id":{id},"name":"d{id}","own_pool":true}}"#).as_bytes());
    }
    let mut events = Events::default();
    for id in 0..20_000 {
        events.event(3, id, 0, &[(4, id), (5, 2), (6, 0), (7, 18), (8, id << 12), (9, 0)]);
    }
    capture.frame(3, &events.payload()).bytes()
}

#[test]
fn more_devices_than_a_machine_has_are_counted_and_left_out() {
    let told = stats(many_devices());
    assert!(told.contains("11808 descriptions of devices are left out"), "{}", &told[..2000]);
}

#[test]
fn a_device_number_beyond_all_others_makes_no_room_for_those_before_it() {
    let far = format!(r#"{{"id":{},"name":"far"}}"#, u32::MAX);
    let mut events = Events::default();
    events.event(3, 1, 0, &[(4, u64::from(u32::MAX)), (5, 2), (6, 0), (7, 18), (8, 0), (9, 0)]);
    all_commands(Forged::kernel().frame(2, far.as_bytes()).frame(3, &events.payload()).bytes());
}

/// Short buffers that the kernel's rule bounces, mapped and never unmapped.
fn lasting_mappings(frames: u64) -> Vec<u8> {
    let mut capture = Forged::kernel();
    for frame in 0..frames {
        let mut events = Events::default();
        for n in 0..50_000 {
            events.event(3, n, 0, &map((frame * 50_000 + n) << 12, 18));
        }
        capture = capture.frame(3, &events.payload());
    }
    capture.bytes()
}

#[test]
fn mappings_that_are_never_unmapped_are_followed_up_to_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.bounce"), lasting_mappings(3)).unwrap();
    let told = bouncescope(dir.path(), &["verify", "x.bounce"]).out;
    assert!(told.contains("18928 mappings are left out of all figures"), "{told}");
}

#[test]
fn events_without_end_are_taken_in_up_to_a_limit() {
    // Each frame takes some 200 bytes.
    let mut events = Events::default();
    for n in 0..60_000 {
        events.event(4, n, 0, &[(4, 0), (5, 2), (6, 0), (7, 64), (10, n << 12)]);
    }
    let events = events.payload();
    let capture = (0..100).fold(Forged::kernel(), |capture, _| capture.frame(3, &events)).bytes();
    let most = (1 << 22) + 16 * capture.len();
    assert!(most < 100 * 60_000, "{} bytes", capture.len());
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.bounce"), capture).unwrap();
    let said = bouncescope(dir.path(), &["stats", "x.bounce"]).out;
    assert!(said.contains(&format!("only the first {most} events are taken in, from ")), "{said}");
    let fewer = bouncescope(dir.path(), &["replay", "x.bounce", "--max-events", "1000"]).out;
    assert!(fewer.contains("only the first 1000 events are taken in"), "{fewer}");
    let arguments = ["export", "x.bounce", "--max-events", "1000", "--format", "csv", "-o", "tables"];
    let exported = bouncescope(dir.path(), &arguments).err;
    assert!(exported.contains("only the first 1000 events are taken in"), "{exported}");
    let converted = bouncescope(dir.path(), &["convert", "x.bounce", "-o", "y.bounce"]);
    assert!(converted.err.contains(&format!("only the first {most} events are taken in, from ")), "{}", converted.err);
    assert!(converted.code == Some(2) && !dir.path().join("y.bounce").exists());
}

/// A list of many segments, all bounced, that is synced again and again.
fn synced_list() -> Vec<u8> {
    const SEGMENTS: u64 = 1 << 14;
    let mut list = Events::default();
    list.event(5, 1, 0, &[(4, 0), (5, 2), (6, 0), (11, 4096), (12, SEGMENTS), (13, SEGMENTS), (14, SEGMENTS)]);
    for n in 0..SEGMENTS {
        for (column, value) in (15..=20).zip([0, 0, 18, n << 12, 18, 0]) {
            list.value(column, value);
        }
    }
    let mut syncs = Events::default();
    for n in 0..1 << 16 {
        syncs.event(11, 2 + n, 0, &[(4, 0), (5, 2), (11, 4096), (12, SEGMENTS), (34, 0)]);
    }
    Forged::kernel().frame(3, &list.payload()).frame(3, &syncs.payload()).bytes()
}

/// Bounces of which no mapping is seen, and mappings that have to look through all of these for one of theirs.
fn unclaimed_bounces() -> Vec<u8> {
    let mut bounces = Events::default();
    for n in 0..60_000 {
        bounces.event(7, 1, 0, &[(4, 0), (7, 18), (21, n << 12)]);
    }
    let mut mappings = Events::default();
    for n in 0..60_000 {
        mappings.event(3, 1, 0, &map(n << 12, 20));
    }
    let mappings = mappings.payload();
    Forged::kernel().frame(3, &bounces.payload()).frame(3, &mappings).frame(3, &mappings).bytes()
}

#[test]
fn time_does_not_grow_with_the_product_of_what_is_there_and_what_is_done_to_it() {
    let dir = tempfile::tempdir().unwrap();
    for capture in [synced_list(), unclaimed_bounces()] {
        fs::write(dir.path().join("x.bounce"), capture).unwrap();
        bouncescope(dir.path(), &["verify", "x.bounce"]);
        bouncescope(dir.path(), &["replay", "x.bounce", "--policy", "all"]);
    }
}

#[test]
#[ignore = "takes a minute"]
fn every_command_copes_with_the_heaviest_files() {
    for capture in [full_objects(), many_devices(), lasting_mappings(5)] {
        all_commands(capture);
    }
}

#[test]
fn objects_that_are_never_freed_are_followed_up_to_a_bound() {
    let mut capture = Forged::kernel();
    for frame in 0..18_u64 {
        let mut events = Events::default();
        for n in 0..60_000 {
            let object = frame * 60_000 + n;
            events.event(1, n, 0, &[(26, object), (28, object << 6), (30, 18), (31, 64), (32, 0)]);
        }
        capture = capture.frame(3, &events.payload());
    }
    assert!(stats(capture.bytes()).contains("31424 allocations are left out of all figures"));
}

#[test]
fn pools_that_grow_for_mappings_that_fit_nowhere_stop_growing() {
    let start = r#"{"kernel":{"release":"6.12.1","page_size":4096,"possible_cpus":1,"cache_line_size":64,"dma_minalign":128,
        "kmalloc_minalign":8,"bounce_unaligned_kmalloc":true,"pool":{"slots":4194304,"areas":1,"dynamic":true,
        "used_at_start":4194304}}}"#;
    let mut events = Events::default();
    for n in 0..500 {
        events.event(3, n, 0, &map(n << 12, 18));
    }
    let capture = Forged::empty().frame(1, start.as_bytes()).frame(2, br#"{"id":0,"name":"usb"}"#);
    all_commands(capture.frame(3, &events.payload()).bytes());
}

#[test]
fn a_text_of_one_line_without_end_is_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.txt"), vec![b'a'; 300 << 20]).unwrap();
    let said = bouncescope(dir.path(), &["import", "x.txt", "-o", "x.bounce"]);
    assert_eq!((said.code, said.err.lines().count()), (Some(2), 1), "{}", said.err);
    assert!(said.err.contains("nothing in it is a mapping, a bounce or an allocation"), "{}", said.err);
}

#[test]
fn a_line_without_end_in_a_trace_costs_itself() {
    let mut trace = String::new();
    let map =
        "    a-1 [000] 1.000001: dma_map_phys: 1-1 dir=FROM_DEVICE dma_addr=52000 size=18 phys_addr=52000 attrs=\n";
    trace.push_str(map);
    write!(trace, "    a-1 [000] 1.000002: dma_map_sg: 1-1 dma_addrs={{{}}}\n{map}", "ff,".repeat(30 << 20)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.txt"), trace).unwrap();
    let said = bouncescope(dir.path(), &["import", "x.txt", "-o", "x.bounce"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("1 line can't be read") && said.err.contains("2 events"), "{}", said.err);
}
