//! The kernel's own functions against the simulated kernel: compiled from Debian's `linux-source` packages for this machine, and asked the
//! same. Nothing of the kernel is kept in the repository, and nothing is booted.
//!
//! A function of the kernel that changes so that the model no longer says the same is found by the first run with that kernel, with the
//! operation in which they differ.

mod compared;
mod kernel_code;
mod pools;
mod rules;

use std::path::Path;

use anyhow::Result;
use workspace::jobs;

use super::table::Row;
use compared::Compared;
use kernel_code::KernelCode;
use pools::Pools;
use rules::Rules;

/// What the columns hold.
pub(super) const HEADER: [&str; 6] = ["kernel", "functions", "pages", "operations", "refused", ""];

/// Pages that arm64 can have, by `PAGE_SHIFT`.
const PAGE_SHIFTS: [u32; 3] = [12, 14, 16];

/// Which functions are compared.
#[derive(Clone, Copy)]
enum Functions {
    Pools(Pools),
    Rules(Rules),
}

impl Functions {
    fn all() -> impl Iterator<Item = Self> {
        Pools::ALL.into_iter().map(Self::Pools).chain(Rules::ALL.into_iter().map(Self::Rules))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pools(pools) => pools.name(),
            Self::Rules(rules) => rules.name(),
        }
    }

    /// Whether a kernel has them.
    fn are_in(self, version: &str) -> bool {
        match self {
            Self::Pools(_) => true,
            Self::Rules(rules) => rules.are_in(version),
        }
    }

    fn compare(self, cache: &Path, code: &KernelCode, page_shift: u32) -> Result<Compared> {
        match self {
            Self::Pools(pools) => pools::compare(cache, code, pools, page_shift),
            Self::Rules(rules) => rules::compare(cache, code, rules, page_shift),
        }
    }
}

/// A comparison: a row of the table.
struct Comparison<'a> {
    code: &'a KernelCode,
    functions: Functions,
    page_shift: u32,
}

/// Compares everything; a row for each kernel, set of functions and page size.
pub(super) fn all(cache: &Path, at_once: usize) -> Result<Vec<Row>> {
    let kernels = kernel_code::all(cache)?;
    let mut comparisons = Vec::new();
    for code in &kernels {
        for functions in Functions::all().filter(|functions| functions.are_in(&code.version)) {
            comparisons.extend(PAGE_SHIFTS.map(|page_shift| Comparison { code, functions, page_shift }));
        }
    }
    Ok(jobs::all(&comparisons, at_once, |comparison| row(cache, comparison)))
}

fn row(cache: &Path, comparison: &Comparison) -> Row {
    let &Comparison { code, functions, page_shift } = comparison;
    let pages = format!("{} KiB", 1 << (page_shift - 10));
    let mut cells = vec![code.version.clone(), functions.name().to_owned(), pages];
    let mut problems = Vec::new();
    match functions.compare(cache, code, page_shift) {
        Ok(compared) => {
            cells.extend([compared.operations, compared.refused].map(|count| count.to_string()));
            problems.extend(compared.difference);
        }
        Err(error) => {
            cells.extend(["-", "-"].map(str::to_owned));
            problems.push(format!("{error:#}"));
        }
    }
    Row { cells, problems }
}
