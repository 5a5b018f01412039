//! `bouncescope bundle`: everything that somebody who helps wants to see of a machine, and nothing else, in one archive.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use flate2::{Compression, write::GzEncoder};
use tar::{Builder, Header};
use tracer::{
    capture::{Reader, Writer},
    doctor::{Examined, Page},
    labels::Labels,
    model::policy::Policy,
    output::Access,
    plain::plain_lines,
    pseudonym::{MARK, Pseudonyms, without_addresses},
    replay::{
        Replayed, Wanted,
        settings::{Settings, WhatIf},
    },
    report::{
        self,
        answer::{By, answer},
    },
    stream::{Item, Source as _, Start},
};

use crate::{
    input::{input_path, open_capture, read_text, replay_any, say},
    limit::Limit,
    output,
    policy_files::{POLICIES, policies},
};

/// The directory that the archive unpacks to.
const DIRECTORY: &str = "bouncescope-bundle";
/// A line of the kernel's log is about DMA if it has one of these in it, in any case.
const ABOUT_DMA: [&str; 14] = [
    "swiotlb",
    "software io tlb",
    "dma",
    "iommu",
    "smmu",
    "bounc",
    "coherent",
    "cache line",
    "cacheline",
    "arch_dma_minalign",
    "linux version",
    "machine model",
    "memory:",
    "node   ",
];
/// Parameters of the kernel's command line whose values stay; of others the name alone.
const ABOUT_MEMORY: [&str; 14] = [
    "swiotlb",
    "iommu",
    "arm-smmu",
    "coherent_pool",
    "cma",
    "mem",
    "kasan",
    "slub_debug",
    "slab_debug",
    "mem_encrypt",
    "kvm-arm.mode",
    "init_on_alloc",
    "disable_dma32",
    "page_alloc",
];

#[derive(clap::Args)]
#[command(after_help = "\
The archive holds the capture, what `doctor`, `replay`, `verify` and `stats` say about it, and a list of these files. Kernel addresses are \
replaced as by `record --no-addresses`. Of the kernel's command line, values that say nothing about memory or DMA are left out, and so are the \
arguments of the recorder and the labels. With --dmesg, lines of the log that mention DMA are added.

Examples:
  dmesg > dmesg.txt
  bouncescope bundle board.bounce --dmesg dmesg.txt -o board.tar.gz
  tar tzf board.tar.gz                              look through it before you send it")]
pub(crate) struct Args {
    /// Capture of the machine
    #[arg(value_parser = input_path())]
    capture: PathBuf,
    /// Archive to write
    #[arg(short, long, value_name = "FILE", default_value = "bouncescope-bundle.tar.gz", value_parser = output::path())]
    output: PathBuf,
    /// Also add the lines of this kernel log that are about DMA; - for standard input
    #[arg(long, value_name = "FILE", value_parser = input_path())]
    dmesg: Option<PathBuf>,
    #[command(flatten)]
    limit: Limit,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let log = args.dmesg.as_deref().map(read_text).transpose()?;
    let policies = policies(&POLICIES.split(',').map(str::to_owned).collect::<Vec<_>>())?;
    let Hidden { mut capture, start, left_out } = hidden(&args.capture, args.limit)?;
    let bytes = capture.seek(SeekFrom::End(0))?;
    let mut read = || -> Result<_> {
        capture.seek(SeekFrom::Start(0))?;
        Ok(Reader::new(BufReader::new(capture.try_clone()?))?)
    };
    let page = Page::new(Examined::of(&mut read()?)?, None);
    let replayed = replay_any(args.limit.of(Box::new(read()?), bytes), |start| wanted(start, &policies))?;

    let mut texts = vec![
        ("doctor.txt", "what the kernel does with small buffers (doctor)", report::doctor::text(&page)),
        ("replay.txt", "predictions for four policies (replay)", answer(&replayed, None, By::default()).text),
        ("verify.txt", "the model compared with the kernel (verify)", report::verify::text(&replayed)),
        ("stats.txt", "what the capture contains (stats)", report::stats::text(&replayed)),
    ];
    if let Some(log) = &log {
        texts.push(("dmesg.txt", "lines of the kernel's log about DMA", about_dma(log)));
    }
    let contents = contents(&replayed, &texts, left_out);

    let inputs: Vec<&Path> = [&args.capture].into_iter().chain(&args.dmesg).map(PathBuf::as_path).collect();
    let cannot_write = || format!("cannot write {}", args.output.display());
    let out = BufWriter::new(output::open(&args.output, Access::Private, &inputs)?);
    let mut archive = Builder::new(GzEncoder::new(out, Compression::default()));
    let mut add = |name: &str, bytes: u64, content: &mut dyn std::io::Read| {
        archive.append_data(&mut header(bytes, start.wall_clock_s), format!("{DIRECTORY}/{name}"), content)
    };
    add("README.txt", contents.len() as u64, &mut contents.as_bytes()).with_context(cannot_write)?;
    for (name, _, text) in &texts {
        let text = plain_lines(text);
        add(name, text.len() as u64, &mut text.as_bytes()).with_context(cannot_write)?;
    }
    capture.seek(SeekFrom::Start(0))?;
    add("capture.bounce", bytes, &mut BufReader::new(capture).take(bytes)).with_context(cannot_write)?;
    let mut out = archive.into_inner().and_then(GzEncoder::finish).with_context(cannot_write)?;
    out.flush().with_context(cannot_write)?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error).with_context(cannot_write)?.finish()?;
    say(&format!("{}: {} files; look through them before you send it\n", args.output.display(), texts.len() + 2));
    Ok(ExitCode::SUCCESS)
}

