//! What a run ends with, a row for each kind of round, and a line for each round while it lasts. Formatting only.

use super::{
    capture::Totals,
    rounds::{Kind, Outcome},
};

const HEADER: [&str; 8] = ["round", "rounds", "seconds", "seen", "recorded", "lost", "memory", "findings"];

/// One round.
pub(super) fn line(kind: Kind, outcome: &Outcome) -> String {
    let Totals { seen, recorded, lost } = outcome.totals;
    let (seconds, memory) = (outcome.time.as_secs_f64(), outcome.peak >> 20);
    let mut line =
        format!("{}: {seconds:.1} s, seen {seen}, recorded {recorded}, lost {lost}, {memory} MiB", kind.name());
    for problem in &outcome.problems {
        line += &format!("\n      FINDING: {problem}");
    }
    line
}

/// All of them, as a table that a document can take.
pub(super) fn format(outcomes: &[(Kind, Outcome)]) -> String {
    let row = |cells: [String; 8]| format!("| {} |\n", cells.join(" | "));
    let mut text = row(HEADER.map(str::to_owned)) + &row(HEADER.map(|_| "---".to_owned()));
    let of = |name: &str, chosen: &dyn Fn(Kind) -> bool| {
        let rounds: Vec<&Outcome> = outcomes.iter().filter(|(kind, _)| chosen(*kind)).map(|(_, one)| one).collect();
        let totals = rounds.iter().fold(Totals::default(), |sum, one| sum.and(one.totals));
        let peak = rounds.iter().map(|one| one.peak).max().unwrap_or(0);
        row([
            name.to_owned(),
            rounds.len().to_string(),
            format!("{:.0}", rounds.iter().map(|one| one.time.as_secs_f64()).sum::<f64>()),
            totals.seen.to_string(),
            totals.recorded.to_string(),
            totals.lost.to_string(),
            format!("{} MiB", peak >> 20),
            rounds.iter().map(|one| one.problems.len()).sum::<usize>().to_string(),
        ])
    };
    for kind in Kind::ALL {
        text += &of(kind.name(), &|one| one == kind);
    }
    text + &of("all", &|_| true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rounds_of_a_kind_add_up_and_memory_is_the_most() {
        let outcome = |seen, peak: u64, problems: &[&str]| Outcome {
            time: Duration::from_secs(2),
            totals: Totals { seen, recorded: seen - 1, lost: 1 },
            peak: peak << 20,
            problems: problems.iter().map(|&problem| problem.to_owned()).collect(),
        };
        let outcomes = [
            (Kind::Killed, outcome(10, 7, &[])),
            (Kind::Killed, outcome(20, 5, &["oh"])),
            (Kind::Two, outcome(5, 9, &[])),
        ];
        let text = format(&outcomes);
        assert!(text.contains("| sigkill | 2 | 4 | 30 | 28 | 2 | 7 MiB | 1 |\n"), "{text}");
        assert!(text.ends_with("| all | 3 | 6 | 35 | 32 | 3 | 9 MiB | 1 |\n"), "{text}");
        assert!(line(Kind::Killed, &outcomes[1].1).ends_with("\n      FINDING: oh"));
    }
}
