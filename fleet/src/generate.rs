//! `fleet generate`: a fleet of captures whose answers are known, to test and to measure with. Each capture is one of a few given ones under
//! other names: of its devices' drivers, of its board, SoC, build and day. What each of the given ones comes to is found by a replay of it
//! alone, without an engine, and the answers are counted from that while files are written.

use std::{
    collections::BTreeMap,
    fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use tracer::{
    capture::{Reader, Writer},
    labels::Label,
    model::policy::{PoolChoice, builtin},
    output::{Access, Directory},
    replay::{
        Wanted, replay,
        settings::{Settings, WhatIf},
    },
    stream::{Item, Source as _},
};

/// Boards of the fleet; each has a SoC of three.
const BOARDS: usize = 6;
/// Builds of the fleet, the oldest first. One is recorded each day.
const BUILDS: usize = 7;
/// The pools whose answers are known.
pub(crate) const POOLS: [&str; 6] = ["128", "512", "1M", "2M", "4M", "captured"];
/// The first of 2026, as all days here are counted from.
const NEW_YEAR_S: u64 = 1_767_225_600;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Captures to derive others from. The last one is rare: one of a hundred
    #[arg(required = true, value_name = "CAPTURE")]
    captures: Vec<PathBuf>,
    /// How many to make
    #[arg(short = 'n', long, value_name = "N", default_value = "100")]
    number: usize,
    /// Directory for them and for answers.json
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

/// What a fleet comes to.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answers {
    pub(crate) captures: u64,
    /// By SoC.
    pub(crate) captures_by_soc: BTreeMap<String, u64>,
    /// Buffers that the kernel bounced, by driver.
    pub(crate) bounces_by_driver: BTreeMap<String, u64>,
    /// The first build in which a driver bounced, by SoC and driver.
    pub(crate) first_build_with_bounces: BTreeMap<String, String>,
    /// Captures in which no mapping is refused under `mainline`, by pool as in [`POOLS`].
    pub(crate) fits_by_pool: BTreeMap<String, u64>,
    /// Mappings refused under `mainline` in sum, by pool.
    pub(crate) refused_by_pool: BTreeMap<String, u64>,
}

/// One of the given captures.
struct Base {
    items: Vec<Item>,
    /// Bounces by driver.
    bounces: BTreeMap<String, u64>,
    /// Mappings refused, by pool.
    refused: Vec<u64>,
}

impl Base {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let named = || path.display().to_string();
        let mut items = Vec::new();
        let mut reader = Reader::new(Cursor::new(&bytes)).with_context(named)?;
        while let Some(item) = reader.next_item().with_context(named)? {
            items.push(item);
        }
        ensure!(reader.gaps().is_empty(), "{} is not whole", path.display());
        let mainline = builtin("mainline").context("no policy mainline")?;
        let pools = POOLS.map(|pool| pool.parse::<PoolChoice>().map_err(anyhow::Error::msg));
        let pools = pools.into_iter().collect::<Result<Vec<_>>>()?;
        let replayed = replay(&mut Reader::new(Cursor::new(&bytes))?, |start| Wanted {
            settings: pools
                .iter()
                .map(|pool| {
                    Settings::what_if(&start.kernel, &mainline, &WhatIf { pool: Some(*pool), ..WhatIf::default() })
                })
                .collect(),
            statistics: true,
            ..Wanted::default()
        })
        .with_context(named)?;
        let mut bounces = BTreeMap::new();
        for device in replayed.statistics.devices() {
            *bounces.entry(device.driver).or_default() += device.bounces;
        }
        let refused = replayed.outcomes.iter().map(|outcome| outcome.total.failed).collect();
        Ok(Self { items, bounces, refused })
    }
}

/// A driver's name in this fleet: on each SoC it is another.
fn driver(driver: &str, soc: &str) -> String {
    if driver.is_empty() { String::new() } else { format!("{driver}-{soc}") }
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let bases = args.captures.iter().map(|path| Base::read(path)).collect::<Result<Vec<_>>>()?;
    let (rare, common) = bases.split_last().context("name a capture")?;
    let common = if common.is_empty() { &bases[..] } else { common };
    let directory = Directory::create(&args.output, &[])?;
    let mut answers = Answers::default();
    for n in 0..args.number {
        let board = n % BOARDS;
        let (soc, board) = (format!("soc{}", board % 3), format!("board{board}"));
        let build_number = n / BOARDS % BUILDS;
        let build = format!("build{build_number}");
        // From build to build others of the common captures, so that drivers begin to bounce; those of a build are the same on a SoC.
        let base = if n % 100 == 99 { rare } else { &common[build_number * common.len() / BUILDS] };
        let day = 1 + build_number;
        let day = format!("2026-01-{day:02}");
        let serial = format!("{n:08}");
        let labels = [("board", &board), ("soc", &soc), ("build", &build), ("day", &day), ("serial", &serial)];
        let mut writer = Writer::new(directory.file(&format!("{n:06}.bounce"), Access::Shared)?)?;
        for item in &base.items {
            let mut item = item.clone();
            match &mut item {
                Item::Start(start) => {
                    start.wall_clock_s = NEW_YEAR_S + n as u64;
                    for (name, value) in labels {
                        start.labels.set(Label::new(name, value)?)?;
                    }
                }
                Item::Device(device) => device.driver = driver(&device.driver, &soc),
                _ => {}
            }
            writer.write(&item)?;
        }
        writer.into_inner()?.finish()?;
        answers.captures += 1;
        *answers.captures_by_soc.entry(soc.clone()).or_default() += 1;
        for (name, bounces) in &base.bounces {
            let name = driver(name, &soc);
            if *bounces > 0 {
                let first =
                    answers.first_build_with_bounces.entry(format!("{soc} {name}")).or_insert_with(|| build.clone());
                if build < *first {
                    first.clone_from(&build);
                }
            }
            *answers.bounces_by_driver.entry(name).or_default() += bounces;
        }
        for (pool, refused) in POOLS.iter().zip(&base.refused) {
            *answers.fits_by_pool.entry((*pool).to_owned()).or_default() += u64::from(*refused == 0);
            *answers.refused_by_pool.entry((*pool).to_owned()).or_default() += refused;
        }
    }
    let mut file = directory.file("answers.json", Access::Shared)?;
    serde_json::to_writer_pretty(&mut file, &answers)?;
    file.finish()?;
    Ok(ExitCode::SUCCESS)
}
