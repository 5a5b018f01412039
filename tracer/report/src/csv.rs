//! `bouncescope replay --csv`: the policies, and what the kernel did.

use serde_json::{Value, json};

use super::label::OBSERVED;
use bouncescope_replay::Replayed;
use bouncescope_replay::figures::{Figure, Of, Place, Run};

/// The table of policies, for spreadsheets and plots. Bytes, slots and counts; times in ns. The last line is what the kernel did, empty
/// where no event tells it.
pub fn text(replayed: &Replayed) -> String {
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let mut text = csv_line(["policy", "lists", "when_full", "name"], |_, name| name.to_owned());
    for (outcome, settings) in replayed.outcomes.iter().zip(&replayed.settings) {
        let (lists, when_full) = (word(json!(settings.lists)), word(json!(settings.when_full)));
        let run = Run { replayed, outcome: Some(outcome) };
        text += &csv_line([&settings.policy, &lists, &when_full, &outcome.name], |figure, _| csv_cell(figure, run));
    }
    let run = Run { replayed, outcome: None };
    text + &csv_line([OBSERVED, "", "", OBSERVED], |figure, _| csv_cell(figure, run))
}

/// The words of a line are the policy, its choices of `lists` and `when_full`, and what it is called in this replay.
fn csv_line(words: [&str; 4], cell: impl Fn(Figure, &str) -> String) -> String {
    let [policy, lists, when_full, name] = words.map(quoted);
    let named = |figure: &Figure| {
        figure.places().iter().find_map(|place| match place {
            Place::Csv => Some((*figure, figure.key())),
            Place::CsvAs(name) => Some((*figure, *name)),
            _ => None,
        })
    };
    let is_setting = |(figure, _): &(Figure, &str)| matches!(figure.of(), Of::Settings(_));
    let (settings, results): (Vec<_>, Vec<_>) = Figure::ALL.iter().filter_map(named).partition(is_setting);
    let cells = |columns: Vec<(Figure, &str)>| columns.into_iter().map(|(figure, name)| cell(figure, name)).collect();
    [vec![policy], cells(settings), vec![lists, when_full], cells(results), vec![name]].concat().join(",") + "\n"
}

fn csv_cell(figure: Figure, run: Run) -> String {
    figure.read(run).map_or_else(String::new, |value| value.number().to_string())
}

/// A name as one cell.
fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}
