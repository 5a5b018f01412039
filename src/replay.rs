//! `bouncescope replay`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::ValueEnum;
use tracer::{
    model::pool::SLOT,
    replay::settings::{Policy, Settings, WhatIf},
    report,
};

use crate::{
    input::{print, print_json, replay_capture},
    units::parse_bytes,
};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope replay                                   the embedded capture of a real arm64 kernel
  bouncescope replay phone.bounce --swiotlb none       what noforce means there
  bouncescope replay phone.bounce --swiotlb 512K --cache-line-size 128
  bouncescope replay phone.bounce --non-coherent 1d84000.ufshc --json")]
pub(crate) struct Args {
    /// Capture to replay; the embedded one without
    capture: Option<PathBuf>,
    /// Policies to replay
    #[arg(long, value_delimiter = ',', default_value = "mainline,legacy", value_name = "NAME,…")]
    policy: Vec<PolicyName>,
    /// Assume this cache line size, bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_alignment)]
    cache_line_size: Option<u32>,
    /// Assume kmalloc caches of this minimum alignment, bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_alignment)]
    minalign: Option<u32>,
    /// Assume this pool: slots as in the kernel's parameter, or a size such as 4M, both rounded as the kernel does; or none.
    /// A pool that was forced stays so
    #[arg(long, value_name = "SLOTS|SIZE|none", value_parser = parse_slots)]
    swiotlb: Option<u64>,
    /// Assume that this device is coherent (its name as in the report; may be given more than once)
    #[arg(long, value_name = "DEVICE")]
    coherent: Vec<String>,
    /// Assume that this device is not coherent
    #[arg(long, value_name = "DEVICE")]
    non_coherent: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PolicyName {
    /// Caches from 8 bytes; small buffers of non-coherent devices bounce (Linux 6.5 on)
    Mainline,
    /// Caches from 128 bytes; nothing bounces for alignment (before 6.5)
    Legacy,
}

pub(crate) fn run(args: Args) -> Result<ExitCode> {
    if let Some(both) = args.coherent.iter().find(|device| args.non_coherent.contains(device)) {
        bail!("{both} can't be both --coherent and --non-coherent");
    }
    let named: Vec<String> = args.coherent.iter().chain(&args.non_coherent).cloned().collect();
    let coherence = args.coherent.into_iter().map(|device| (device, true));
    let what_if = WhatIf {
        cache_line_size: args.cache_line_size,
        minalign: args.minalign,
        requested_slots: args.swiotlb,
        coherence: coherence.chain(args.non_coherent.into_iter().map(|device| (device, false))).collect(),
    };
    let replayed = replay_capture(args.capture.as_ref(), |start| {
        let settings = |name: &PolicyName| {
            let policy = match name {
                PolicyName::Mainline => Policy::Mainline,
                PolicyName::Legacy => Policy::Legacy,
            };
            Settings::what_if(&start.kernel, policy, &what_if)
        };
        args.policy.iter().map(settings).collect()
    })?;
    let devices = &replayed.observed_rows.by_device;
    if let Some(unknown) = named.iter().find(|name| !devices.iter().any(|row| &row.device == *name)) {
        let known: Vec<&str> = devices.iter().map(|row| row.device.as_str()).collect();
        bail!("no device {unknown} in this capture; there are: {}", known.join(", "));
    }
    if args.json {
        print_json(&report::replay::json(&replayed))?;
    } else {
        print(&report::replay::text(&replayed))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_alignment(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| "not a number of bytes".to_owned())?;
    if !bytes.is_power_of_two() || !(8..=4096).contains(&bytes) {
        return Err("must be a power of two from 8 to 4096".to_owned());
    }
    Ok(bytes)
}

/// Slots; 0 for none. A size has a unit, slots have none: as on the kernel's command line.
fn parse_slots(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(0);
    }
    let slots = match text.parse::<u64>() {
        Ok(slots) => slots,
        Err(_) => parse_bytes(text)?.div_ceil(SLOT),
    };
    // swiotlb=0 still makes the smallest pool.
    let slots = slots.max(1);
    if slots > 1 << 24 {
        return Err("more than 32 GiB of pool".to_owned());
    }
    Ok(slots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_given_in_slots_or_bytes_or_as_none() {
        assert_eq!(["none", "512", "1M", "3K"].map(|s| parse_slots(s).unwrap()), [0, 512, 512, 2]);
        assert_eq!(parse_slots("0").unwrap(), 1, "swiotlb=0 makes the smallest pool, not none");
        assert!(parse_slots("lots").is_err() && parse_slots("999G").is_err());
    }

    #[test]
    fn alignments_are_powers_of_two() {
        assert_eq!(parse_alignment("64"), Ok(64));
        for nonsense in ["0", "4", "48", "8192", "-8", "x"] {
            assert!(parse_alignment(nonsense).is_err(), "{nonsense}");
        }
    }
}
