//! `check` as a user runs it, on captures of real kernels: exit codes, what is printed and written, rules that are none.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

const HOLD_300: &str = "captures/6.12-full-hold-300.bounce";
const ROOMY: &str = "captures/7.3-direct-hold-300.bounce";
const KEPT: &str = "[[rule]]\nfigure = \"mappings\"\nmin = 300\n";
const BROKEN: &str = "[[rule]]\nname = \"a < b\"\nfigure = \"failed\"\nmax = 43\n";
const OPEN: &str = "[[rule]]\ndevice = \"gone\"\nfigure = \"bounces\"\nmax = 0\n";

/// A directory with these rules in it, and their path.
fn rules(text: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lab.toml");
    fs::write(&path, text).unwrap();
    (dir, path)
}

fn bouncescope(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_bouncescope")).current_dir(root).args(arguments).output().unwrap()
}

fn check(text: &str, arguments: &[&str]) -> Output {
    let (_dir, path) = rules(text);
    let mut all = vec!["check", path.to_str().unwrap()];
    all.extend(arguments);
    bouncescope(&all)
}

fn code(text: &str, captures: &[&str]) -> i32 {
    check(text, captures).status.code().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_exit_code_is_0_when_all_is_kept_1_when_a_rule_is_broken_and_else_2() {
    assert_eq!(code(KEPT, &[HOLD_300, ROOMY]), 0);
    assert_eq!(code(&[KEPT, BROKEN].concat(), &[HOLD_300]), 1);
    assert_eq!(code(&[KEPT, OPEN].concat(), &[HOLD_300]), 2);
    assert_eq!(code(&[OPEN, BROKEN, OPEN].concat(), &[HOLD_300]), 1, "broken comes first");
    assert_eq!(code(BROKEN, &[ROOMY]), 0);
    assert_eq!(code(BROKEN, &[ROOMY, HOLD_300]), 1, "by any capture");
}

#[test]
#[cfg(unix)]
fn rules_come_from_standard_input_too() {
    let (_dir, path) = rules(BROKEN);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_bouncescope"));
    command.current_dir(root).args(["check", "-", HOLD_300]).stdin(fs::File::open(path).unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("BROKEN"));
}

#[test]
fn every_rule_is_printed_with_its_figure_for_every_capture() {
    let output = check(&[KEPT, BROKEN, OPEN].concat(), &[HOLD_300, ROOMY]);
    let said = text(&output.stdout);
    let of = |capture: &str| said.split("\n\n").find(|part| part.starts_with(capture)).unwrap().to_owned();
    assert!(of(HOLD_300).contains("\n  BROKEN       a < b: 44, limit <= 43\n"), "{said}");
    assert!(of(ROOMY).contains("\n  kept         a < b: 0, limit <= 43\n"), "{said}");
    assert!(of(HOLD_300).contains("\n  CANNOT TELL  device gone: bounces <= 0"), "{said}");
    assert!(said.ends_with("\nBROKEN: 3 kept, 1 broken, 2 inconclusive\n"), "{said}");
}

#[test]
fn json_has_every_judgement_with_its_range() {
    let output = check(&[BROKEN, OPEN].concat(), &[HOLD_300, "--json"]);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    let judgements = &value["judgements"];
    assert_eq!(judgements[0]["verdict"], "broken");
    assert_eq!(judgements[0]["measured"]["high"], 44.0);
    assert_eq!((&judgements[1]["verdict"], &judgements[1]["measured"]), (&"cannot_tell".into(), &Value::Null));
    assert_eq!((&value["kept"], &value["broken"], &value["cannot_tell"]), (&0.into(), &1.into(), &1.into()));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn junit_is_written_beside_what_is_printed() {
    let dir = tempfile::tempdir().unwrap();
    let xml = dir.path().join("check.xml");
    let output = check(&[KEPT, BROKEN, OPEN].concat(), &[HOLD_300, "--junit", xml.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let xml = fs::read_to_string(xml).unwrap();
    assert!(xml.contains("tests=\"3\" failures=\"1\" errors=\"1\""), "{xml}");
    assert!(xml.contains("name=\"a &lt; b\""), "{xml}");
    assert!(!text(&output.stdout).is_empty());
}

#[test]
fn junit_that_cannot_be_written_is_an_error_but_hides_no_broken_rule() {
    let gone = &[HOLD_300, "--junit", "/nonexistent/check.xml"];
    for (rules, code) in [(KEPT, 2), (BROKEN, 1)] {
        let output = check(rules, gone);
        assert_eq!(output.status.code(), Some(code));
        assert!(text(&output.stderr).contains("cannot write /nonexistent/check.xml"));
        assert!(!text(&output.stdout).is_empty(), "the verdicts are printed all the same");
    }
}

#[test]
fn a_capture_that_cannot_be_read_leaves_its_rules_open_and_hides_no_broken_one() {
    assert_eq!(code(KEPT, &[HOLD_300, "/nonexistent.bounce"]), 2);
    assert_eq!(code(BROKEN, &["/nonexistent.bounce", HOLD_300]), 1);
    let said = text(&check(KEPT, &["/nonexistent.bounce"]).stdout);
    assert!(said.contains("CANNOT TELL") && said.contains("No such file"), "{said}");
    let output = check(KEPT, &[HOLD_300, "/nonexistent.bounce", "rustfmt.toml", "--ktap"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("\nok 1 ") && said.contains("\nnot ok 2 ") && said.contains("\nnot ok 3 "), "{said}");
    assert!(said.contains(": error: cannot open /nonexistent.bounce: No such file"), "{said}");
    assert!(said.contains("\n  not ok 1 mappings-300\n") && !said.contains("SKIP"), "{said}");
}

#[test]
fn a_capture_that_was_cut_keeps_no_upper_limit() {
    let whole = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(ROOMY)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut.bounce");
    fs::write(&cut, &whole[..whole.len() - 40]).unwrap();
    let cut = cut.to_str().unwrap();
    assert_eq!(code("[[rule]]\nfigure = \"failed\"\nmax = 0\n", &[ROOMY]), 0);
    assert_eq!(code("[[rule]]\nfigure = \"failed\"\nmax = 0\n", &[cut]), 2);
    assert_eq!(code("[[rule]]\nfigure = \"bounces\"\nmax = 0\n", &[cut]), 1);
}

#[test]
fn policies_are_found_beside_the_rules() {
    let (dir, path) =
        rules("[what-if]\npolicy = \"never.toml\"\n[[rule]]\ndevice = \"*\"\nfigure = \"bounces\"\nmax = 0\n");
    fs::write(dir.path().join("never.toml"), "name = \"mine\"\ncaches = 128\nbounce = \"never\"\n").unwrap();
    let output = bouncescope(&["check", path.to_str().unwrap(), HOLD_300]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(said.contains("mine") && said.contains("(0000:00:04.0)"), "{said}");
}

#[test]
fn every_policy_there_is_can_be_judged() {
    for policy in ["packed", "exact", "dynamic", "always-small"] {
        let text = format!("[what-if]\npolicy = \"{policy}\"\n[[rule]]\nfigure = \"buffers\"\nmin = 300\n");
        assert_eq!(code(&text, &[HOLD_300]), 0, "{policy}");
    }
}

#[test]
fn nonsense_is_told_in_one_line_with_the_place_and_the_choices() {
    for (nonsense, says) in [
        ("", "line 1: there is no [[rule]]"),
        ("[[rule]\n", "line 1: a ] is missing"),
        ("[[rule]]\nfigure = \"bounce\"\nmax = 0\n", "line 2: no figure 'bounce'; figures are: "),
        ("[[rule]]\nfigure = \"failed\"\nmaximum = 0\n", "line 3: no key 'maximum'; keys are: "),
        (
            "[[rule]]\nfigure = \"failed\"\nmax = \"50 %\"\n",
            "line 3: \"50 %\" is not a limit for failed: a whole number",
        ),
        (
            "[[rule]]\nfigure = \"peak-slots\"\ndevice = \"x\"\nmax = 0\n",
            "line 3: peak-slots is a figure of everything",
        ),
        ("[what-if]\npolicy = \"gone.toml\"\n", "line 2: cannot read "),
    ] {
        let output = check(nonsense, &[HOLD_300]);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{said}");
        assert!(said.contains("lab.toml") && said.contains(says), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn without_rules_or_without_captures_nothing_passes() {
    assert_eq!(bouncescope(&["check"]).status.code(), Some(2));
    assert_eq!(check(KEPT, &[]).status.code(), Some(2));
    assert_eq!(bouncescope(&["check", "/nonexistent.toml", HOLD_300]).status.code(), Some(2));
}

#[test]
fn the_example_in_the_documentation_prints_what_is_said_there() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check.md")).unwrap();
    let block = |language: &str| page.split(&format!("```{language}\n")).nth(1).unwrap().split("```").next().unwrap();
    let (command, printed) = block("console").split_once('\n').unwrap();
    let captures: Vec<&str> = command.strip_prefix("$ bouncescope check lab.toml ").unwrap().split(' ').collect();
    let output = check(block("toml"), &captures);
    assert_eq!(text(&output.stdout), printed, "{}", text(&output.stderr));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn every_figure_is_in_the_documentation() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/check.md")).unwrap();
    let said = text(&check("[[rule]]\nfigure = \"\"\nmax = 0\n", &[HOLD_300]).stderr);
    let figures: Vec<&str> = said.split("figures are: ").nth(1).unwrap().trim().split(", ").collect();
    assert_eq!(figures.len(), 25, "{said}");
    for figure in figures {
        assert!(page.contains(&format!("| `{figure}` | ")), "{figure}");
    }
}
