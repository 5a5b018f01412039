//! `cargo xtask lab --cross`: what is predicted from a recording of one configuration for another, compared with what that other
//! really does with the same workload.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use workspace::jobs;

use crate::{
    configuration::{self, Booted, Did, Predicted},
    kernel::Kernel,
    modules::Module,
    run::Run,
    table::Row,
};

/// A prediction to be compared.
pub(crate) struct Pair {
    /// The configuration that is recorded.
    from: &'static str,
    /// Which of its recordings is replayed.
    recording: &'static str,
    /// Options of `replay` that describe the other.
    options: &'static [&'static str],
    /// The configuration that is predicted.
    to: &'static str,
    /// What such a recording can tell.
    tells: Tells,
}

/// What a recording can tell of another configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    /// Every figure.
    All,
    /// How many buffers bounce, and not when: it has the counts by device, direction and length, and no mapping.
    Bounces,
}

const fn full(from: &'static str, options: &'static [&'static str], to: &'static str) -> Pair {
    Pair { from, recording: "full", options, to, tells: Tells::All }
}

const fn by_default(from: &'static str, options: &'static [&'static str], to: &'static str) -> Pair {
    Pair { from, recording: "default", options, to, tells: Tells::All }
}

/// Every pair; each is a row.
pub(crate) const PAIRS: [Pair; 33] = [
    full("base", &[], "base"),
    by_default("base", &[], "base"),
    full("base", &["--cache-line-size", "32"], "line-32"),
    full("base", &["--cache-line-size", "128"], "line-128-full"),
    full("base", &["--cache-line-size", "128", "--swiotlb", "2048"], "line-128"),
    by_default("base", &["--cache-line-size", "128", "--swiotlb", "2048"], "line-128"),
    full("base", &["--cache-line-size", "256", "--swiotlb", "2048"], "line-256"),
    full("line-32", &["--cache-line-size", "64"], "base"),
    full("line-128", &["--cache-line-size", "64", "--swiotlb", "default"], "base"),
    full("line-256", &["--cache-line-size", "64", "--swiotlb", "default"], "base"),
    full("line-256", &["--cache-line-size", "32", "--swiotlb", "default"], "line-32"),
    full("base", &["--swiotlb", "128"], "pool-256"),
    by_default("base", &["--swiotlb", "128"], "pool-256"),
    full("base", &["--swiotlb", "1024"], "pool-1024"),
    full("pool-1024", &["--swiotlb", "default"], "base"),
    full("base", &["--swiotlb", "none"], "noforce"),
    full("noforce", &["--swiotlb", "default"], "base"),
    by_default("noforce", &["--swiotlb", "default"], "base"),
    full("noforce", &["--swiotlb", "128"], "pool-256"),
    full("base", &["--coherent", "*"], "coherent"),
    full("coherent", &["--non-coherent", "*"], "base"),
    // By default nothing of coherent devices is streamed.
    Pair { tells: Tells::Bounces, ..by_default("coherent", &["--non-coherent", "*"], "base") },
    full("coherent", &["--non-coherent", "*", "--cache-line-size", "128", "--swiotlb", "2048"], "line-128"),
    full("smmu-2048", &["--swiotlb", "default"], "smmu"),
    by_default("smmu-2048", &["--swiotlb", "default"], "smmu"),
    full("smmu-2048", &["--cache-line-size", "128", "--swiotlb", "4096"], "smmu-line-128"),
    full("smmu-line-128", &["--cache-line-size", "64", "--swiotlb", "default"], "smmu"),
    full("base", &[], "7.3"),
    full("7.3", &[], "base"),
    full("6.1", &["--swiotlb", "1M"], "base"),
    by_default("6.1", &["--swiotlb", "1M"], "base"),
    full("6.1", &["--swiotlb", "1M"], "7.3"),
    full("6.1", &["--swiotlb", "1M", "--cache-line-size", "128"], "line-128-full"),
];

/// What the columns hold: predicted/kernel.
pub(crate) const HEADER: [&str; 8] =
    ["recorded", "by", "booted", "options", "bounces and refusals", "refused", "peak slots", ""];

/// Boots every configuration that the pairs with those names need, all for none, and compares each pair: a row each, whatever happens.
pub(crate) fn all(run: &Run, product: &Path, kernels: &[(Kernel, Vec<Module>)], names: &[String]) -> Vec<Row> {
    let asked = |pair: &&Pair| configuration::is_asked(names, pair.from) || configuration::is_asked(names, pair.to);
    let pairs: Vec<_> = PAIRS.iter().filter(asked).collect();
    let is_needed = |name: &str| pairs.iter().any(|pair| pair.from == name || pair.to == name);
    let needed: Vec<_> = configuration::ALL.iter().filter(|one| is_needed(one.scenario.name)).collect();
    let boots = jobs::all(&needed, run.jobs, |configuration| {
        let name = configuration.scenario.name;
        let (kernel, modules) = kernels.iter().find(|(kernel, _)| kernel.series == configuration.kernel)?;
        let dir = run.out.join(format!("configuration-{name}"));
        Some((name, Booted::make(run, kernel, modules, &configuration.scenario, &dir)))
    });
    let booted: BTreeMap<&str, Booted> = boots.into_iter().flatten().collect();
    pairs.iter().map(|pair| row(product, pair, &booted)).collect()
}

/// Series of the kernels that are needed.
pub(crate) fn kernels() -> Vec<&'static str> {
    let mut series: Vec<_> = configuration::ALL.iter().map(|one| one.kernel).collect();
    series.sort_unstable();
    series.dedup();
    series
}

fn row(product: &Path, pair: &Pair, booted: &BTreeMap<&str, Booted>) -> Row {
    let (mut cells, mut problems) = (vec!["-".to_owned(); 3], Vec::new());
    let compared = (|| -> Result<()> {
        let of = |name: &str| booted.get(name).with_context(|| format!("{name} was not booted"));
        let (from, to) = (of(pair.from)?, of(pair.to)?);
        for (name, boot) in [(pair.from, from), (pair.to, to)] {
            problems.extend(boot.problems.iter().map(|problem| format!("{name}: {problem}")));
        }
        let json = configuration::replayed(product, &from.capture(pair.recording), pair.options)?;
        let (predicted, did) = (Predicted::parse(&json)?, to.did()?);
        cells = figures(&predicted, &did, pair.tells);
        problems.extend(differences(&predicted, &did, pair.tells));
        Ok(())
    })();
    problems.extend(compared.err().map(|error| format!("{error:#}")));
    let options = if pair.options.is_empty() { "-".to_owned() } else { pair.options.join(" ") };
    let names = [pair.from, pair.recording, pair.to].map(str::to_owned);
    Row { cells: names.into_iter().chain([options]).chain(cells).collect(), problems }
}

/// Figures as predicted and as they were, of which only those that were predicted can be shown.
fn figures(predicted: &Predicted, did: &Did, tells: Tells) -> Vec<String> {
    let peak = did.peak_slots.map_or_else(|| "-".to_owned(), |slots| slots.to_string());
    match tells {
        Tells::All => vec![
            format!("{}/{}", predicted.bounces + predicted.refused, did.attempts),
            format!("{}/{}", predicted.refused, did.refused),
            format!("{}/{peak}", predicted.peak_slots),
        ],
        Tells::Bounces => {
            vec![format!("{}/{}", predicted.bounces, did.attempts), format!("-/{}", did.refused), format!("-/{peak}")]
        }
    }
}

/// What was not predicted as it came, a line each.
fn differences(predicted: &Predicted, did: &Did, tells: Tells) -> Vec<String> {
    let attempts = ("bounces and refusals", predicted.bounces + predicted.refused, Some(did.attempts));
    let compared = match tells {
        Tells::Bounces => vec![attempts],
        Tells::All => vec![
            attempts,
            ("refusals", predicted.refused, Some(did.refused)),
            ("slots at the fullest moment", predicted.peak_slots, did.peak_slots),
            ("slots of the pool", predicted.slots, did.slots),
        ],
    };
    let wrong = compared.into_iter().filter_map(|(what, predicted, did)| Some((what, predicted, did?)));
    wrong
        .filter(|(_, predicted, did)| predicted != did)
        .map(|(what, predicted, did)| format!("{predicted} {what} predicted, the kernel has {did}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_names_configurations_and_recordings_that_there_are() {
        for pair in &PAIRS {
            let from = configuration::named(pair.from).unwrap();
            assert!(from.scenario.recordings.iter().any(|one| one.name == pair.recording), "{}", pair.from);
            assert!(configuration::named(pair.to).is_some(), "{}", pair.to);
        }
    }

    #[test]
    fn each_difference_is_a_line_and_a_peak_that_is_not_kept_is_none() {
        let predicted = Predicted { bounces: 10, refused: 2, peak_slots: 7, slots: 512 };
        let did = Did { attempts: 12, refused: 2, peak_slots: Some(7), slots: Some(512) };
        assert!(differences(&predicted, &did, Tells::All).is_empty());
        assert!(differences(&predicted, &Did { peak_slots: None, slots: None, ..did }, Tells::All).is_empty());
        let wrong = Did { attempts: 13, refused: 3, peak_slots: Some(8), slots: Some(1024) };
        assert_eq!(differences(&predicted, &wrong, Tells::All).len(), 4);
        assert_eq!(differences(&predicted, &wrong, Tells::Bounces).len(), 1);
    }
}
