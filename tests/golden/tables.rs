//! Tables in the docs that are made by the code, or by a command: their rows are replaced by the present ones.

use std::{collections::HashMap, path::Path};

use tracer::replay::figures::{Figure, Place, Scope};

use crate::console;

/// A document in which the first table under these headings behind `begin` has these rows.
pub(crate) fn with_rows(text: &str, begin: &str, headings: &str, rows: &[String]) -> Result<String, String> {
    let at = text.find(begin).ok_or_else(|| format!("no {begin}"))?;
    let at = at + text[at..].find(headings).ok_or_else(|| format!("no {headings}"))?;
    let end = text[at..].find("\n\n").map_or(text.len(), |end| at + end);
    let line = "|---".repeat(headings.matches('|').count() - 1) + "|";
    Ok(format!("{}{headings}\n{line}\n{}{}", &text[..at], rows.join("\n"), &text[end..]))
}

/// The figures that rules may be about.
pub(crate) fn in_rules() -> Vec<String> {
    let row = |figure: &Figure| {
        let of = match figure.scope()? {
            Scope::Any => "any",
            Scope::Drivers => "drivers, total",
            Scope::Totals => "total",
        };
        Some(format!("| `{}` | {of} | {} |", figure.name(), figure.meaning()))
    };
    Figure::ALL.iter().filter_map(row).collect()
}

/// The columns of `replay --csv` that are figures.
pub(crate) fn in_csv() -> Vec<String> {
    let row = |figure: &Figure| {
        let name = figure.places().iter().find_map(|place| match place {
            Place::Csv => Some(figure.key()),
            Place::CsvAs(name) => Some(*name),
            _ => None,
        });
        Some(format!("| `{}` | {} |", name?, figure.explained()))
    };
    Figure::ALL.iter().filter_map(row).collect()
}

/// The metrics that are figures: of devices, then of policies.
pub(crate) fn in_metrics() -> Vec<String> {
    let places = || Figure::ALL.iter().flat_map(|figure| figure.places());
    let of_devices = places().filter_map(|place| match place {
        Place::DeviceMetric(name, help) => Some(format!("| `{name}` | device, driver, coherent | {help} |")),
        _ => None,
    });
    let of_policies = places().filter_map(|place| match place {
        Place::PolicyMetric(name, help) => Some(format!("| `policy_{name}` | policy | {help} |")),
        Place::ClassMetric(name, _, help) => Some(format!("| `policy_{name}` | policy, class | {help} |")),
        _ => None,
    });
    let mut rows: Vec<String> = of_devices.chain(of_policies).collect();
    rows.dedup();
    rows
}

/// What every policy comes to on a capture.
pub(crate) fn costs(capture: &str) -> Vec<String> {
    let command = format!("$ bouncescope replay {capture} --policy all --csv");
    let printed = console::renewed(&[&command], &console::Inputs::default()).unwrap();
    let mut lines = printed.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let row = |cells: Vec<&str>| {
        let cell: HashMap<&str, &str> = names.iter().copied().zip(cells).collect();
        let slabs: Option<u64> = cell["slab_bytes"].parse().ok();
        let columns = [
            "bounces",
            "bytes_copied",
            "peak_slots",
            "hazards_foreign",
            "hazards_unknown",
            "hazards_own",
            "bounces_not_needed",
        ];
        let columns = columns.map(|name| cell[name]).join(" | ");
        let lists = cell["lists_losing_concatenation"];
        Some(format!("| `{}` | {columns} | {lists} | {} KiB |", cell["policy"], slabs? >> 10))
    };
    lines.filter_map(row).collect()
}

/// Each of these tables, by file: what it stands behind, its headings and rows.
pub(crate) fn all() -> Vec<(&'static Path, &'static str, &'static str, Vec<String>)> {
    const COSTS: &str = "| policy | bounces | bytes copied | peak slots | foreign | unknown | own object | not needed | lists split \
                         | slabs of live objects |";
    let (direct, smmu) = ("captures/default.bounce", "captures/7.3-smmu-mixed.bounce");
    vec![
        (Path::new("docs/check.md"), "## Figures", "| figure | of | what |", in_rules()),
        (Path::new("docs/machine-output.md"), "## CSV", "| column | what |", in_csv()),
        (Path::new("docs/serve.md"), "## Metrics", "| metric of a figure | labels | |", in_metrics()),
        (Path::new("docs/policies.md"), "`bouncescope replay captures/default.bounce", COSTS, costs(direct)),
        (Path::new("docs/policies.md"), "`bouncescope replay captures/7.3-smmu-mixed.bounce", COSTS, costs(smmu)),
    ]
}
