//! Verdicts on rules as KTAP (`Documentation/dev-tools/ktap.rst`), as LAVA and the kernel's own test tools read it: a test for each
//! capture with a subtest for each judgement. A rule that is inconclusive is skipped, with why. What cannot be read is `not ok`, with the error.

use super::check::{figure, name};
use bouncescope_replay::check::{Judgement, Verdict};

/// The whole document.
pub fn text(judgements: &[Judgement]) -> String {
    let captures: Vec<&[Judgement]> = judgements.chunk_by(|a, b| a.capture == b.capture).collect();
    let mut text = format!("KTAP version 1\n1..{}\n", captures.len());
    for (n, of_one) in captures.iter().enumerate() {
        let capture = word(&of_one[0].capture);
        text += &format!("  KTAP version 1\n  # Subtest: {capture}\n  1..{}\n", of_one.len());
        let mut names: Vec<String> = Vec::new();
        for (m, judgement) in of_one.iter().enumerate() {
            names.push(unique(&word(&name(judgement)), &names));
            text += &result(judgement, m + 1, &names[m]);
        }
        let is_not_ok = |verdict: &Verdict| matches!(verdict, Verdict::Broken | Verdict::Unreadable(_));
        let is_broken = of_one.iter().any(|judgement| is_not_ok(&judgement.verdict));
        let all_open = of_one.iter().all(|judgement| matches!(judgement.verdict, Verdict::CannotTell(_)));
        text += &format!("{} {} {capture}", if is_broken { "not ok" } else { "ok" }, n + 1);
        text += if all_open { " # SKIP every rule is inconclusive\n" } else { "\n" };
    }
    text
}

/// A judgement, after its figure as a diagnostic line.
fn result(judgement: &Judgement, number: usize, name: &str) -> String {
    let said = figure(judgement, "limit");
    let (said, verdict, directive) = match &judgement.verdict {
        Verdict::Kept => (said, "ok", String::new()),
        Verdict::Broken => (said, "not ok", String::new()),
        Verdict::CannotTell(why) => (said, "ok", format!(" # SKIP {}", in_a_line(why))),
        Verdict::Unreadable(why) => (format!("error: {why}"), "not ok", String::new()),
    };
    format!("  # {name}: {}\n  {verdict} {number} {name}{directive}\n", in_a_line(&said))
}

/// One word of a text, of the characters that all parsers take in a name.
fn word(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { ' ' };
    let words: Vec<String> =
        text.chars().map(plain).collect::<String>().split_whitespace().map(str::to_owned).collect();
    if words.is_empty() { "rule".to_owned() } else { words.join("-") }
}

/// The name, with a number behind it where another has it already.
fn unique(name: &str, others: &[String]) -> String {
    let numbered = (2..).map(|n| format!("{name}-{n}"));
    let mut names = [name.to_owned()].into_iter().chain(numbered);
    names.find(|name| !others.contains(name)).unwrap_or_default()
}

fn in_a_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_word_each_and_differ() {
        assert_eq!(word("driver *: bounces <= 1M/s (xhci_hcd)"), "driver-bounces-1M-s-xhci_hcd");
        assert_eq!(word(" # \n"), "rule");
        assert_eq!(unique("a", &["a".to_owned(), "a-2".to_owned()]), "a-3");
        assert_eq!(in_a_line("a\nok 9 forged"), "a ok 9 forged");
    }
}
