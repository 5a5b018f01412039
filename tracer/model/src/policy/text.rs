//! Policies as TOML.

use super::choice::{ALIGNMENTS, CACHES, POOLS};
use super::{Lists, Policy, Rule, WhenFull};

/// Why a text is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It does not read as one.
    #[error("line {line}: {message}")]
    Text {
        /// Line, from 1.
        line: usize,
        /// What is wrong, with the choices there are.
        message: String,
    },
    /// Choices that do not go together.
    #[error("{0}")]
    Choices(String),
}

/// The line that the byte `at` is in, from 1.
pub fn line_at(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

/// What the TOML reader says, in the words of somebody who writes TOML and knows no Rust; in one line.
pub fn in_plain_words(message: &str) -> String {
    let (what, expected) = message.split_once(", expected ").unwrap_or((message, ""));
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    let choices = expected.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(", ");
    let plain = match (what.split_once(" `"), what.split_once(": ")) {
        (Some(("unknown field", _)), _) => quoted(what).map(|key| format!("no key '{key}'; keys are: {choices}")),
        (Some(("unknown variant", _)), _) => quoted(what).map(|word| format!("'{word}' is none of: {choices}")),
        (Some(("missing field", _)), _) => quoted(what).map(|key| format!("{key} is missing")),
        (_, Some(("invalid type" | "invalid value", got))) => {
            let got = quoted(got).unwrap_or_else(|| kind(got).to_owned());
            Some(format!("{} belongs here, not {got}", kind(expected)))
        }
        _ if what.starts_with("unclosed") => quoted(expected).map(|missing| format!("a {missing} is missing")),
        _ => None,
    };
    plain.unwrap_or_else(|| message.to_owned()).replace('\n', "; ")
}

/// A kind of value as TOML calls it.
fn kind(kind: &str) -> &str {
    match kind {
        "map" | "a map" => "a table",
        "sequence" | "a sequence" => "a list",
        "a boolean" => "true or false",
        of_ours if of_ours.starts_with("struct ") => "a table",
        other => other,
    }
}

/// Reads a policy.
pub fn from_toml(text: &str) -> Result<Policy, PolicyError> {
    let policy: Policy = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        PolicyError::Text { line: line_at(text, at), message: in_plain_words(error.message()) }
    })?;
    let wrong = |what: &str| Err(PolicyError::Choices(what.to_owned()));
    if policy.name.is_empty() {
        return wrong("name is empty");
    }
    if policy.below == Some(0) {
        return wrong("below = 0 would bounce nothing: use bounce = \"never\"");
    }
    Ok(policy)
}

/// A policy as a text to start from.
pub fn to_toml(policy: &Policy) -> String {
    let mut text = String::new();
    for line in toml::to_string(policy).unwrap_or_default().lines() {
        let comment = match line.split(' ').next() {
            Some("caches") => CACHES.to_owned(),
            Some("bounce") => Rule::WORDS.to_owned(),
            Some("multiple-of") => format!("of what lengths and starts must be a multiple: {ALIGNMENTS}"),
            Some("lists") => format!("behind an IOMMU: {}", Lists::WORDS),
            Some("pool") => POOLS.to_owned(),
            Some("when-full") => WhenFull::WORDS.to_owned(),
            _ => String::new(),
        };
        if !comment.is_empty() {
            text += &format!("# {comment}\n");
        }
        text += &format!("{line}\n");
    }
    if policy.below.is_none() {
        text += "# lengths from this on never bounce for alignment (with short-or-start: but for their start), bytes\n# below = 256\n";
    }
    if policy.devices.is_empty() {
        text += "\n# [[device]]                # as many as wanted\n# name = \"0000:00:01.0\"     # or * for all\n\
                 # coherent = false\n# untrusted = false\n# own-pool = \"4M\"          # restricted-dma-pool\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Caches, PoolChoice, builtins};
    use super::*;

    #[test]
    fn every_builtin_survives_its_own_text() {
        for policy in builtins() {
            assert_eq!(from_toml(&to_toml(&policy)).unwrap(), policy);
        }
    }

    #[test]
    fn what_the_reader_says_has_no_word_of_rust_in_it() {
        for (message, plain) in [
            ("unknown field `a`, expected one of `b`, `c`", "no key 'a'; keys are: b, c"),
            ("unknown field `a`, expected `b` or `c`", "no key 'a'; keys are: b, c"),
            ("unknown variant `a`, expected `b` or `c`", "'a' is none of: b, c"),
            ("missing field `figure`", "figure is missing"),
            ("invalid type: integer `3`, expected a string", "a string belongs here, not 3"),
            ("invalid type: map, expected a sequence", "a list belongs here, not a table"),
            ("invalid type: string \"x\", expected struct WhatIfText", "a table belongs here, not string \"x\""),
            ("unclosed array table, expected `]`", "a ] is missing"),
            ("duplicate key", "duplicate key"),
            ("a\nb", "a; b"),
        ] {
            assert_eq!(in_plain_words(message), plain);
        }
    }

    #[test]
    fn a_policy_is_read_with_what_it_leaves_out() {
        let text = "name = \"mine\"\ncaches = 32\nbounce = \"short\"\nbelow = 64\nlists = \"flagged\"\npool = \"4M\"\n\
                    [[device]]\nname = \"usb\"\ncoherent = true\nown-pool = 512\n";
        let policy = from_toml(text).unwrap();
        assert_eq!((policy.caches, policy.bounce, policy.below), (Caches::Bytes(32), Rule::Short, Some(64)));
        assert_eq!((policy.lists, policy.pool), (Lists::Flagged, PoolChoice::Slots(2048)));
        assert_eq!(policy.devices[0].coherent, Some(true));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_the_choices() {
        let wrong = |text: &str| from_toml(text).unwrap_err().to_string();
        let bounce = wrong("name = \"x\"\ncaches = 8\nbounce = \"sometimes\"\n");
        assert!(bounce.starts_with("line 3: ") && bounce.contains("length-multiple"), "{bounce}");
        let key = wrong("name = \"x\"\ncaches = 8\nbounce = \"never\"\ncolour = 3\n");
        assert!(key.starts_with("line 4: ") && key.contains("when-full"), "{key}");
        let unit = wrong("name = \"x\"\ncaches = 8\nbounce = \"never\"\npool = \"4X\"\n");
        assert!(unit.starts_with("line 4: ") && unit.contains("a size such as 4M"), "{unit}");
        let below = wrong("name = \"x\"\ncaches = 8\nbounce = \"short\"\nbelow = \"256B\"\n");
        assert!(below.starts_with("line 4: ") && below.contains("a number of bytes, such as 256"), "{below}");
        let caches = wrong("name = \"x\"\ncaches = 48\nbounce = \"never\"\n");
        assert!(caches.starts_with("line 2: ") && caches.contains("power of two"), "{caches}");
    }
}