/// A capture without kernel addresses, and without what is not about memory or DMA.
struct Hidden {
    capture: File,
    start: Start,
    /// Bytes of the original that could not be read.
    left_out: u64,
}

fn hidden(path: &Path, limit: Limit) -> Result<Hidden> {
    let name = || path.display().to_string();
    let length = fs::metadata(path).map_or(0, |file| file.len());
    let mut reader = limit.of(open_capture(path)?, length);
    let mut writer = Writer::new(BufWriter::new(tempfile::tempfile().context("cannot make a temporary file")?))?;
    let mut pseudonyms = Pseudonyms::default();
    let mut begun = None;
    let mut is_hidden = false;
    while let Some(mut item) = reader.next_item().with_context(name)? {
        if let Item::Start(start) = &mut item {
            is_hidden = start.other.contains_key(MARK);
            start.kernel.cmdline = without_values(&start.kernel.cmdline);
            start.recorder = without_arguments(&start.recorder);
            // They may say whose the machine is.
            start.labels = Labels::default();
        }
        if !is_hidden {
            pseudonyms.hide(&mut item);
        }
        if let Item::Start(start) = &item {
            begun = Some(start.clone());
        }
        writer.write(&item)?;
    }
    let gaps = reader.gaps();
    let capture = writer.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let start = begun.with_context(|| format!("{} has no beginning: nothing is known about its kernel", name()))?;
    Ok(Hidden { capture, start, left_out: gaps.skipped_bytes + gaps.cut_bytes })
}

/// The name of the program that recorded, and what it was asked to do.
fn without_arguments(recorder: &str) -> String {
    let mut words = recorder.split_whitespace();
    let program = words.next().and_then(|program| program.rsplit('/').next()).unwrap_or_default();
    [program].into_iter().chain(words.next()).collect::<Vec<_>>().join(" ")
}

/// The kernel's command line with the values that are about memory or DMA alone, and without what is init's.
fn without_values(cmdline: &str) -> String {
    let mut is_quoted = false;
    let words = cmdline.split(|c: char| {
        is_quoted ^= c == '"';
        c.is_whitespace() && !is_quoted
    });
    let kept = |word: &str| match word.split_once('=') {
        Some((name, _)) if !ABOUT_MEMORY.iter().any(|kept| name.starts_with(kept)) => format!("{name}=..."),
        _ => word.to_owned(),
    };
    let of_kernel = words.filter(|word| !word.is_empty()).take_while(|word| *word != "--");
    of_kernel.map(kept).collect::<Vec<_>>().join(" ")
}

fn about_dma(log: &str) -> String {
    let is_about = |line: &&str| {
        let line = line.to_lowercase();
        ABOUT_DMA.iter().any(|word| line.contains(word))
    };
    // `Kernel command line: …`, and `Unknown kernel command line parameters "…"` with what is init's.
    let line = |line: &str| match line.split_once("ommand line") {
        Some((before, rest)) => match rest.split_once(": ").filter(|(between, _)| between.is_empty()) {
            Some((_, cmdline)) => format!("{before}ommand line: {}\n", without_values(cmdline)),
            None => format!("{before}ommand line ...\n"),
        },
        None => format!("{}\n", without_addresses(line)),
    };
    log.lines().filter(is_about).map(line).collect()
}

fn wanted(start: &Start, policies: &[Policy]) -> Wanted {
    let settings = |policy| Settings::what_if(&start.kernel, policy, &WhatIf::default());
    Wanted {
        settings: policies.iter().map(settings).collect(),
        verdict: true,
        statistics: true,
        overlaps: true,
        holders: true,
        ..Wanted::default()
    }
}

/// What each file is, and what is missing.
fn contents(replayed: &Replayed, texts: &[(&str, &str, String)], left_out: u64) -> String {
    let mut text = format!(
        "Made by bouncescope {} of a recording of {} {}.\n\n",
        env!("CARGO_PKG_VERSION"),
        replayed.start.kernel.machine,
        replayed.start.kernel.release
    );
    text += "README.txt      this list\n";
    for (name, what, _) in texts {
        text += &format!("{name:<15} {what}\n");
    }
    text += "capture.bounce  the recording; kernel addresses are replaced (docs/privileges.md)\n";
    if left_out > 0 {
        text += &format!("\n{left_out} bytes of the original capture were damaged or incomplete, and are left out.\n");
    }
    plain_lines(&text).into_owned()
}

fn header(bytes: u64, wall_clock_s: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(wall_clock_s);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_command_line_only_what_is_about_memory_keeps_its_value() {
        let line = "quiet androidboot.serialno=1234 swiotlb=noforce iommu.passthrough=1 x=\"a b c\" mem=2G root=UUID=ab -- y z=1";
        let kept = "quiet androidboot.serialno=... swiotlb=noforce iommu.passthrough=1 x=... mem=2G root=...";
        assert_eq!(without_values(line), kept);
        assert_eq!(without_arguments("/home/me/bouncescope record -o /home/me/secret -- x"), "bouncescope record");
    }

    #[test]
    fn of_a_log_only_lines_about_dma_stay_without_addresses() {
        let log = "\
[    0.0] Kernel command line: swiotlb=1024 password=x
[    0.0] Linux version 6.12
[    1.0] user logged in
[    1.5] Unknown kernel command line parameters \"dma_password=x\", will be passed to user space.
[    2.0] nvme: swiotlb buffer is full at ffff800080010123
";
        let kept = "\
[    0.0] Kernel command line: swiotlb=1024 password=...
[    0.0] Linux version 6.12
[    1.5] Unknown kernel command line ...
[    2.0] nvme: swiotlb buffer is full at (address)
";
        assert_eq!(about_dma(log), kept);
    }
}
