//! `fleet query`: SQL over a lake, its result as a table, CSV, JSON or Parquet, and a prompt.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use datafusion::{
    arrow::{
        array::RecordBatch,
        csv::WriterBuilder as CsvBuilder,
        json::{WriterBuilder as JsonBuilder, writer::JsonArray},
        util::pretty::pretty_format_batches,
    },
    dataframe::DataFrame,
    physical_plan::SendableRecordBatchStream,
    prelude::SessionContext,
};
use futures::StreamExt as _;
use parquet::arrow::ArrowWriter;
use rustyline::{DefaultEditor, error::ReadlineError};
use tracer::{
    output::{Access, Output},
    plain::plain_lines,
};

use crate::{
    capture::one_line,
    lake::{Lake, properties},
    say,
    schema::{Kind, Table},
    session::{self, VIEWS},
};

/// Rows that a table on a screen has.
const SHOWN: usize = 1000;

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope fleet query lake \"SELECT soc, count(*) FROM captures GROUP BY soc\"
  bouncescope fleet query lake \"SELECT * FROM replay('mainline', '1M,4M') WHERE soc = 'rk3588'\" -o what-if.parquet
  bouncescope fleet query lake                a prompt; without a terminal, SQL is read from standard input
  bouncescope fleet query lake --tables       tables, views and columns

Queries change nothing. docs/fleet.md has more of them.")]
pub(crate) struct Args {
    /// The lake
    #[arg(value_name = "LAKE")]
    lake: PathBuf,
    /// The query
    #[arg(value_name = "SQL", conflicts_with = "tables")]
    sql: Option<String>,
    /// Print what there is to be queried
    #[arg(long)]
    tables: bool,
    #[command(flatten)]
    result: ResultArgs,
}

#[derive(clap::Args)]
pub(crate) struct ResultArgs {
    /// How the result is written [default: by the ending of the output's name, else a table]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Write the result to this file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For a screen: at most 1000 rows
    Table,
    /// RFC 4180, with the columns' names first
    Csv,
    /// An array of objects
    Json,
    /// A Parquet file
    Parquet,
}

impl ResultArgs {
    fn format(&self) -> Format {
        let ending = self.output.as_deref().and_then(Path::extension).and_then(|ending| ending.to_str());
        self.format.unwrap_or(match ending {
            Some("csv") => Format::Csv,
            Some("json") => Format::Json,
            Some("parquet") => Format::Parquet,
            _ => Format::Table,
        })
    }

    /// Writes the result of a query, and says how many rows it has.
    pub(crate) async fn write(&self, result: DataFrame) -> Result<usize> {
        let format = self.format();
        if self.output.is_none() && format == Format::Parquet {
            bail!("Parquet goes to a file: name one with -o FILE.parquet");
        }
        let stream = result.execute_stream().await?;
        if let Some(path) = &self.output {
            let mut output = Output::create(path, Access::Shared, &[])?;
            let rows = rows(stream, format, &mut output).await?;
            output.finish()?;
            return Ok(rows);
        }
        let mut out = io::BufWriter::new(io::stdout());
        let written = rows(stream, format, &mut out).await;
        match written.and_then(|rows| Ok(out.flush().map(|()| rows)?)) {
            Err(error) if is_closed(&error) => Ok(0),
            result => result,
        }
    }
}

