//! `replay`'s answers and its table as a user reads them: what is advised and about what, what is in doubt, what a choice of
//! pool or device means.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

/// A kernel booted with `swiotlb=noforce`.
const NO_POOL: &str = "captures/6.12-noforce-mixed.bounce";

fn bouncescope(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bouncescope")).args(arguments).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The same with its lines joined: where they break is for the golden files.
fn sentences(arguments: &[&str]) -> String {
    printed(arguments).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn printed(arguments: &[&str]) -> String {
    let output = bouncescope(arguments);
    assert!(output.status.success(), "{}", said(&output.stderr));
    said(&output.stdout)
}

fn warned(arguments: &[&str]) -> String {
    let output = bouncescope(arguments);
    assert!(output.status.success(), "{}", said(&output.stderr));
    said(&output.stderr)
}

fn refused(arguments: &[&str]) -> String {
    let output = bouncescope(arguments);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output.stdout));
    said(&output.stderr)
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&printed(arguments)).unwrap()
}

/// The embedded capture, cut in its middle.
fn cut(dir: &tempfile::TempDir) -> String {
    let whole = fs::read("captures/default.bounce").unwrap();
    let path = dir.path().join("cut.bounce");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_kernel_without_a_pool_is_told_what_the_advised_one_wins_and_costs() {
    let advice = &json(&["replay", NO_POOL, "--advise", "--json"])["advice"];
    let change = &advice["changes"][0];
    assert_eq!((&change["from"], &change["to"]), (&"swiotlb=noforce".into(), &"swiotlb=256".into()), "{change:#}");
    let of = |side: &str, what: &str| change[side][what]["value"].as_f64().unwrap() as u64;
    assert_eq!((of("before", "hazards_foreign"), of("after", "hazards_foreign")), (0, 0));
    assert_eq!((of("before", "hazards_unknown"), of("after", "hazards_unknown")), (455, 2));
    assert_eq!((of("before", "hazards_own"), of("after", "hazards_own")), (22, 20));
    assert_eq!((&change["before"]["bounces"], &change["after"]["bounces"]), (&0.into(), &595.into()));
    assert_eq!(advice["drivers"][0]["percent"], 59, "350 of 595, of the advised pool as well");
    assert_eq!(
        advice["still_unsafe"],
        Value::Array(Vec::new()),
        "the rest of a buffer's own object is the driver's business"
    );
}

/// Recordings of one workload on one kernel: with the default pool, with a large one that everything goes through, with none.
const MIXED: [&str; 3] = ["captures/default.bounce", "captures/6.12-force-mixed.bounce", NO_POOL];

/// What advice says of memory.
fn memory(capture: &str) -> Value {
    json(&["replay", capture, "--advise", "--json"])["advice"]["memory"].clone()
}

fn bytes(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("no bytes: {value:#}"))
}

/// The range of a difference, or of slabs.
fn range(difference: &Value) -> std::ops::RangeInclusive<i64> {
    bytes(&difference["low"])..=bytes(&difference["high"])
}

#[test]
fn what_a_pool_saves_in_slabs_is_as_two_kernels_counted_it() {
    let all = MIXED.map(memory);
    let counted = |memory: &Value| bytes(&memory["now"]["slabs"]["bytes"]);
    let [.., without] = &all;
    for with in &all[..2] {
        let measured = counted(with) + bytes(&without["with_pool"]["pool_bytes"]) - counted(without);
        for (recorded, memory) in MIXED.iter().zip(&all) {
            let costs = &memory["pool_costs"];
            assert!(bytes(&costs["high"]) < 0, "{recorded}: the pool pays: {costs:#}");
            assert!(memory["would_tell"].is_null(), "{recorded}");
            assert!(
                range(costs).contains(&measured) || memory["with_pool"]["slabs"]["basis"] == "counted",
                "{costs:#}"
            );
        }
    }
}

#[test]
fn slabs_without_a_pool_are_within_1_percent_of_what_that_kernel_counted() {
    let [with, forced, without] = MIXED.map(memory);
    let counted = bytes(&without["now"]["slabs"]["bytes"]);
    for memory in [with, forced] {
        let predicted = bytes(&memory["without_pool"]["slabs"]["bytes"]);
        assert_eq!(memory["without_pool"]["slabs"]["basis"], "moved");
        assert!((predicted - counted).abs() * 100 < counted, "{predicted} against {counted}");
        assert!(range(&memory["without_pool"]["slabs"]).contains(&counted), "{counted}");
    }
}

#[test]
fn slabs_with_a_pool_are_estimated_within_10_percent_of_what_those_kernels_counted() {
    let [with, forced, without] = MIXED.map(memory);
    let slabs = &without["with_pool"]["slabs"];
    assert_eq!(slabs["basis"], "estimated");
    for memory in [with, forced] {
        let counted = bytes(&memory["now"]["slabs"]["bytes"]);
        let predicted = bytes(&slabs["bytes"]);
        assert!((predicted - counted).abs() * 10 < counted, "{predicted} against {counted}");
        assert!(range(slabs).contains(&counted), "{counted}");
    }
}

