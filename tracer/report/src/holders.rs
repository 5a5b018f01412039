//! Who held slots of the pool, in words.

use super::label;
use super::screen::{COLUMNS, folded};
use super::table::Table;
use super::wrap::wrapped_to;
use bouncescope_capture::plain::shortened;
use bouncescope_replay::Replayed;
use bouncescope_replay::holders::{HeldRow, HeldTimes, HolderRow, Holders, SlotHolders};
use bouncescope_replay::trend::Trend;

/// What became of the slots: who held them at the fullest moment, and who held some at the end.
pub(super) fn text(replayed: &Replayed) -> String {
    let Some(held) = replayed.held.as_ref().filter(|held| !held.at_peak.rows.is_empty()) else { return String::new() };
    let table = |holders, when, ages: &str| format!("\n{}", table(holders, when, ages, replayed));
    table(&held.at_peak, "at the fullest moment, ", "")
        + &table(&held.at_end, "at the end, ", &ages(&held.at_end))
        + &leaking(&held.at_end)
        + &trend(&held.trend)
        + &times(&held.times)
}

/// What a table of percentiles is about.
pub(super) const TIMES: &str = "how long slots were held until they were given back, by device and call site";

/// Characters of who held slots, beside five numbers.
const LONGEST: usize = 36;

/// How long slots were held, in 80 columns: a line for each device, and below it one for each of its call sites.
fn times(times: &HeldTimes) -> String {
    if times.rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["", "buffers", "half", "90 %", "99 %", "longest"]);
    let mut devices: Vec<&str> = Vec::new();
    let shown = times.rows.iter().take(label::SHOWN);
    for row in shown.clone() {
        if !devices.contains(&row.device.as_str()) {
            devices.push(&row.device);
        }
    }
    for device in devices {
        let rows = shown.clone().filter(|row| row.device == device);
        for (n, row) in rows.enumerate() {
            if n == 0 {
                let device = label::device(&row.device, &row.driver, false);
                table.row([shortened(&device, LONGEST).into_owned()]);
            }
            let by_time = [row.median_ns, row.p90_ns, row.p99_ns, row.longest_ns].map(age);
            table.row(
                [format!("  {}", shortened(&site(&row.call_site, ""), LONGEST - 2)), buffers_given_back(row)]
                    .into_iter()
                    .chain(by_time),
            );
        }
    }
    let mut text = format!("\n{}{}", wrapped_to(COLUMNS, TIMES, "", "  "), table.text(2));
    text += &label::more(times.rows.len(), "devices and call sites");
    text += &folded(&beside_times(times).map(|line| line + "\n").collect::<String>());
    text
}

/// Buffers that gave slots back, marked where many others did not.
pub(super) fn buffers_given_back(row: &HeldRow) -> String {
    format!("{}{}", row.given_back, if row.is_censored() { " *" } else { "" })
}

/// What else is to be known of such a table, a line each.
pub(super) fn beside_times(times: &HeldTimes) -> impl Iterator<Item = String> {
    let censored = times.rows.iter().any(HeldRow::is_censored).then(|| {
        let count: u64 = times.rows.iter().filter(|row| row.is_censored()).map(|row| row.still_held).sum();
        format!("* {count} more still held their slots at the end, a tenth or more of all: the times are of the others alone")
    });
    let left_out = (times.left_out > 0).then(|| {
        format!("{} buffers of more devices and call sites than times are kept of are left out", times.left_out)
    });
    censored.into_iter().chain(left_out)
}

/// For people: who holds slots at the end of a recording that is cut at that moment.
pub fn at(replayed: &Replayed) -> String {
    let Some(SlotHolders { at_end, trend, .. }) = &replayed.held else { return String::new() };
    table(at_end, "at ", &ages(at_end), replayed) + &leaking(at_end) + &self::trend(trend)
}

pub(super) fn since_start(holders: &Holders, replayed: &Replayed) -> u64 {
    holders.time_ns.saturating_sub(replayed.start.time_ns)
}

