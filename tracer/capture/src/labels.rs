//! Labels: what somebody says of the machine that a capture was made on, such as its board and build.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Labels that a capture may have.
const MOST: usize = 64;
/// Longest name, bytes.
const LONGEST_NAME: usize = 64;
/// Longest value, bytes.
const LONGEST_VALUE: usize = 256;

/// The labels of a capture, by name. Those of a file from elsewhere may be anything that JSON can hold as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

/// A label to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name: lower-case letters, digits, `-`, `_` and `.`, at most 64, a letter first.
    pub name: String,
    /// What it says, at most 256 bytes, without control characters.
    pub value: String,
}

/// Why a label cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// There is no `=`.
    #[error("a label is NAME=VALUE, such as board=rk3588-evb")]
    NoValue,
    /// The name is none.
    #[error("a label's name has lower-case letters, digits, - _ and ., at most {LONGEST_NAME} of them, a letter first")]
    Name,
    /// The value cannot be kept.
    #[error("a label's value has 1 to {LONGEST_VALUE} bytes, without control characters")]
    Value,
    /// There are too many.
    #[error("a capture has at most {MOST} labels")]
    TooMany,
}

impl Labels {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the label of this name says.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Sets a label, in place of one of the same name.
    pub fn set(&mut self, label: Label) -> Result<(), LabelError> {
        if self.0.len() >= MOST && !self.0.contains_key(&label.name) {
            return Err(LabelError::TooMany);
        }
        self.0.insert(label.name, label.value);
        Ok(())
    }

    /// Takes a label off; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }
}

/// `board=rk3588-evb, build=1234`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (name, value)) in self.iter().enumerate() {
            write!(f, "{}{name}={value}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Label {
    /// A label of this name and value, where both are possible.
    pub fn new(name: &str, value: &str) -> Result<Self, LabelError> {
        if !is_name(name) {
            return Err(LabelError::Name);
        }
        if value.is_empty() || value.len() > LONGEST_VALUE || value.chars().any(crate::plain::controls) {
            return Err(LabelError::Value);
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// `NAME=VALUE`.
impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let (name, value) = text.split_once('=').ok_or(LabelError::NoValue)?;
        Self::new(name, value)
    }
}

/// Whether this may be the name of a label.
pub fn is_name(text: &str) -> bool {
    let possible = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    text.len() <= LONGEST_NAME && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(possible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_name_and_a_value() {
        let label = |name: &str, value: &str| Ok(Label { name: name.to_owned(), value: value.to_owned() });
        assert_eq!("board=Radxa ROCK 5B".parse(), label("board", "Radxa ROCK 5B"));
        assert_eq!("a.b-c_1=x=y".parse(), label("a.b-c_1", "x=y"));
        assert_eq!("board".parse::<Label>(), Err(LabelError::NoValue));
        for name in ["", "Board", "1st", "a b", "ä", &"a".repeat(65)] {
            assert_eq!(Label::new(name, "x"), Err(LabelError::Name), "{name}");
        }
        for value in ["", "two\nlines", "\u{1b}[2J", &"a".repeat(257)] {
            assert_eq!(Label::new("name", value), Err(LabelError::Value), "{value:?}");
        }
    }

    #[test]
    fn there_are_only_so_many() {
        let mut labels = Labels::default();
        for n in 0..MOST {
            labels.set(Label::new(&format!("l{n}"), "x").unwrap()).unwrap();
        }
        assert_eq!(labels.set(Label::new("more", "x").unwrap()), Err(LabelError::TooMany));
        labels.set(Label::new("l0", "y").unwrap()).unwrap();
        assert_eq!(labels.get("l0"), Some("y"));
        assert!(labels.remove("l1") && !labels.remove("l1"));
    }
}
