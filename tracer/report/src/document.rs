//! A report before it is written down: sections of words, tables and plots. [`super::html`] and [`super::markdown`] write it;
//! what stands in it is made in [`super::page`].

use super::answer::{Fact, Verdict};
use super::table::bytes;

/// A whole report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// What it is about, in a line.
    pub title: String,
    /// Its parts, in order.
    pub sections: Vec<Section>,
}

/// A part of a report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// Its name in links, one of a kind in the document.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// It begins another capture, of which the sections that follow are parts.
    pub is_part: bool,
    /// It is for who wants to know more: a page shows its heading alone until it is opened.
    pub is_detail: bool,
    /// What stands in it.
    pub blocks: Vec<Block>,
}

impl Section {
    /// A section of these blocks.
    pub(super) fn new(id: &str, title: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self { id: id.to_owned(), title: title.into(), is_part: false, is_detail: false, blocks }
    }

    /// The same, as a detail.
    pub(super) fn detail(id: &str, title: impl Into<String>, blocks: Vec<Block>) -> Self {
        Self { is_detail: true, ..Self::new(id, title, blocks) }
    }
}

/// One thing in a section.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    /// The answer, for who reads nothing else.
    Answer {
        /// Whether mappings are refused.
        verdict: Verdict,
        /// It as a sentence.
        words: String,
        /// What leaves it, or figures behind it, in doubt.
        doubts: Vec<String>,
    },
    /// The numbers that the answer rests on.
    Facts(Vec<Fact>),
    /// Columns beside each other where there is room, else one below the other.
    Abreast(Vec<Vec<Block>>),
    /// Words.
    Words(String),
    /// Sentences, each for itself.
    List(Vec<String>),
    /// What a command prints, as it prints it.
    Printed(String),
    /// A table.
    Table(Table),
    /// A plot, as an SVG element, and what it shows in words.
    Plot {
        /// The SVG.
        svg: String,
        /// For who cannot see it.
        words: String,
    },
}

/// A table. The first row of headings stands over every column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// Names of the columns.
    pub headings: Vec<String>,
    /// Cells, a row after the other, as many in each as there are headings.
    pub rows: Vec<Vec<Cell>>,
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cell {
    /// What is shown.
    pub text: String,
    /// What it is sorted by; words by themselves.
    pub value: Option<f64>,
}

impl Table {
    /// Without rows.
    pub(super) fn new<S: Into<String>>(caption: &str, headings: impl IntoIterator<Item = S>) -> Self {
        Self { caption: caption.to_owned(), headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// The table, or what to say where it has no rows.
    pub(super) fn or(self, otherwise: &str) -> Block {
        if self.rows.is_empty() { Block::Words(otherwise.to_owned()) } else { Block::Table(self) }
    }

    /// Keeps the first rows, and says how many there are more.
    pub(super) fn first(mut self, rows: usize) -> Self {
        if self.rows.len() > rows {
            self.caption += &format!(" (the first {rows} of {})", self.rows.len());
            self.rows.truncate(rows);
        }
        self
    }
}

impl Cell {
    /// Words.
    pub(super) fn words(text: impl Into<String>) -> Self {
        Self { text: text.into(), value: None }
    }

    /// A number.
    pub(super) fn count(count: u64) -> Self {
        Self { text: count.to_string(), value: Some(count as f64) }
    }

    /// Bytes.
    pub(super) fn bytes(count: u64) -> Self {
        Self { text: bytes(count), value: Some(count as f64) }
    }

    /// A number that is shown otherwise.
    pub(super) fn shown(text: impl Into<String>, value: f64) -> Self {
        Self { text: text.into(), value: Some(value) }
    }
}
