//! `bouncescope explain`.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use tracer::{
    explain::{Text, explain_text, text_from},
    report::{self, machine::Document as _},
};

use crate::input::{self, print, print_json, say};

#[derive(clap::Args)]
#[command(after_help = "\
Explains what kernels from 4.9 to 7.3 print about bounce buffers, and messages that are mistaken for this \
(docs/explain.md). The subjects are pools (full, missing, restricted, growing), addresses out of reach, registers and stacks, IOMMUs, \
coherent and atomic memory, checks of the DMA API, and oopses. A whole log says more than a single line: its first lines show release, \
command line and memory.

A log may be plain, gzip, xz or zstd, in UTF-8 or UTF-16: dmesg (also -T, -x, --json), journalctl (also -o json, verbose), /dev/kmsg, \
syslog, logcat, a console with colours, or lines wrapped by mail. Of a log longer than 64 MiB, beginning and end are read \
whole, and the lines between that can matter.

Examples:
  dmesg | bouncescope explain
  bouncescope explain /var/log/kern.log.2.gz
  journalctl -k -b -1 -o json | bouncescope explain -
  bouncescope explain \"swiotlb buffer is full (sz: 1048576 bytes), total 65536 (slots), used 498 (slots)\"

Exit code: 0 if something was explained, 1 if nothing was, 2 if the log cannot be read.")]
pub(crate) struct Args {
    /// Messages, or files with messages; - or nothing for standard input
    #[arg(value_name = "MESSAGE|FILE")]
    messages: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let log = log(&args.messages)?;
    let explained = explain_text(&log);
    for note in &log.notes {
        input::note(note);
    }
    if args.json {
        print_json(&explained.to_json())?;
    } else {
        print(&report::explain::text(&explained))?;
    }
    if explained.explanations.is_empty() {
        say(&format!("error: {}", report::explain::nothing(&explained)));
        return Ok(ExitCode::from(1));
    }
    if !args.json {
        say(&report::explain::unread(&explained));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be explained. An argument that names a file stands for what is in it.
fn log(messages: &[String]) -> Result<Text> {
    if messages.is_empty() {
        if io::stdin().is_terminal() {
            bail!(
                "nothing to explain: give a message, a file, or a log on standard input (dmesg | bouncescope explain)"
            );
        }
        return standard_input();
    }
    let mut log = Text::default();
    for message in messages {
        let path = Path::new(message);
        // A message has blanks; one word is the name of a file, and wrong when there is none.
        let part = if message == "-" {
            standard_input()?
        } else if path.exists() || !message.contains(' ') {
            let file = File::open(path).with_context(|| format!("cannot read {message}"))?;
            bounded(file, message)?
        } else {
            Text { text: message.clone(), ..Text::default() }
        };
        log.append(part);
    }
    Ok(log)
}

fn standard_input() -> Result<Text> {
    bounded(io::stdin().lock(), "standard input")
}

/// All of it where it is not too long; else as [`text_from`] keeps it.
fn bounded(reader: impl Read, name: &str) -> Result<Text> {
    text_from(reader).with_context(|| format!("cannot read {name}"))
}
