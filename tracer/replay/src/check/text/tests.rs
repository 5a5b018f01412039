//! What is read, and what is said of a text that is wrong.

use super::super::{End, IfAbsent, RunOf};
use super::*;

fn read(text: &str) -> Result<Rules, RulesError> {
    Rules::from_toml(text, |path| match path {
        "mine.toml" => Ok("name = \"mine\"\ncaches = 8\nbounce = \"never\"\n".to_owned()),
        "bad.toml" => Ok("name = \"bad\"\ncaches = 8\nbounce = \"sometimes\"\n".to_owned()),
        _ => Err(format!("cannot read {path}")),
    })
}

fn wrong(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn a_rule_is_read_with_what_it_leaves_out() {
    let rules = read("[[rule]]\nfigure = \"failed\"\nmax = 0\n").unwrap();
    let rule = &rules.rules[0];
    assert_eq!((rule.name.as_str(), &rule.selector), ("failed <= 0", &Selector::Totals));
    assert_eq!((rule.each, rule.if_absent, &rule.run), (true, IfAbsent::Unknown, &RunOf::Real));
    assert_eq!(rule.limit, Limit { min: None, max: Some(End::Fixed(0.0)) });
}

#[test]
fn a_rule_is_read_with_all_that_it_can_say() {
    let text = "[what-if]\npolicy = \"legacy\"\nswiotlb = \"4M\"\n\
                [[rule]]\nname = \"x\"\ndriver = \"usb*\"\nfigure = \"bytes-copied\"\nmin = 1\nmax = \"64K\"\neach = false\n\
                if-absent = \"pass\"\nwhat-if = { policy = \"mine.toml\", cache-line-size = 128, when-full = \"fallback\" }\n\
                [[rule]]\ndevice = \"1-1\"\nfigure = \"bounces-per-second\"\nmax = 0.5\n\
                [[rule]]\nfigure = \"peak-percent\"\nmax = \"50 %\"\nreal-run = true\n";
    let rules = read(text).unwrap().rules;
    assert_eq!((rules[0].each, rules[0].if_absent), (false, IfAbsent::Pass));
    assert_eq!(rules[0].limit, Limit { min: Some(End::Fixed(1.0)), max: Some(End::Fixed(65536.0)) });
    assert_eq!(rules[0].run.describe(), "mine, line 128");
    assert_eq!(rules[1].run.describe(), "legacy, pool 4M", "the file's own, where the rule has none");
    assert_eq!(rules[1].name, "device 1-1: bounces-per-second <= 0.50/s");
    assert_eq!(rules[2].run, RunOf::Real);
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_the_choices() {
    let cases = [
        ("", "line 1: there is no [[rule]]"),
        ("[what-if]\npolicy = \"legacy\"\n", "line 3: there is no [[rule]]"),
        ("[[rule]]\nfigure = \"bounce\"\nmax = 0\n", "line 2: no figure 'bounce'; figures are: mappings, "),
        ("[[rule]]\nfigure = \"failed\"\nmax = 0\ncolour = 3\n", "line 4: no key 'colour'; keys are: name, "),
        ("[rules]\n", "line 1: no key 'rules'; keys are: tolerate-losses, what-if, rule"),
        ("[[rule]]\nmax = 0\n", "line 1: figure is missing"),
        ("[[rule]\nfigure = \"failed\"\n", "line 1: a ] is missing"),
        ("[rule]\nfigure = \"failed\"\n", "line 1: write [[rule]], with two brackets"),
        ("[[rule]]\nfigure = 3\n", "line 2: a string belongs here, not 3"),
        ("[[rule]]\nfigure = \"failed\"\nwhat-if = 3\n", "line 3: a table belongs here, not 3"),
        ("\n\n[[rule]]\nfigure = \"failed\"\n", "line 3: the rule has neither max nor min"),
        ("[[rule]]\nfigure = \"failed\"\nmax = \"4M\"\n", "line 3: \"4M\" is not a limit for failed: a whole number"),
        ("[[rule]]\nfigure = \"failed\"\nmin = 3\nmax = 2\n", "line 3: min is more than max"),
        (
            "[[rule]]\nfigure = \"losses\"\ndevice = \"x\"\nmax = 0\n",
            "line 3: losses is a figure of everything together",
        ),
        (
            "[[rule]]\nfigure = \"lists-losing-concatenation\"\ndevice = \"x\"\nmax = 0\n",
            "line 3: lists-losing-concatenation is a figure of drivers",
        ),
        (
            "[[rule]]\nfigure = \"failed\"\ndevice = \"x\"\ndriver = \"y\"\nmax = 0\n",
            "line 4: a rule has one of device, driver, call-site",
        ),
        ("[[rule]]\nfigure = \"failed\"\ndevice = \"\"\nmax = 0\n", "line 3: device is empty"),
        ("[[rule]]\nfigure = \"failed\"\nmax = 0\nname = \"\"\n", "line 4: name is empty"),
        ("[[rule]]\nfigure = \"failed\"\nmax = 0\neach = true\n", "line 4: each is for a rule with device"),
        ("[[rule]]\nfigure = \"failed\"\nmax = 0\nif-absent = \"pass\"\n", "line 4: if-absent is for a rule with"),
        (
            "[[rule]]\nfigure = \"failed\"\nmax = 0\ndevice = \"x\"\nif-absent = \"fail\"\n",
            "line 5: 'fail' is none of: unknown, pass",
        ),
        (
            "[[rule]]\nfigure = \"failed\"\nmax = 0\nreal-run = true\nwhat-if = { policy = \"legacy\" }\n",
            "line 5: what-if and real-run exclude each other",
        ),
        (
            "[[rule]]\nfigure = \"losses\"\nmax = 0\nwhat-if = { policy = \"legacy\" }\n",
            "line 4: losses is of the recording",
        ),
    ];
    for (text, says) in cases {
        let said = wrong(text);
        assert!(said.starts_with(says), "{said}, for {text}");
    }
}

#[test]
fn what_is_wrong_in_a_what_if_is_told_with_its_line_and_the_choices() {
    let said = |what_if: &str| wrong(&format!("[what-if]\n{what_if}\n[[rule]]\nfigure = \"failed\"\nmax = 0\n"));
    for (what_if, says) in [
        ("policy = \"nonsense\"", "no policy nonsense; there are legacy"),
        ("policy = \"none.toml\"", "cannot read none.toml"),
        ("policy = \"bad.toml\"", "bad.toml: line 3: 'sometimes' is none of: "),
        ("swiotlb = \"4X\"", "'4X' is none of: captured, default, none, dynamic"),
        ("cache-line-size = 48", "48 is not a power of two"),
        ("minalign = -8", "-8 is not a power of two"),
        ("lists = \"some\"", "'some' is none of: whole-list, "),
        ("colour = 3", "no key 'colour'; keys are: policy, "),
    ] {
        let said = said(what_if);
        assert!(said.starts_with("line 2: ") && said.contains(says), "{said}");
    }
}

#[test]
fn figures_of_the_recording_take_no_notice_of_the_files_what_if() {
    let rules = read("[what-if]\npolicy = \"legacy\"\n[[rule]]\nfigure = \"losses\"\nmax = 0\n").unwrap();
    assert_eq!(rules.rules[0].run, RunOf::Real);
}
