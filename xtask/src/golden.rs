//! `cargo xtask golden`: writes every golden file anew: printed output, README and docs blocks, screens, pages, schemas. What changed is for
//! the author to read before it is committed.

use anyhow::{Result, ensure};

/// The tests that compare with golden files, by package.
const TESTS: [(&str, &[&str]); 4] = [
    ("bouncescope-report", &["schemas"]),
    ("bouncescope", &["golden", "doctor", "explain", "import"]),
    ("bouncescope-tracer", &["examples"]),
    ("bouncescope-tui", &["screens"]),
];

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    for (package, tests) in TESTS {
        let mut cargo = workspace::cargo();
        cargo.current_dir(workspace::root()).args(["test", "--quiet", "--package", package]);
        cargo.args(tests.iter().flat_map(|test| ["--test", test]));
        let status = cargo.env("SNAPSHOTS", "overwrite").status()?;
        ensure!(status.success(), "the tests of {package} fail even with the golden files renewed");
    }
    println!("golden files are renewed: read `git diff` before you commit");
    Ok(())
}
