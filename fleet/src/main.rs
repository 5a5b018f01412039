//! `bouncescope-fleet`, also run as `bouncescope fleet`: one question to many captures, on Apache DataFusion.
//!
//! [`lake`] is the directory of Parquet files and who may change it, [`schema`] its tables. [`capture`] makes rows of one capture, whatever is
//! in it. [`ingest`] takes captures into a lake; [`replayed`] is the table function that replays them, and [`replay`] its command; [`session`]
//! sets up the engine, [`query`] prints what it gives. [`generate`] makes fleets whose answers are known.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tracer::plain::plain_lines;

mod capture;
mod generate;
mod ingest;
mod lake;
#[path = "../../src/limit.rs"]
#[allow(dead_code, reason = "it is shared with `bouncescope`, which has options for it")]
mod limit;
mod query;
mod replay;
mod replayed;
mod schema;
mod session;

/// Ask many captures one question: take them into a lake of Parquet files, query it with SQL, and replay them all.
#[derive(Parser)]
#[command(name = "bouncescope-fleet", bin_name = "bouncescope fleet", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take captures into a lake: summary rows of each, once.
    Ingest(ingest::Args),
    /// Predict bounces, pool use and refused mappings of many captures under other settings.
    Replay(replay::Args),
    /// Query a lake with SQL.
    Query(query::Args),
    /// Make captures with known answers, to test and to measure with.
    Generate(generate::Args),
}

fn main() -> ExitCode {
    capture::quiet_caught_panics();
    let result = match Cli::parse().command {
        Command::Ingest(args) => ingest::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Generate(args) => generate::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {}\n", capture::one_line(&error)));
            ExitCode::from(2)
        }
    }
}

/// Says something on standard error. Where that cannot be written, nothing is said.
fn say(text: &str) {
    let _ = io::stderr().lock().write_all(plain_lines(text).as_bytes());
}
