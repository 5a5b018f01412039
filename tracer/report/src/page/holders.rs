//! Who held slots of the pool.

use crate::document::{Block, Cell, Table};
use crate::holders::{age, ages, from, leaks, since_start, slots, trend};
use crate::label;
use bouncescope_replay::Replayed;

/// At the fullest moment, and at the end.
pub(super) fn blocks(replayed: &Replayed) -> Vec<Block> {
    let Some(held) = replayed.held.as_ref().filter(|held| !held.at_peak.rows.is_empty()) else {
        return vec![Block::Words("No slots were taken in the recording.".into())];
    };
    let mut blocks = Vec::new();
    for (holders, when) in [(&held.at_peak, "at the fullest moment"), (&held.at_end, "at the end")] {
        let moment = age(since_start(holders, replayed));
        let caption = format!("Slots held {when}, {moment}: {}{}", slots(holders, replayed), ages(holders));
        let headings = ["device", "driver", "buffers from", "slots", "buffers", "longest", "median"];
        let mut table = Table::new(&caption, headings);
        for row in &holders.rows {
            table.rows.push(vec![
                Cell::words(label::name(&row.device)),
                Cell::words(label::name(label::driver(&row.driver))),
                Cell::words(from(row)),
                Cell::count(row.slots),
                Cell::count(row.buffers),
                Cell::words(age(row.longest_ns)),
                Cell::words(age(row.median_ns)),
            ]);
        }
        let nobody = format!("{caption}.");
        blocks.push(table.first(label::SHOWN).or(&nobody));
    }
    blocks.extend(leaks(&held.at_end).map(Block::Words));
    let mut trend = trend(&held.trend).trim_end().replace('\n', "; ");
    trend.replace_range(..1, "L");
    blocks.push(Block::Words(format!("{trend}.")));
    blocks
}
