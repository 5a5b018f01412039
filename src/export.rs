//! `bouncescope export`: what a capture holds, in other people's formats.

use std::{fs::File, io::BufWriter, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use tracer::{
    capture::{Ahead, Reader},
    exchange::export::{
        csv::CsvFiles,
        follow::{Follow, follow},
        perfetto::Perfetto,
        rows::ToRows,
    },
    model::policy::Policy,
    replay::settings::{Settings, WhatIf},
    stream::Source,
};

use crate::{input::EMBEDDED, replay::combinations::policies};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope export phone.bounce --format csv -o phone           a directory with a file a table
  bouncescope export phone.bounce --format perfetto -o phone.pftrace   for https://ui.perfetto.dev
  bouncescope export phone.bounce --format parquet -o phone --policy mainline,always-small
  duckdb -c \"select name, sum(bounced) from 'phone/mappings.parquet' m join 'phone/devices.parquet' d \\
             on m.device = d.id group by name\"

Tables: devices, mappings, segments, bounces, allocations, symbols, occupancy; docs/export.md says what is in them. They contain \
the capture's addresses.")]
pub(crate) struct Args {
    /// Capture to export; the embedded one without
    capture: Option<PathBuf>,
    /// What to write
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Directory for the tables, made where it is missing; file for a timeline
    #[arg(short, long, value_name = "PATH")]
    output: PathBuf,
    /// Policies whose slots in use are told beside the kernel's: names (see `bouncescope policies`), all, or TOML files
    #[arg(long, value_delimiter = ',', default_value = "mainline", value_name = "NAME,…")]
    policy: Vec<String>,
}

/// A format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A file a table, as text
    Csv,
    /// A file a table, for `DuckDB`, pandas, polars
    #[cfg(feature = "export")]
    Parquet,
    /// A file a table, in Arrow's own format (IPC, Feather)
    #[cfg(feature = "export")]
    Arrow,
    /// A timeline: slots in use as counters, mappings as slices of their devices
    Perfetto,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let policies = policies(&args.policy)?;
    let output = &args.output;
    let cannot = || format!("cannot write {}", output.display());
    match args.format {
        Format::Csv => {
            let mut rows = ToRows(CsvFiles::create(output).with_context(cannot)?);
            all(args, &policies, &mut rows)?;
            rows.0.finish().with_context(cannot)?;
        }
        #[cfg(feature = "export")]
        Format::Parquet | Format::Arrow => {
            use tracer::exchange::export::columns::{ColumnFiles, FileFormat};
            let format = if args.format == Format::Parquet { FileFormat::Parquet } else { FileFormat::Arrow };
            let mut rows = ToRows(ColumnFiles::create(output, format).with_context(cannot)?);
            all(args, &policies, &mut rows)?;
            rows.0.finish().with_context(cannot)?;
        }
        Format::Perfetto => {
            let file = File::create(output).with_context(cannot)?;
            let mut timeline = Perfetto::new(BufWriter::new(file));
            all(args, &policies, &mut timeline)?;
            timeline.finish().with_context(cannot)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Leads the capture past what writes it.
fn all(args: &Args, policies: &[Policy], to: &mut impl Follow) -> Result<()> {
    match &args.capture {
        Some(path) => {
            let mut ahead = Ahead::new(Reader::open(path)?).context("cannot start a thread to read with")?;
            one(&mut ahead, policies, to).with_context(|| path.display().to_string())
        }
        None => one(&mut Reader::new(EMBEDDED)?, policies, to).context("the embedded capture"),
    }
}

fn one<S: Source>(source: &mut S, policies: &[Policy], to: &mut impl Follow) -> Result<()> {
    let settings = |start: &tracer::stream::Start| {
        policies.iter().map(|policy| Settings::what_if(&start.kernel, policy, &WhatIf::default())).collect()
    };
    Ok(follow(source, settings, to)?)
}
