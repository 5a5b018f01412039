//! The kernel's own functions against the simulated kernel: compiled from Debian's `linux-source` packages for this machine, and asked the
//! same. Nothing of the kernel is kept in the repository, and nothing is booted.
//!
//! A function of the kernel that changes so that the model no longer says the same is found by the first run with that kernel, with the
//! operation in which they differ.

mod kernel_code;
mod pools;

use std::path::Path;

use anyhow::Result;
use workspace::jobs;

use super::table::Row;
use kernel_code::KernelCode;
use pools::Pools;

/// What the columns hold.
pub(super) const HEADER: [&str; 6] = ["kernel", "functions", "pages", "operations", "refused", ""];

/// Pages that arm64 can have, by `PAGE_SHIFT`.
const PAGE_SHIFTS: [u32; 3] = [12, 14, 16];

/// A comparison: a row of the table.
struct Comparison<'a> {
    code: &'a KernelCode,
    pools: Pools,
    page_shift: u32,
}

/// Compares everything; a row for each kernel, set of functions and page size.
pub(super) fn all(cache: &Path, at_once: usize) -> Result<Vec<Row>> {
    let kernels = kernel_code::all(cache)?;
    let mut comparisons = Vec::new();
    for code in &kernels {
        for pools in Pools::ALL {
            comparisons.extend(PAGE_SHIFTS.map(|page_shift| Comparison { code, pools, page_shift }));
        }
    }
    Ok(jobs::all(&comparisons, at_once, |comparison| row(cache, comparison)))
}

fn row(cache: &Path, comparison: &Comparison) -> Row {
    let &Comparison { code, pools, page_shift } = comparison;
    let pages = format!("{} KiB", 1 << (page_shift - 10));
    let mut cells = vec![code.version.clone(), pools.name().to_owned(), pages];
    let mut problems = Vec::new();
    match pools::compare(cache, code, pools, page_shift) {
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
