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
    assert_eq!((of("before", "unsafe_certain"), of("after", "unsafe_certain")), (22, 20));
    assert_eq!((of("before", "unsafe_possible"), of("after", "unsafe_possible")), (455, 2));
    assert!(of("before", "slab_bytes") > of("after", "slab_bytes"));
    assert_eq!((&change["before"]["bounces"], &change["after"]["bounces"]), (&0.into(), &595.into()));
    assert_eq!(advice["drivers"][0]["percent"], 59, "350 of 595, of the advised pool as well");
    assert_eq!(advice["still_unsafe"][0]["unsafe_certain"], 20);
}

#[test]
fn advice_does_not_depend_on_the_order_of_what_is_swept() {
    let advice = |sweep: &str| json(&["replay", NO_POOL, "--advise", "--sweep", sweep, "--json"])["advice"].clone();
    assert_eq!(advice("swiotlb=1M,none"), advice("swiotlb=none,1M"));
}

#[test]
fn advice_comes_before_the_tables_and_one_slot_is_one_slot() {
    let text = printed(&["replay", "--advise", "--headroom", "30%"]);
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
    assert!(at("advice") < at("kmalloc from  bounces"));
    assert!(text.contains("with 1 slot,") && text.contains("30 % asked for"), "{text}");
    assert!(text.contains("--policy all compares every one"), "{text}");
}

#[test]
fn where_nothing_bounces_no_pool_is_advised() {
    let text = printed(&["replay", "--advise", "--policy", "legacy"]);
    assert!(text.contains("nothing bounced in this recording: no pool was needed"), "{text}");
    assert!(!text.contains("boot with"), "{text}");
}

#[test]
fn restricted_pools_are_not_what_the_parameter_sets() {
    let text = printed(&["replay", "--advise", "--swiotlb", "restricted=4M"]);
    assert!(!text.contains("boot with") && text.contains("of every device 2048 slots (4.0 MiB)"), "{text}");
}

#[test]
fn what_a_cut_capture_says_is_only_as_far_as_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let cut = cut(&dir);
    let text = printed(&["replay", &cut, "--advise"]);
    assert!(text.contains("advice, only as far as recorded: the recording has no end"), "{text}");
    assert!(text.contains(">= ") && text.contains("in doubt, since: the recording has no end"), "{text}");
    assert!(warned(&["replay", &cut, "--csv"]).contains("as far as recorded: the recording has no end"));
    assert!(warned(&["replay", "--csv"]).is_empty());
    assert!(printed(&["packed", &cut]).contains("# WARNING: only as far as recorded"));
    let packed = json(&["packed", &cut, "--json"]);
    assert!(packed["missing"].as_str().unwrap().contains("no end") && !packed["gaps"].is_null(), "{packed:#}");
}

#[test]
fn hazards_are_in_doubt_where_frees_were_lost() {
    let text = printed(&["replay"]);
    let mainline = text.lines().find(|line| line.starts_with("mainline ")).unwrap();
    assert!(mainline.contains("<= 20") && mainline.contains(">= 2"), "{text}");
    assert!(text.contains("in doubt, since: lost missed.kfree: 43"), "{text}");
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
    let text = printed(&["replay", "--policy", &format!("mainline,{},mainline", file.to_str().unwrap())]);
    assert!(text.contains("mine.toml) "), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("mainline  ")).count(), 1, "one, not two alike: {text}");
}

#[test]
fn no_table_of_many_policies_is_wider_than_100() {
    let text = printed(&["replay", "--policy", "all"]);
    let tables = &text[text.find("bounces by device").unwrap()..];
    let widest = tables.lines().max_by_key(|line| line.chars().count()).unwrap();
    assert!(widest.chars().count() <= 100, "{widest}");
    assert!(printed(&["replay"]).contains("without bounces or hazards: --json has all"));
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
    assert!(warning.contains("no device nosuch") && warning.contains("0000:00:04.0 (xhci_hcd)"), "{warning}");
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
