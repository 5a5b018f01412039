//! `diff` and `check --baseline` as a user runs them, on captures of real kernels: exit codes, and what is said of conditions that are none.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const FULL: &str = "captures/6.12-full-hold-300.bounce";
const ROOMY: &str = "captures/7.3-direct-hold-300.bounce";

fn bouncescope(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_bouncescope")).current_dir(root).args(arguments).output().unwrap()
}

fn diff(before: &str, after: &str, conditions: &[&str]) -> Output {
    let conditions = conditions.iter().flat_map(|condition| ["--fail-if", condition]);
    bouncescope(&["diff", before, after, "--policy", "mainline"].into_iter().chain(conditions).collect::<Vec<_>>())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn without_a_condition_a_difference_is_no_failure() {
    for (before, after) in [(FULL, ROOMY), (ROOMY, FULL), (FULL, FULL)] {
        assert_eq!(diff(before, after, &[]).status.code(), Some(0));
    }
}

#[test]
fn the_exit_code_is_1_when_a_condition_is_met_and_2_when_none_is_and_one_is_inconclusive() {
    let code = |conditions: &[&str]| diff(ROOMY, FULL, conditions).status.code().unwrap();
    assert_eq!(code(&["bounces > before", "failed > before + 44"]), 0);
    assert_eq!(code(&["bounces > before", "failed > before + 43"]), 1);
    assert_eq!(code(&["device gone: bounces > before"]), 2, "nothing has that name");
    assert_eq!(code(&["device gone: bounces > before", "failed > 0"]), 1, "a condition that is met comes first");
    assert_eq!(diff("/nonexistent.bounce", FULL, &[]).status.code(), Some(2));
}

#[test]
fn the_other_way_round_the_condition_is_the_other_one() {
    assert_eq!(diff(FULL, ROOMY, &["failed > before"]).status.code(), Some(0));
    assert_eq!(diff(FULL, ROOMY, &["failed < before"]).status.code(), Some(1));
}

#[test]
fn a_condition_about_a_policy_is_about_that_simulated_kernel() {
    let bounces = |policy: &str| {
        let condition = format!("bounces > 0{policy}");
        bouncescope(&["diff", FULL, ROOMY, "--policy", "mainline,legacy", "--fail-if", &condition]).status.code()
    };
    assert_eq!([bounces(""), bounces(" [legacy]"), bounces(" [mainline]")], [Some(1), Some(0), Some(1)]);
    let output = diff(FULL, ROOMY, &["failed > 0 [legacy]"]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
    assert!(said.starts_with("error: no policy legacy is compared (--policy); there are: mainline"), "{said}");
    let said = text(&diff(FULL, ROOMY, &["losses > 0 [mainline]"]).stderr);
    assert!(said.contains("losses is a figure of the recording"), "{said}");
}

#[test]
fn conditions_are_printed_as_they_were_typed_with_what_became_of_them() {
    let output = diff(ROOMY, FULL, &["failed>0", "failed > before + 44", "device gone: bounces > 0"]);
    let said = text(&output.stdout);
    assert!(said.contains("\nMET        1 met, 1 not met, 1 inconclusive\n"), "{said}");
    assert!(said.contains("\n  met          failed>0: 44\n"), "{said}");
    assert!(said.contains("\n  not met      failed > before + 44: 44 (before: 0)\n"), "{said}");
    assert!(said.contains("\n  CANNOT TELL  device gone: bounces > 0: no figure"), "{said}");
    assert!(!said.contains("BROKEN") && !said.contains("kept"), "{said}");
}

#[test]
fn counts_of_recordings_of_other_lengths_are_noted_with_the_rate_to_compare() {
    let said = |before, conditions: &[&str]| text(&diff(before, ROOMY, conditions).stderr);
    let note =
        "note: 'bytes-copied > before' compares counts of 4.1 s and 3.5 s; bytes-copied-per-second compares rates\n";
    assert_eq!(said(FULL, &["bytes-copied > before", "bytes-copied > before"]), note);
    assert_eq!(said(FULL, &["bytes-copied > 0", "bytes-copied-per-second > before"]), "");
    assert_eq!(said(ROOMY, &["bytes-copied > before"]), "", "they are equally long");
}

#[test]
fn a_device_that_is_new_did_nothing_before() {
    // Only the other capture has an NVMe drive.
    let condition = "device 0000:00:02.0: mappings > before";
    assert_eq!(diff(FULL, "captures/default.bounce", &[condition]).status.code(), Some(1));
}

#[test]
fn a_cut_capture_leaves_conditions_open_that_it_may_meet() {
    let whole = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(ROOMY)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.bounce");
    fs::write(&cut, &whole[..whole.len() - 40]).unwrap();
    let cut = cut.to_str().unwrap();
    assert_eq!(diff(ROOMY, ROOMY, &["bounces > before"]).status.code(), Some(0));
    assert_eq!(diff(ROOMY, cut, &["bounces > before"]).status.code(), Some(2), "there may be more");
    assert_eq!(diff(cut, ROOMY, &["failed > before"]).status.code(), Some(0), "there was no less");
}

#[test]
fn a_baseline_is_named_for_rules_that_compare_and_for_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("lab.toml");
    let rules = rules.to_str().unwrap();
    let check = |text: &str, more: &[&str]| {
        fs::write(rules, text).unwrap();
        bouncescope(&[&["check", rules, FULL], more].concat())
    };
    let relative = "[[rule]]\nfigure = \"failed\"\nmax = \"before\"\n";
    assert_eq!(check(relative, &["--baseline", ROOMY]).status.code(), Some(1));
    assert_eq!(check(relative, &["--baseline", FULL]).status.code(), Some(0));
    let output = check(relative, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--baseline CAPTURE") && output.stdout.is_empty());
    let output = check("[[rule]]\nfigure = \"failed\"\nmax = 44\n", &["--baseline", ROOMY]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).starts_with("note: no rule compares with the baseline"));
    for text in [relative, "[[rule]]\nfigure = \"failed\"\nmax = 44\n"] {
        for bad in ["/nonexistent.bounce", "rustfmt.toml"] {
            let output = check(text, &["--baseline", bad]);
            assert_eq!(output.status.code(), Some(2), "{text} {bad}");
            assert!(self::text(&output.stderr).starts_with("error: ") && output.stdout.is_empty());
        }
    }
}

#[test]
fn every_failure_is_said_in_a_line_behind_one_word() {
    for arguments in [
        &["replay", "gone.bounce"] as &[&str],
        &["verify", "rustfmt.toml"],
        &["stats", "gone.bounce"],
        &["check", "gone.toml", FULL],
        &["diff", "gone.bounce", FULL],
        &["packed", "gone.bounce"],
        &["policies", "gone"],
        &["explain", "/"],
        &["doctor", "--capture", "gone.bounce"],
        &["import", "gone.txt", "-o", "/dev/null"],
        &["export", "gone.bounce", "-o", "/dev/null"],
        &["man", "/dev/null/man"],
        &["completions", "cmd.exe"],
        &["replay", "--swiotlb", "many"],
        #[cfg(feature = "report")]
        &["report", "gone.bounce"],
        #[cfg(feature = "report")]
        &["serve", "gone.bounce", "--listen", "127.0.0.1:0"],
    ] {
        let output = bouncescope(arguments);
        let said = text(&output.stderr);
        let first = said.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: ") && first.len() > 20, "{arguments:?}: {said}");
        assert_ne!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}