#[test]
fn where_sizes_are_not_known_advice_says_which_recording_would_tell() {
    let text = sentences(&["replay", "captures/kernels/6.1.bounce", "--advise"]);
    assert!(text.contains("not enough is known to say whether swiotlb=256 takes more or less than no pool"), "{text}");
    assert!(text.contains("What would show it: a recording of a kernel from 6.5 on with swiotlb=256"), "{text}");
    assert!(text.contains("(the objects' sizes are not known)"), "{text}");
}

#[test]
fn a_pool_that_nothing_needs_is_advised_for_the_caches_that_it_allows() {
    let text = sentences(&["replay", "--advise", "--policy", "mainline", "--coherent", "*"]);
    assert!(text.contains("nothing bounced in this recording; boot with swiotlb=256 all the same"), "{text}");
}

#[test]
fn a_pool_is_advised_that_holds_what_the_recorded_one_refused() {
    let pool = &json(&["replay", "captures/6.12-full-hold-300.bounce", "--advise", "--json"])["advice"]["pool"];
    assert_eq!(
        (&pool["peak_slots"], &pool["peak_slots_at_most"]),
        (&257.into(), &300.into()),
        "300 were held: {pool:#}"
    );
    assert_eq!((&pool["parameter"], &pool["refused"]), (&"swiotlb=512".into(), &44.into()));
}

/// A recording as `record` makes it by default, of a 6.12 whose devices are all coherent: no mapping was streamed, all were counted.
const COHERENT: &str = "tests/coherent.bounce";

#[test]
fn what_was_counted_and_not_recorded_is_not_taken_to_be_nothing() {
    let what_if = ["replay", COHERENT, "--non-coherent", "*", "--advise"];
    let text = printed(&what_if);
    // As many as that kernel bounced or refused with devices that are not coherent.
    assert!(text.contains("under mainline 1359 buffers bounce, as the kernel counted them"), "{text}");
    assert!(!text.contains("nothing was mapped") && !text.contains("boot with"), "{text}");
    let report = json(&[&what_if[..], &["--json"]].concat());
    assert_eq!((&report["policies"][0]["bounces"], &report["advice"]["unrecorded"]), (&1359.into(), &1359.into()));
    assert!(report["advice"]["pool"].is_null() && report["advice"]["changes"] == serde_json::json!([]));
    let text = sentences(&["replay", COHERENT, "--advise", "--policy", "length-multiple", "--non-coherent", "*"]);
    assert!(text.contains("it is not known what bounces"), "{text}");
}

#[test]
fn advice_does_not_depend_on_the_order_of_what_is_swept() {
    let advice = |sweep: &str| json(&["replay", NO_POOL, "--advise", "--sweep", sweep, "--json"])["advice"].clone();
    assert_eq!(advice("swiotlb=1M,none"), advice("swiotlb=none,1M"));
}

#[test]
fn advice_comes_before_the_tables_and_one_slot_is_one_slot() {
    let text = sentences(&["replay", "--advise", "--headroom", "30%"]);
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
    assert!(at("advice") < at("policy bounces"));
    assert!(text.contains("with 1 slot in use") && text.contains("30 % asked for"), "{text}");
    assert!(text.contains("--policy all compares every one"), "{text}");
}

#[test]
fn where_nothing_bounces_no_pool_is_advised() {
    let text = sentences(&["replay", "--advise", "--policy", "legacy"]);
    assert!(text.contains("nothing bounced in this recording: no pool was needed"), "{text}");
    assert!(!text.contains("boot with"), "{text}");
}

#[test]
fn restricted_pools_are_not_what_the_parameter_sets() {
    let text = sentences(&["replay", "--advise", "--swiotlb", "restricted=4M"]);
    assert!(!text.contains("boot with") && text.contains("of every device 2048 slots (4.0 MiB)"), "{text}");
}

#[test]
fn what_a_cut_capture_says_is_only_as_far_as_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let cut = cut(&dir);
    let text = sentences(&["replay", &cut, "--advise"]);
    assert!(text.contains("advice, only as far as recorded: the recording has no end"), "{text}");
    assert!(text.contains(">= ") && text.contains("in doubt (<=, >=, ~): the recording has no end"), "{text}");
    assert!(warned(&["replay", &cut, "--csv"]).contains("only what was recorded: the recording has no end"));
    assert!(warned(&["replay", "--csv"]).is_empty());
    assert!(printed(&["packed", &cut]).contains("# WARNING: only as far as recorded"));
    let packed = json(&["packed", &cut, "--json"]);
    assert!(packed["missing"].as_str().unwrap().contains("no end") && !packed["gaps"].is_null(), "{packed:#}");
}

