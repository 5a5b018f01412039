//! The figures that rules are about: their names, their units, and of what each can be told.

use serde::{Deserialize, Serialize};

use crate::size::exact;

/// A figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// Mappings.
    Mappings,
    /// Their buffers.
    Buffers,
    /// Buffers that bounce.
    Bounces,
    /// The same, a second of the recording.
    BouncesPerSecond,
    /// Bytes copied into and out of the pool.
    BytesCopied,
    /// The same, a second.
    BytesCopiedPerSecond,
    /// Mappings refused.
    Failed,
    /// Buffers written by a device in whose lines something else is known to be in use.
    UnsafeCertain,
    /// The same, where it is not known what else lies in the lines.
    UnsafePossible,
    /// Buffers that bounce for alignment although they are alone in their lines.
    BouncesNotNeeded,
    /// Scatterlists behind an IOMMU that are no longer concatenated.
    ListsLosingConcatenation,
    /// Most slots of the pool in use at once.
    PeakSlots,
    /// The same, of all slots.
    PeakPercent,
    /// CPU time of the pool's functions, of the time of one CPU.
    PoolCpuPercent,
    /// Records lost, and frames of the capture damaged.
    Losses,
    /// Mappings and totals about which model and kernel disagree.
    Disagreements,
    /// Mappings about which the capture does not tell what became of them.
    Unknown,
}

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count.
    Count,
    /// A count, a second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// Bytes, a second.
    BytesPerSecond,
    /// Parts of a hundred.
    Percent,
}

/// Of what a figure can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of everything, or of some device, driver or call site.
    Any,
    /// Of everything, or of some driver.
    Drivers,
    /// Of everything together.
    Totals,
}

/// Where a figure of the real run comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// What was recorded.
    Events,
    /// The model of the captured kernel: no event tells it.
    Model,
    /// The recording itself: a what-if has none of its own.
    Capture,
}

impl Figure {
    /// Its name in rules.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mappings => "mappings",
            Self::Buffers => "buffers",
            Self::Bounces => "bounces",
            Self::BouncesPerSecond => "bounces-per-second",
            Self::BytesCopied => "bytes-copied",
            Self::BytesCopiedPerSecond => "bytes-copied-per-second",
            Self::Failed => "failed",
            Self::UnsafeCertain => "unsafe-certain",
            Self::UnsafePossible => "unsafe-possible",
            Self::BouncesNotNeeded => "bounces-not-needed",
            Self::ListsLosingConcatenation => "lists-losing-concatenation",
            Self::PeakSlots => "peak-slots",
            Self::PeakPercent => "peak-percent",
            Self::PoolCpuPercent => "pool-cpu-percent",
            Self::Losses => "losses",
            Self::Disagreements => "disagreements",
            Self::Unknown => "unknown",
        }
    }

    /// What it is measured in.
    pub fn unit(self) -> Unit {
        match self {
            Self::BouncesPerSecond => Unit::PerSecond,
            Self::BytesCopied => Unit::Bytes,
            Self::BytesCopiedPerSecond => Unit::BytesPerSecond,
            Self::PeakPercent | Self::PoolCpuPercent => Unit::Percent,
            _ => Unit::Count,
        }
    }

    /// Of what it can be told.
    pub fn scope(self) -> Scope {
        match self {
            Self::ListsLosingConcatenation => Scope::Drivers,
            Self::PeakSlots
            | Self::PeakPercent
            | Self::PoolCpuPercent
            | Self::Losses
            | Self::Disagreements
            | Self::Unknown => Scope::Totals,
            _ => Scope::Any,
        }
    }

    pub(super) fn source(self) -> Source {
        match self {
            Self::UnsafeCertain | Self::UnsafePossible | Self::BouncesNotNeeded | Self::ListsLosingConcatenation => {
                Source::Model
            }
            Self::Losses | Self::Disagreements | Self::Unknown => Source::Capture,
            _ => Source::Events,
        }
    }

    /// It needs to be known whose objects the buffers are.
    pub(super) fn is_about_neighbours(self) -> bool {
        matches!(self, Self::UnsafeCertain | Self::UnsafePossible | Self::BouncesNotNeeded)
    }
}

impl Unit {
    /// A value as people read it, and as a limit is written.
    pub fn show(self, value: f64) -> String {
        let number = if value.fract() == 0.0 {
            format!("{value:.0}")
        } else if value < 0.01 {
            format!("{value:.1e}")
        } else {
            format!("{value:.2}")
        };
        match self {
            Self::Count => number,
            Self::PerSecond => format!("{number}/s"),
            Self::Bytes | Self::BytesPerSecond => {
                let size = if value.fract() == 0.0 { exact(value as u64) } else { number };
                let unit = if size.ends_with(|last: char| last.is_ascii_digit()) { " B" } else { "" };
                let per = if self == Self::Bytes { "" } else { "/s" };
                format!("{size}{unit}{per}")
            }
            Self::Percent => format!("{number} %"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_with_their_unit_and_none_that_is_not_0_as_0() {
        assert_eq!(Unit::Count.show(596.0), "596");
        assert_eq!([0.0, 20.513, 1e-5].map(|value| Unit::PerSecond.show(value)), ["0/s", "20.51/s", "1.0e-5/s"]);
        assert_eq!([0.0, 15136.0, 65536.0].map(|value| Unit::Bytes.show(value)), ["0 B", "15136 B", "64K"]);
        assert_eq!([0.5, 1_048_576.0].map(|value| Unit::BytesPerSecond.show(value)), ["0.50 B/s", "1M/s"]);
        assert_eq!(Unit::Percent.show(50.0), "50 %");
    }

    #[test]
    fn a_figure_is_read_by_the_name_that_it_is_shown_by() {
        for figure in [Figure::BouncesPerSecond, Figure::PoolCpuPercent, Figure::ListsLosingConcatenation] {
            let name = serde_json::Value::from(figure.name());
            assert_eq!(serde_json::from_value::<Figure>(name).unwrap(), figure);
        }
    }
}