/// A reader that has seen enough (`| head`) is no error.
fn is_closed(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

async fn rows(mut stream: SendableRecordBatchStream, format: Format, out: &mut (impl Write + Send)) -> Result<usize> {
    let mut count = 0;
    match format {
        Format::Table => {
            let mut batches: Vec<RecordBatch> = vec![RecordBatch::new_empty(stream.schema())];
            let mut more = false;
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                more |= count + batch.num_rows() > SHOWN;
                let taken = batch.num_rows().min(SHOWN - count);
                count += taken;
                batches.push(batch.slice(0, taken));
                if more {
                    break;
                }
            }
            let more = if more {
                format!("only the first {SHOWN} rows are shown; --format csv has all\n")
            } else {
                String::new()
            };
            let text = format!("{}\n{more}", pretty_format_batches(&batches)?);
            out.write_all(plain_lines(&text).as_bytes())?;
        }
        Format::Csv => {
            let mut writer = CsvBuilder::new().with_header(true).build(&mut *out);
            writer.write(&RecordBatch::new_empty(stream.schema()))?;
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                count += batch.num_rows();
                writer.write(&batch)?;
            }
        }
        Format::Json => {
            let mut writer = JsonBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut *out);
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                count += batch.num_rows();
                writer.write(&batch)?;
            }
            writer.finish()?;
            out.write_all(b"\n")?;
        }
        Format::Parquet => {
            let mut writer = ArrowWriter::try_new(&mut *out, stream.schema(), Some(properties(None)?))?;
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                count += batch.num_rows();
                writer.write(&batch)?;
            }
            writer.close()?;
        }
    }
    Ok(count)
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.tables {
        let written = io::stdout().lock().write_all(tables().as_bytes());
        return match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    let lake = Lake::open(&args.lake)?;
    session::run(async {
        let context = session::with_views(session::of_lake(&lake)?).await?;
        match &args.sql {
            Some(sql) => {
                args.result.write(session::query(&context, sql).await?).await?;
            }
            None if io::stdin().is_terminal() => prompt(&context, &args.result).await?,
            None => {
                let mut sql = String::new();
                io::stdin().read_to_string(&mut sql).context("cannot read the query from standard input")?;
                args.result.write(session::query(&context, &sql).await?).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Reads queries that end with `;` until there are no more.
async fn prompt(context: &SessionContext, result: &ResultArgs) -> Result<()> {
    let mut editor = DefaultEditor::new()?;
    let history = history();
    if let Some(history) = &history {
        // There is none before the first time.
        let _ = editor.load_history(history);
    }
    say("SQL ends with ; — \\d lists tables, \\q ends\n");
    let mut sql = String::new();
    loop {
        let line = match editor.readline(if sql.is_empty() { "fleet> " } else { "   ... " }) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                sql.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        match line.trim() {
            "" => continue,
            "\\q" | "exit" | "quit" => break,
            "\\d" => {
                say(&tables());
                continue;
            }
            _ => {}
        }
        sql += &line;
        sql.push('\n');
        if sql.trim_end().ends_with(';') {
            let _ = editor.add_history_entry(sql.trim());
            let done = async {
                let frame = session::query(context, &sql).await?;
                result.write(frame).await
            };
            if let Err(error) = done.await {
                say(&format!("error: {}\n", one_line(&error)));
            }
            sql.clear();
        }
    }
    if let Some(history) = history {
        let _ = history.parent().map(fs::create_dir_all);
        let _ = editor.save_history(&history);
    }
    Ok(())
}

/// Where queries of earlier times are kept.
fn history() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state")))?;
    Some(state.join("bouncescope/fleet-history"))
}

/// What there is to be queried, in Markdown as docs/fleet.md has it.
pub(crate) fn tables() -> String {
    let mut text = String::new();
    for table in Table::ALL {
        text += &format!("{}: a row is {}\n", table.name(), table.about());
        for column in table.columns() {
            let kind = match column.kind {
                Kind::U64 => "BIGINT UNSIGNED",
                Kind::I64 => "BIGINT",
                Kind::F64 => "DOUBLE",
                Kind::Bool => "BOOLEAN",
                Kind::Text => "VARCHAR",
            };
            text += &format!("  {:28} {:15} {}\n", column.name, kind, column.meaning);
        }
        text.push('\n');
    }
    for (name, about, _) in VIEWS {
        text += &format!("{name}: {about}\n");
    }
    text += "replay(policies, pools, lines): the columns of outcomes, of simulated kernels over every capture\n";
    text
}
