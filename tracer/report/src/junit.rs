//! Verdicts on rules as JUnit XML, as CI systems read it: a suite for each capture, a case for each judgement. A broken rule is a
//! failure; one that is inconclusive is an error.

use super::check::{figure, name};
use bouncescope_replay::check::{Judgement, Verdict};

/// The whole document.
pub fn xml(judgements: &[Judgement]) -> String {
    let mut captures: Vec<&str> = Vec::new();
    for judgement in judgements {
        if !captures.contains(&judgement.capture.as_str()) {
            captures.push(&judgement.capture);
        }
    }
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"bouncescope check\" {}>\n",
        counts(judgements.iter())
    );
    for capture in captures {
        let of = || judgements.iter().filter(|judgement| judgement.capture == capture);
        xml += &format!("  <testsuite name=\"{}\" {}>\n", escaped(capture), counts(of()));
        for judgement in of() {
            xml += &case(judgement);
        }
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

fn counts<'a, 'r: 'a>(judgements: impl Iterator<Item = &'a Judgement<'r>>) -> String {
    let (mut tests, mut failures, mut errors) = (0, 0, 0);
    for judgement in judgements {
        tests += 1;
        failures += u32::from(judgement.verdict == Verdict::Broken);
        errors += u32::from(judgement.verdict.why().is_some());
    }
    format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"0\"")
}

fn case(judgement: &Judgement) -> String {
    let said = figure(judgement, "to be");
    let open =
        format!("    <testcase classname=\"{}\" name=\"{}\"", escaped(&judgement.capture), escaped(&name(judgement)));
    match &judgement.verdict {
        Verdict::Kept => format!("{open}/>\n"),
        Verdict::Broken => {
            format!("{open}>\n      <failure type=\"broken\" message=\"{}\"/>\n    </testcase>\n", escaped(&said))
        }
        Verdict::CannotTell(why) | Verdict::Unreadable(why) => format!(
            "{open}>\n      <error type=\"inconclusive\" message=\"{}\"/>\n    </testcase>\n",
            escaped(&format!("{said}: {why}"))
        ),
    }
}

/// A text as the value of an attribute. What XML 1.0 cannot hold at all becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            // A parser would make blanks of them.
            '\t' | '\n' | '\r' => escaped += &format!("&#{};", u32::from(c)),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use bouncescope_replay::check::{Rules, unreadable};

    #[test]
    fn what_xml_gives_a_meaning_or_cannot_hold_is_escaped() {
        assert_eq!(escaped("<a & \"b\"> 'c'"), "&lt;a &amp; &quot;b&quot;&gt; &apos;c&apos;");
        assert_eq!(escaped("a\nb\tc\u{1}\u{1b}\u{ffff}ä😀"), "a&#10;b&#9;c\u{fffd}\u{fffd}\u{fffd}ä😀");
    }

    #[test]
    fn there_is_a_suite_for_each_capture_and_a_case_for_each_judgement() {
        let text = "[[rule]]\nname = \"a < b & \\\"c\\\"\"\nfigure = \"failed\"\nmax = 0\n";
        let rules = Rules::from_toml(text, |_| Err(String::new())).unwrap();
        let mut judgements = unreadable(&rules, "one", "why <not>");
        judgements.extend(unreadable(&rules, "two", "gone"));
        judgements[1].verdict = Verdict::Broken;
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites name=\"bouncescope check\" tests=\"2\" failures=\"1\" errors=\"1\" skipped=\"0\">
  <testsuite name=\"one\" tests=\"1\" failures=\"0\" errors=\"1\" skipped=\"0\">
    <testcase classname=\"one\" name=\"a &lt; b &amp; &quot;c&quot;\">
      <error type=\"inconclusive\" message=\"failed of real: no figure, to be &lt;= 0: why &lt;not&gt;\"/>
    </testcase>
  </testsuite>
  <testsuite name=\"two\" tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\">
    <testcase classname=\"two\" name=\"a &lt; b &amp; &quot;c&quot;\">
      <failure type=\"broken\" message=\"failed of real: no figure, to be &lt;= 0\"/>
    </testcase>
  </testsuite>
</testsuites>
";
        assert_eq!(xml(&judgements), expected);
    }
}
