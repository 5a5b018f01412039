//! The rows of the table of devices: what each mapped in the window, what bounced, and what would.

use std::cmp::Ordering;

use tracer::replay::statistics::DeviceStatistics;

use super::table::{Sorted, Table};
use crate::answer::Answer;

/// Powers of two of lengths that are told apart; the last holds all that is longer.
pub const LENGTHS: usize = 18;

/// What devices are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Real bounces.
    #[default]
    Bounces,
    /// Predicted bounces.
    Predicted,
    /// Mappings.
    Mappings,
    /// Bytes mapped.
    Bytes,
    /// Name.
    Name,
}

impl Sorted for Order {
    const ALL: &'static [Self] = &[Self::Bounces, Self::Predicted, Self::Mappings, Self::Bytes, Self::Name];

    fn heading(self) -> &'static str {
        match self {
            Self::Bounces => "real",
            Self::Predicted => "predicted",
            Self::Mappings => "maps/s",
            Self::Bytes => "bytes/s",
            Self::Name => "device",
        }
    }
}

/// One device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// `dev_name()`.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// `dev_is_dma_coherent()`.
    pub coherent: bool,
    /// Mappings in the window.
    pub mappings: u64,
    /// Bytes of their buffers.
    pub bytes: u64,
    /// Buffers that bounced.
    pub bounces: u64,
    /// Mappings that were refused.
    pub refused: u64,
    /// Buffers that would bounce.
    pub predicted: u64,
    /// Buffers by length, in powers of two: index n for lengths from 2^n on, below twice that.
    pub lengths: [u64; LENGTHS],
}

/// The devices that pass the filter, in order.
pub fn rows(answer: &Answer, table: &Table<Order>) -> Vec<Row> {
    let predicted = answer.chosen().map(|outcome| &outcome.rows.by_device[..]).unwrap_or_default();
    let statistics = answer.replayed.statistics.devices();
    let row = |observed: &tracer::replay::outcome::DeviceRow| {
        let would = predicted.iter().find(|row| row.device == observed.device).map(|row| row.tally).unwrap_or_default();
        Row {
            name: observed.device.clone(),
            driver: observed.driver.clone(),
            coherent: observed.coherent,
            mappings: observed.tally.mappings,
            bytes: observed.tally.bytes,
            bounces: observed.tally.bounces,
            refused: observed.tally.failed,
            predicted: would.bounces,
            lengths: lengths(statistics.iter().filter(|one| one.device == observed.device)),
        }
    };
    let all = answer.replayed.observed_rows.by_device.iter();
    let shown = all.filter(|row| table.lets_pass(&format!("{} {}", row.device, row.driver)));
    let mut rows: Vec<Row> = shown.map(row).collect();
    rows.sort_by(|a, b| {
        let order = order(table.order, a, b).then_with(|| a.name.cmp(&b.name));
        if table.ascending { order.reverse() } else { order }
    });
    rows
}

/// Largest first, names from A.
fn order(by: Order, a: &Row, b: &Row) -> Ordering {
    match by {
        Order::Bounces => (b.bounces, b.mappings).cmp(&(a.bounces, a.mappings)),
        Order::Predicted => (b.predicted, b.mappings).cmp(&(a.predicted, a.mappings)),
        Order::Mappings => b.mappings.cmp(&a.mappings),
        Order::Bytes => b.bytes.cmp(&a.bytes),
        Order::Name => Ordering::Equal,
    }
}

/// Buffers by length.
pub fn lengths<'a>(statistics: impl Iterator<Item = &'a DeviceStatistics>) -> [u64; LENGTHS] {
    let mut lengths = [0; LENGTHS];
    for (length, count) in statistics.flat_map(|one| &one.lengths) {
        lengths[(length.max(&1).ilog2() as usize).min(LENGTHS - 1)] += count;
    }
    lengths
}
