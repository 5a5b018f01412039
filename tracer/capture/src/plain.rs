//! Text from elsewhere, as it may be shown: nothing in it controls a terminal, ends a line, or turns the reading direction.
//!
//! Devices name themselves (USB strings, firmware), tasks rename themselves, captures come from strangers. Whatever shows such a name
//! to people brings it through here, once, where it enters.

use std::borrow::Cow;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The text with every character that is not shown as itself written as an escape, such as `\u{1b}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    if text.chars().any(controls) { Cow::Owned(escaped(text, controls)) } else { Cow::Borrowed(text) }
}

/// The same for text of several lines, which keeps line ends and tabs.
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    let controls = |c| controls(c) && c != '\n' && c != '\t';
    if text.chars().any(controls) { Cow::Owned(escaped(text, controls)) } else { Cow::Borrowed(text) }
}

/// The first `most` characters; `…` stands for the rest.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        Some(_) => {
            let end = text.char_indices().nth(most.saturating_sub(1)).map_or(0, |(at, _)| at);
            Cow::Owned(format!("{}…", &text[..end]))
        }
        None => Cow::Borrowed(text),
    }
}

/// Every text in a value, keys included, made plain and no longer than `longest` bytes.
pub fn plain_words<T: Serialize + DeserializeOwned>(value: &mut T, longest: usize) {
    let Ok(mut json) = serde_json::to_value(&*value) else { return };
    if clean(&mut json, longest)
        && let Ok(cleaned) = serde_json::from_value(json)
    {
        *value = cleaned;
    }
}

/// A text made plain, and cut behind `longest` bytes; whether it was not so before.
pub fn plain_word(text: &mut String, longest: usize) -> bool {
    let mut changed = false;
    if text.len() > longest {
        let end = (0..=longest).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
        changed = true;
    }
    if let Cow::Owned(cleaned) = plain(text) {
        *text = cleaned;
        changed = true;
    }
    changed
}

fn clean(value: &mut Value, longest: usize) -> bool {
    match value {
        Value::String(text) => plain_word(text, longest),
        // No short cut: each has to be looked at.
        Value::Array(values) => values.iter_mut().fold(false, |changed, value| clean(value, longest) | changed),
        Value::Object(members) => {
            let is_clean = |key: &String| key.len() <= longest && !key.chars().any(controls);
            let mut changed = !members.keys().all(is_clean);
            if changed {
                let rename = |(mut key, value)| {
                    plain_word(&mut key, longest);
                    (key, value)
                };
                *members = std::mem::take(members).into_iter().map(rename).collect();
            }
            for value in members.values_mut() {
                changed |= clean(value, longest);
            }
            changed
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn escaped(text: &str, controls: impl Fn(char) -> bool) -> String {
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if controls(c) { plain.extend(c.escape_default()) } else { plain.push(c) }
    }
    plain
}

/// Characters that do something instead of being seen: C0 and C1 controls, line and paragraph separators, and the formatting characters
/// (Unicode's category Cf) that hide, join or turn what is beside them.
pub fn controls(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Counters, Device};

    #[test]
    fn what_controls_a_terminal_a_line_or_the_direction_is_spelt_out() {
        assert_eq!(plain("a\x1b]0;title\x07b\nc\u{202e}d\u{9b}1m"), r"a\u{1b}]0;title\u{7}b\nc\u{202e}d\u{9b}1m");
        assert_eq!(plain_lines("a\tb\nc\rd"), "a\tb\nc\\rd");
    }

    #[test]
    fn names_of_every_script_stay_as_they_are() {
        for name in ["0000:00:03.0", "müller's Gerät", "設備", "جهاز", "שלום", "😀", r"\_SB_.PCI0"] {
            assert!(matches!(plain(name), Cow::Borrowed(_)), "{name}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
        let mut name = "ä".repeat(200);
        assert!(plain_word(&mut name, 255));
        assert_eq!(name, "ä".repeat(127) + "…");
    }

    #[test]
    fn every_text_of_a_value_is_made_plain_and_numbers_stay() {
        let mut device =
            Device { name: "a\nb".into(), driver: "\x1b[2J".into(), dma_mask: u64::MAX, ..Device::default() };
        plain_words(&mut device, 256);
        assert_eq!((device.name.as_str(), device.driver.as_str(), device.dma_mask), (r"a\nb", r"\u{1b}[2J", u64::MAX));
        let mut counters = Counters { lost: [("missed.\n".into(), vec![1, 2])].into(), ..Counters::default() };
        plain_words(&mut counters, 256);
        assert_eq!(counters.lost.keys().next().map(ToString::to_string).as_deref(), Some(r"missed.\n"));
    }
}