#[test]
fn lost_frees_leave_no_doubt_about_hazards_where_no_foreign_object_is_near() {
    let output = json(&["replay", "--advise", "--json"]);
    for class in ["hazards_foreign", "hazards_unknown", "hazards_own"] {
        let hazards = &output["advice"]["changes"][0]["after"][class];
        assert_eq!(hazards["doubts"], Value::Array(Vec::new()), "{class}: {hazards:#}");
    }
    assert!(!sentences(&["replay", "--advise"]).contains("hazards are in doubt"));
}

#[test]
fn the_rest_of_the_buffers_own_object_is_named_and_not_led_with() {
    let text = sentences(&["replay", "--advise"]);
    assert!(
        text.contains("foreign object 0 -> 0, unknown 456 -> 2, with the rest of their own object 22 -> 20"),
        "{text}"
    );
    assert!(!text.contains("usb_string") || text.find("usb_string") > text.find("policy "), "{text}");
}

#[test]
fn outcomes_are_called_by_what_varies() {
    let sweep = ["replay", "--policy", "mainline", "--sweep", "swiotlb=512K,1M", "--sweep", "cache-line-size=64,128"];
    let text = printed(&sweep);
    for name in ["mainline 512K line 64 ", "mainline 1M line 128 "] {
        assert!(text.contains(name), "no {name} in {text}");
    }
    let csv = printed(&[&sweep[..], &["--csv"]].concat());
    let row = csv.lines().nth(2).unwrap();
    assert!(row.starts_with("mainline,128,") && row.ends_with(",mainline 512K line 128"), "{csv}");
    assert!(csv.lines().last().unwrap().starts_with("(kernel did),64,8,"), "{csv}");
}

#[test]
fn two_policies_of_one_name_are_told_apart_by_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.toml");
    fs::write(&file, "name = \"mainline\"\ncaches = 8\nbounce = \"never\"\n").unwrap();
    let text = printed(&["replay", "--wide", "--policy", &format!("mainline,{},mainline", file.to_str().unwrap())]);
    assert!(text.contains("mine.toml) "), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("mainline  ")).count(), 1, "one, not two alike: {text}");
}

#[test]
fn no_table_of_many_policies_is_wider_than_100() {
    let text = printed(&["replay", "--wide", "--policy", "all"]);
    let tables = &text[text.find("bounces by device").unwrap()..];
    let widest = tables.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 100, "{widest}");
    assert!(printed(&["replay", "--wide"]).contains("without bounces or hazards: --json has all"));
}

#[test]
fn the_default_pool_is_said_with_its_rule() {
    let rows = json(&["replay", NO_POOL, "--policy", "mainline", "--swiotlb", "default", "--json"]);
    assert_eq!(rows["policies"][0]["total_slots"], 512, "1 MiB for 1 GiB of memory");
    assert!(warned(&["replay", NO_POOL, "--swiotlb", "default"]).contains("1 MiB for each GiB"));
    assert!(warned(&["replay", NO_POOL, "--swiotlb", "dynamic"]).contains("has no pool that could grow"));
    assert!(refused(&["replay", "--swiotlb", "force"]).contains("stays so"));
}

#[test]
fn csv_has_no_room_for_advice() {
    assert!(refused(&["replay", "--csv", "--advise"]).contains("--advise"));
    assert!(refused(&["replay", "--advise", "--headroom", "100%"]).contains("percentage"));
}

#[test]
fn a_device_that_the_capture_does_not_know_is_named_with_those_that_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mine.toml");
    fs::write(&file, "name = \"mine\"\ncaches = 8\nbounce = \"never\"\n[[device]]\nname = \"nosuch\"\n").unwrap();
    let warning = warned(&["replay", "--policy", file.to_str().unwrap()]);
    assert!(warning.contains("mine: nosuch") && warning.contains("0000:00:04.0 (xhci_hcd)"), "{warning}");
    assert!(refused(&["replay", "--coherent", "nosuch"]).contains("0000:00:04.0 (xhci_hcd)"));
    let all = json(&["replay", "--policy", "mainline", "--coherent", "*", "--json"]);
    assert_eq!(all["policies"][0]["bounces"], 0);
}

#[test]
fn addresses_in_reports_are_strings() {
    assert!(json(&["packed", "--json"])["sites"][0]["address"].as_str().unwrap().starts_with("0xffff"));
    for command in [["replay", "--json"], ["verify", "--json"], ["stats", "--json"]] {
        let report = json(&command);
        let kernel = [&report["capture"]["kernel"], &report["kernel"], &report["start"]["kernel"]];
        let kernel = kernel.into_iter().find(|kernel| !kernel.is_null()).unwrap();
        assert!(kernel["linear_map"]["virt_base"].as_str().unwrap().starts_with("0xffff"), "{command:?}");
    }
}
