//! Plots as SVG: what there is to draw ([`Plot`]), how it is drawn ([`draw`]), and which there are ([`curves`], [`bars`]).
//!
//! The SVG holds the colours of print; a page in the dark exchanges them one for one. Every mark has its values in words.

mod bars;
mod curves;
mod draw;

pub(super) use bars::{by_alignment, by_length, memory};
pub(super) use curves::{failures, hazards, line_sizes, occupancy};
pub(super) use draw::svg;

/// A plot.
#[derive(Clone, Debug, Default)]
pub(super) struct Plot {
    /// What it shows.
    pub(super) title: String,
    /// Of what: kernel, capture, losses.
    pub(super) about: String,
    /// Along the bottom, with its unit.
    pub(super) x: Axis,
    /// Up the side, with its unit.
    pub(super) y: Axis,
    /// What is drawn, the first one at the bottom.
    pub(super) series: Vec<Series>,
    /// Places that have values to be told, left to right.
    pub(super) marks: Vec<Mark>,
}

/// An axis from 0 on.
#[derive(Clone, Debug, Default)]
pub(super) struct Axis {
    /// Name and unit.
    pub(super) name: String,
    /// Its largest value.
    pub(super) most: f64,
    /// Names of the values 0.5, 1.5, 2.5 and so on; empty for a scale of numbers.
    pub(super) names: Vec<String>,
    /// There is nothing between one number and the next.
    pub(super) whole: bool,
    /// The distance from 0 grows with the logarithm of the value and 1.
    pub(super) logarithmic: bool,
}

/// Things drawn alike.
#[derive(Clone, Debug)]
pub(super) struct Series {
    /// What they are.
    pub(super) name: String,
    /// Their colour.
    pub(super) colour: Colour,
    /// What is drawn.
    pub(super) shape: Shape,
}

/// A colour, by what it is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    /// One of several policies, or kinds.
    Nth(usize),
    /// What the kernel itself did.
    Kernel,
    /// Where there is no more.
    Limit,
}

/// What is drawn.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// A line through these points.
    Line(Vec<(f64, f64)>),
    /// A line that keeps each point's height until the next one.
    Steps(Vec<(f64, f64)>),
    /// A dashed line through these points.
    Dashes(Vec<(f64, f64)>),
    /// A dot at each.
    Dots(Vec<(f64, f64)>),
    /// A bar from the one corner to the other.
    Bars(Vec<((f64, f64), (f64, f64))>),
}

/// A place that has values to be told.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// From the one corner to the other.
    pub(super) area: Area,
    /// The values.
    pub(super) words: String,
}

/// A place in a plot.
#[derive(Clone, Copy, Debug)]
pub(super) enum Area {
    /// The whole height, from here to there.
    Columns(f64, f64),
    /// Around a point.
    Around(f64, f64),
}

/// Bars of fewer names would be blocks.
const FEWEST: usize = 5;

impl Axis {
    /// Of numbers.
    fn numbers(name: impl Into<String>, most: u64) -> Self {
        Self { name: name.into(), most: most.max(1) as f64, whole: true, ..Self::default() }
    }

    /// Of numbers of which some are much larger than others.
    fn counts(name: impl Into<String>, most: u64) -> Self {
        Self { logarithmic: most > 1000, ..Self::numbers(name, most) }
    }

    /// Of names, side by side.
    fn names(name: impl Into<String>, names: Vec<String>) -> Self {
        Self { name: name.into(), most: names.len().max(FEWEST) as f64, names, ..Self::default() }
    }

    /// Where a value is, from 0 to [`Axis::end`].
    fn at(&self, value: f64) -> f64 {
        if self.logarithmic { (1.0 + value.max(0.0)).log10() } else { value }
    }

    /// Where the axis ends: a little beyond its largest value.
    fn end(&self) -> f64 {
        if self.names.is_empty() { self.at(self.most) * 1.06 } else { self.most }
    }
}

impl Plot {
    /// Nothing but zeros, or nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}