fn table(holders: &Holders, when: &str, ages: &str, replayed: &Replayed) -> String {
    let moment = age(since_start(holders, replayed));
    let mut table = Table::new(&["device", "buffers from", "slots", "longest"]);
    for row in holders.rows.iter().take(label::SHOWN) {
        table.row([
            label::device(&row.device, &row.driver, false),
            from(row),
            row.slots.to_string(),
            age(row.longest_ns),
        ]);
    }
    let caption = format!("slots held {when}{moment}: {}{ages}", slots(holders, replayed));
    let mut text = wrapped_to(COLUMNS, &caption, "", "  ");
    if !table.is_empty() {
        text += &table.text(2);
    }
    text + &label::more(holders.rows.len(), "holders")
}

/// For how long the slots had been held, behind how many there are.
pub(super) fn ages(holders: &Holders) -> String {
    let ages: Vec<String> = holders.ages().map(|(age, slots)| format!("{slots} for {age}")).collect();
    if ages.is_empty() { String::new() } else { format!(" ({})", ages.join(", ")) }
}

/// How full the pool was in the long run, in two lines.
pub(super) fn trend(trend: &Trend) -> String {
    let floors: Vec<String> = trend.floors.iter().map(u64::to_string).collect();
    let rising = if trend.rise > 0 { ", RISING" } else { "" };
    let full = match trend.nearly_full_ns {
        0 => "at no time".to_owned(),
        ns => format!("for {}", age(ns)),
    };
    format!(
        "least slots in use in each quarter of the recording: {}{rising}\nmore than 80 % of the pool was in use {full}\n",
        floors.join(", "),
    )
}

/// How many slots the rows have, and of how many in use.
pub(super) fn slots(holders: &Holders, replayed: &Replayed) -> String {
    let slots: u64 = holders.rows.iter().map(|row| row.slots).sum();
    let older = match holders.older_slots() {
        0 => String::new(),
        older => format!(", and {older} taken before the recording began"),
    };
    // Slots whose release was lost stay with those who hold them no more.
    let at_most = slots > 0 && replayed.held.as_ref().is_some_and(|held| held.at_most);
    let doubt = if at_most { ", or fewer: releases were lost" } else { "" };
    format!("{slots}{older}{doubt}")
}

fn leaking(holders: &Holders) -> String {
    folded(&leaks(holders).map(|line| line + "\n").collect::<String>())
}

/// A line for everybody whose slots are not given back.
pub fn leaks(holders: &Holders) -> impl Iterator<Item = String> {
    holders.rows.iter().filter(|row| row.is_leak()).map(|row| {
        let count: u64 = row.outlasting.iter().sum();
        let others = match row.given_back {
            0 => "no other buffer of this call site gave its slots back".to_owned(),
            others => {
                format!("the slowest of {others} others gave them back after {}", age(row.longest_given_back_ns))
            }
        };
        format!(
            "LEAK? {}, {}: {count} buffers, mapped throughout the recording, still hold their slots; {others}",
            label::device(&row.device, &row.driver, false),
            from(row),
        )
    })
}

/// Where the buffers' objects were allocated.
pub fn from(row: &HolderRow) -> String {
    site(&row.call_site, &row.module)
}

/// A call site, in words where it is not known.
pub fn site(call_site: &str, module: &str) -> String {
    if call_site.is_empty() { "not known".to_owned() } else { label::call_site(call_site, module) }
}

/// A time that people read: two digits and more, and a unit.
pub fn age(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..10_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        10_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        1_000_000_000..600_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        600_000_000_000..36_000_000_000_000 => format!("{:.1} min", ns as f64 / 60e9),
        _ => format!("{:.1} h", ns as f64 / 3600e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_people_use() {
        let texts = [999, 1_500, 9_900_000, 12_000_000, 3_140_000_000, 86_400_000_000_000].map(age);
        assert_eq!(texts, ["999 ns", "1 µs", "9.9 ms", "12 ms", "3.1 s", "24.0 h"]);
    }
}
