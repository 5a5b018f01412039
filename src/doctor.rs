//! `bouncescope doctor`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use tracer::{
    doctor::{Examined, Page},
    report::{
        self,
        machine::{Doctor, Document as _},
    },
};

use crate::input::{input_path, open_capture, print, print_json};

/// Longest self-test, seconds.
#[cfg(all(target_os = "linux", feature = "live"))]
const LONGEST: u64 = 3600;

#[derive(clap::Args)]
#[command(after_help = "\
The self-test attaches every hook, allocates a little, and reads the first block of a few disks, bypassing the page cache; it writes \
nothing and resets nothing. If nothing calls a hook in that time, it stays \"not seen firing\": plug something in, or give \
more seconds. Without privileges, the page shows what can be read without them, and says how to get the rest.

Examples:
  bouncescope doctor
  bouncescope doctor --seconds 10 --json
  bouncescope doctor --reach                   also how far each device reaches: memory, dma-ranges, mask, IOMMU, pool
  bouncescope doctor --capture phone.bounce    what a capture says about its kernel

Exit code: 0 if tracing works here (or the capture can be read), 1 if it does not, 2 if the page cannot be made.")]
pub(crate) struct Args {
    /// Describe the kernel of this capture instead of this one
    #[arg(long, value_name = "FILE", value_parser = input_path())]
    #[cfg_attr(not(all(target_os = "linux", feature = "live")), arg(required = true))]
    capture: Option<PathBuf>,
    /// How long the hooks stay attached, seconds
    #[cfg(all(target_os = "linux", feature = "live"))]
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "capture",
          value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
    seconds: u64,
    /// BTF of this kernel, if it exposes none: a raw blob, vmlinux, or an archive of one
    #[cfg(all(target_os = "linux", feature = "live"))]
    #[arg(long, value_name = "FILE", conflicts_with = "capture")]
    btf: Option<PathBuf>,
    /// Also show what each device can reach: memory, bus windows, mask, IOMMU and pool
    #[cfg(all(target_os = "linux", feature = "live"))]
    #[arg(long, conflicts_with = "capture")]
    reach: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let page = match &args.capture {
        Some(path) => {
            let examined = Examined::of(&mut open_capture(path)?).with_context(|| path.display().to_string())?;
            Page::new(examined, None)
        }
        None => here(args)?,
    };
    if args.json {
        print_json(&Doctor::new(&page).to_json())?;
    } else {
        print(&report::doctor::text(&page))?;
    }
    Ok(if page.can_trace { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

#[cfg(all(target_os = "linux", feature = "live"))]
fn here(args: &Args) -> Result<Page> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let window = std::time::Duration::from_secs(args.seconds);
    let mut examined = Examined::default();
    let mut take = |item| examined.take(item);
    let mut here = runtime.block_on(tracer::live::self_test(window, args.btf.as_deref(), &mut take));
    here.reach = args.reach.then(|| tracer::kernel::reach::read(&tracer::kernel::root::Root::default()));
    Ok(Page::new(examined, Some(here)))
}

#[cfg(not(all(target_os = "linux", feature = "live")))]
fn here(_: &Args) -> Result<Page> {
    anyhow::bail!("this bouncescope cannot look at a running kernel: give a capture (--capture FILE)")
}
