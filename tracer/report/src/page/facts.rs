//! What the kernel is, which hooks there were, and what recording cost.

use serde_json::Value;

use crate::document::{Block, Cell, Table};
use crate::machine::Kernel;
use bouncescope_replay::Replayed;

/// The kernel's facts, by the names that captures and JSON have for them, and the hooks.
pub(super) fn kernel(replayed: &Replayed) -> Vec<Block> {
    let mut facts = Table::new("Facts", ["fact", "value"]);
    for (name, value) in all(replayed) {
        facts.rows.push(vec![Cell::words(name), Cell::words(value)]);
    }
    facts.rows.push(vec![Cell::words("recorded by"), Cell::words(&replayed.start.recorder)]);
    if !replayed.start.labels.is_empty() {
        facts.rows.push(vec![Cell::words("labels"), Cell::words(replayed.start.labels.to_string())]);
    }
    let mut hooks = Table::new("Hooks", ["subject", "place", "attached", "why not, and what is lost"]);
    for hook in &replayed.start.hooks {
        let lost = if hook.attached { String::new() } else { format!("{}; {}", hook.why_not, hook.lost_without) };
        let attached = if hook.attached { "yes" } else { "no" };
        hooks.rows.push(vec![
            Cell::words(hook.subject.name()),
            Cell::words(&hook.place),
            Cell::words(attached),
            Cell::words(lost),
        ]);
    }
    vec![Block::Table(facts), hooks.or("No hooks are named in this capture.")]
}

/// Facts by name, with those inside others as `pool.slots`.
pub(super) fn all(replayed: &Replayed) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    flat("", &serde_json::json!(Kernel(&replayed.start.kernel)), &mut facts);
    facts
}

fn flat(name: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (inner, value) in members {
                let name = if name.is_empty() { inner.clone() } else { format!("{name}.{inner}") };
                flat(&name, value, facts);
            }
        }
        Value::Array(values) => {
            for (n, value) in values.iter().enumerate() {
                flat(&format!("{name}.{n}"), value, facts);
            }
        }
        Value::Null => facts.push((name.to_owned(), "not known".into())),
        Value::String(text) => facts.push((name.to_owned(), text.clone())),
        value => facts.push((name.to_owned(), value.to_string())),
    }
}

/// What recording cost, where the kernel counted it.
pub(super) fn cost(replayed: &Replayed) -> Vec<Block> {
    let Some(end) = &replayed.end else { return Vec::new() };
    let mut table = Table::new("What recording cost, by program", ["program", "runs", "time, ms", "each, ns"]);
    for program in &end.programs {
        let each = program.run_time_ns as f64 / program.run_cnt.max(1) as f64;
        let time = program.run_time_ns as f64 / 1e6;
        table.rows.push(vec![
            Cell::words(&program.name),
            Cell::count(program.run_cnt),
            Cell::shown(format!("{time:.3}"), time),
            Cell::shown(format!("{each:.0}"), each),
        ]);
    }
    let mut blocks = Vec::new();
    if end.recorder_cpu_ns > 0 {
        blocks.push(Block::Words(format!("The recorder took {:.3} s of CPU time.", end.recorder_cpu_ns as f64 / 1e9)));
    }
    if !table.rows.is_empty() {
        if end.counted_ns > 0 {
            let counted = end.counted_ns as f64 / 1e9;
            blocks.push(Block::Words(format!("The kernel counted the programs' runs for the first {counted:.3} s.")));
        }
        blocks.push(Block::Table(table));
    }
    blocks
}
