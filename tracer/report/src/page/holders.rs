//! Who held slots of the pool.

use crate::document::{Block, Cell, Table};
use crate::holders::{
    TIMES, age, ages, beside_times, buffers_given_back, from, leaks, since_start, site, slots, trend,
};
use crate::label;
use bouncescope_replay::Replayed;
use bouncescope_replay::holders::HeldTimes;

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
    blocks.extend(times(&held.times));
    blocks
}

/// How long slots were held that were given back.
fn times(times: &HeldTimes) -> Vec<Block> {
    if times.rows.is_empty() {
        return Vec::new();
    }
    let caption = TIMES.replacen('h', "H", 1);
    let headings = ["device", "driver", "buffers from", "buffers", "half", "90 %", "99 %", "longest"];
    let mut table = Table::new(&caption, headings);
    for row in &times.rows {
        let by_time = [row.median_ns, row.p90_ns, row.p99_ns, row.longest_ns].map(|ns| Cell::shown(age(ns), ns as f64));
        let who = [
            Cell::words(label::name(&row.device)),
            Cell::words(label::name(label::driver(&row.driver))),
            Cell::words(site(&row.call_site, &row.module)),
            Cell::shown(buffers_given_back(row), row.given_back as f64),
        ];
        table.rows.push(who.into_iter().chain(by_time).collect());
    }
    let mut blocks = vec![table.first(label::SHOWN).or("")];
    blocks.extend(beside_times(times).map(Block::Words));
    blocks
}
