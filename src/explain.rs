//! `bouncescope explain`.

use std::{
    fs,
    io::{self, IsTerminal, Read},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result, bail};
use tracer::{explain::explain, report};

use crate::input::{print, print_json};

#[derive(clap::Args)]
#[command(after_help = "\
Knows the pool's \"buffer is full\", \"overflow\" of addresses, inactive or missing pools, the pool's lines at boot, the IOMMU's, and \
arm64's taint about ARCH_DMA_MINALIGN, as kernels from 5.10 to 7.3 print them. Other lines are passed over. A whole log says more \
than a line of it: its first lines tell release and command line.

Examples:
  dmesg | bouncescope explain
  bouncescope explain /var/log/kern.log
  bouncescope explain \"swiotlb buffer is full (sz: 1048576 bytes), total 65536 (slots), used 498 (slots)\"

Exit code: 0 when something was explained, 1 when nothing was, 2 when the log can't be read.")]
pub(crate) struct Args {
    /// Messages, or files of them; standard input without
    #[arg(value_name = "MESSAGE|FILE")]
    messages: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let explanations = explain(&log(&args.messages)?);
    if args.json {
        print_json(&report::explain::json(&explanations))?;
    } else {
        print(&report::explain::text(&explanations))?;
    }
    if explanations.is_empty() {
        eprintln!("bouncescope: no message about bouncing in it");
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is to be explained. An argument that names a file stands for what is in it.
fn log(messages: &[String]) -> Result<String> {
    if messages.is_empty() {
        if io::stdin().is_terminal() {
            bail!(
                "nothing to explain: give a message, a file, or a log on standard input (dmesg | bouncescope explain)"
            );
        }
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    let mut log = String::new();
    for message in messages {
        let path = Path::new(message);
        // A message has blanks; one word is the name of a file, and wrong when there is none.
        if path.exists() || !message.contains(' ') {
            let bytes = fs::read(path).with_context(|| format!("cannot read {message}"))?;
            log += &String::from_utf8_lossy(&bytes);
        } else {
            log += message;
        }
        log.push('\n');
    }
    Ok(log)
}
