//! `bouncescope export`: what a capture holds, in other people's formats.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use tracer::{
    capture::{Ahead, Reader, relabel::identity},
    exchange::export::{
        csv::CsvFiles,
        follow::{Follow, follow},
        perfetto::Perfetto,
        rows::ToRows,
    },
    model::policy::Policy,
    output::{Access, Directory},
    replay::settings::{Settings, WhatIf},
    stream::Source,
};

use crate::{
    input::{embedded, identity_of, input_path, of_embedded, open_capture, warn},
    limit::{Limit, Limited},
    output,
    policy_files::policies,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope export phone.bounce --format csv -o phone           a directory with one file for each table
  bouncescope export phone.bounce --format perfetto -o phone.pftrace   for https://ui.perfetto.dev
  bouncescope export phone.bounce --format parquet -o phone --policy mainline,always-small
  duckdb -c \"select name, sum(bounced) from 'phone/mappings.parquet' m join 'phone/devices.parquet' d \\
             on m.capture = d.capture and m.device = d.id group by name\"

Tables: captures, labels, devices, mappings, segments, bounces, allocations, symbols, occupancy; docs/export.md describes them. They contain \
the capture's addresses.")]
pub(crate) struct Args {
    #[arg(
        help = concat!("Capture to export; - for standard input", of_embedded!(" [default: the embedded sample]")),
        value_parser = input_path(),
    )]
    capture: Option<PathBuf>,
    /// Output format
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Directory for the tables, created if it is missing, or file for a timeline
    #[arg(short, long, value_name = "PATH", value_parser = output::path())]
    output: PathBuf,
    #[command(flatten)]
    limit: Limit,
    /// Policies whose slots in use are shown next to the kernel's: names (see `bouncescope policies`), all, or TOML
    /// files
    #[arg(long, value_delimiter = ',', default_value = "mainline", value_name = "NAME,…")]
    policy: Vec<String>,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// One text file for each table
    Csv,
    /// One file for each table, for `DuckDB`, pandas, polars
    #[cfg(feature = "export")]
    Parquet,
    /// One file for each table, in Arrow's own format (IPC, Feather)
    #[cfg(feature = "export")]
    Arrow,
    /// A timeline with slots in use as counters, and mappings as slices of their devices
    Perfetto,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let policies = policies(&args.policy)?;
    let cannot = || format!("cannot write {}", args.output.display());
    let inputs: Vec<&Path> =
        args.capture.iter().map(PathBuf::as_path).chain(args.policy.iter().map(Path::new)).collect();
    let dir = || Directory::create(&args.output, &inputs);
    match args.format {
        Format::Csv => {
            let mut rows =
                ToRows { rows: CsvFiles::create(&dir()?).with_context(cannot)?, capture: first_column(args)? };
            all(args, &policies, &mut rows)?;
            rows.rows.finish().with_context(cannot)?;
        }
        #[cfg(feature = "export")]
        Format::Parquet | Format::Arrow => {
            use tracer::exchange::export::columns::{ColumnFiles, FileFormat};
            let format = if args.format == Format::Parquet { FileFormat::Parquet } else { FileFormat::Arrow };
            let mut rows = ToRows {
                rows: ColumnFiles::create(&dir()?, format).with_context(cannot)?,
                capture: first_column(args)?,
            };
            all(args, &policies, &mut rows)?;
            rows.rows.finish().with_context(cannot)?;
        }
        Format::Perfetto => {
            let mut timeline = Perfetto::new(output::open(&args.output, Access::Shared, &inputs)?);
            all(args, &policies, &mut timeline)?;
            timeline.finish().with_context(cannot)?.finish()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The capture's identity; empty for one that can be read only once.
fn first_column(args: &Args) -> Result<String> {
    let (identity, _) = match &args.capture {
        None => identity(embedded()?)?,
        Some(path) if !fs::metadata(path).is_ok_and(|file| file.is_file()) => return Ok(String::new()),
        Some(path) => identity_of(path)?,
    };
    Ok(identity.to_string())
}

/// Leads the capture past what writes it.
fn all(args: &Args, policies: &[Policy], to: &mut impl Follow) -> Result<()> {
    let Some(path) = &args.capture else {
        let embedded = embedded()?;
        let source = args.limit.of(Reader::new(embedded)?, embedded.len() as u64);
        return one(source, policies, to).context("the embedded capture");
    };
    let ahead = Ahead::new(open_capture(path)?).context("cannot start a thread to read with")?;
    let length = fs::metadata(path).map_or(0, |file| file.len());
    one(args.limit.of(ahead, length), policies, to).with_context(|| path.display().to_string())
}

fn one<S: Source>(mut source: Limited<S>, policies: &[Policy], to: &mut impl Follow) -> Result<()> {
    let settings = |start: &tracer::stream::Start| {
        policies.iter().map(|policy| Settings::what_if(&start.kernel, policy, &WhatIf::default())).collect()
    };
    follow(&mut source, settings, to)?;
    if let Some(left_out) = source.left_out() {
        warn(&left_out);
    }
    Ok(())
}
