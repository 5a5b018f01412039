//! `bouncescope top`: the dashboard, of this kernel or of a capture.

#[cfg(all(target_os = "linux", feature = "live"))]
mod live;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use tui::event_loop::{Items, show};
use tui::feed::Feed;
use tui::recording::{Bytes, Recording};
use tui::state::Screen;
use tui::theme::{Depth, Theme};
use tui::{picture, view};

use crate::{input::print, output};

#[derive(clap::Args)]
#[command(after_help = "\
Keys: 1-6 and Tab select the screens, ? lists all other keys. TERM, COLORTERM and NO_COLOR choose the colours. In a locale \
without UTF-8, top draws with ASCII.

Examples:
  bouncescope top                 this kernel, live; needs the same privileges as `record`
  bouncescope top phone.bounce    a capture; needs no privileges, on any system")]
pub(crate) struct Args {
    /// Capture to show, instead of this kernel
    #[arg(value_name = "CAPTURE")]
    #[cfg_attr(not(all(target_os = "linux", feature = "live")), arg(required = true))]
    capture: Option<PathBuf>,
    /// Draw with ASCII characters only
    #[arg(long)]
    ascii: bool,
    /// Number of colours
    #[arg(long, value_enum, value_name = "HOW-MANY", default_value_t = Colors::Auto)]
    colors: Colors,
    /// BTF of this kernel, if it exposes none (/sys/kernel/btf/vmlinux): a raw blob, vmlinux, or an archive of one
    #[cfg(all(target_os = "linux", feature = "live"))]
    #[arg(long, value_name = "FILE", conflicts_with = "capture")]
    btf: Option<PathBuf>,
    /// Draw one screen of the capture into this file (.svg, or text), and exit
    #[arg(long, value_name = "FILE", requires = "capture", hide = true)]
    picture: Option<PathBuf>,
    /// Screen to draw
    #[arg(long, value_name = "1-6", default_value_t = 1, hide = true, value_parser = clap::value_parser!(u8).range(1..=6))]
    screen: u8,
    /// Size, cells
    #[arg(long, value_name = "WxH", default_value = "120x40", hide = true, value_parser = parse_size)]
    size: (u16, u16),
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Colors {
    Auto,
    True,
    #[value(name = "256")]
    Indexed,
    #[value(name = "16")]
    Sixteen,
    None,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let theme = theme(args);
    if let (Some(file), Some(capture)) = (&args.picture, &args.capture) {
        let buffer = picture::draw(named(capture), Bytes::File(capture.clone()), args.size, theme, |state| {
            state.screen = Screen::ALL[usize::from(args.screen) - 1];
        })?;
        let is_svg = file.extension().is_some_and(|ending| ending == "svg");
        let content = if is_svg { view::svg(&buffer) } else { view::text(&buffer) };
        output::write(file, &[capture], &content)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("top needs a terminal; for text use `bouncescope stats` or `bouncescope replay`");
    }
    let (source, feed, items) = match &args.capture {
        Some(capture) => (named(capture), Feed::Capture(Recording::open(Bytes::File(capture.clone()))?), None),
        None => live(args)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Some(said) = runtime.block_on(show(source, feed, items, theme))? {
        print(&format!("{said}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(all(target_os = "linux", feature = "live"))]
fn live(args: &Args) -> Result<(String, Feed, Option<Items>)> {
    Ok(("live".into(), Feed::live(), Some(live::start(args.btf.clone())?)))
}

#[cfg(not(all(target_os = "linux", feature = "live")))]
fn live(_: &Args) -> Result<(String, Feed, Option<Items>)> {
    bail!("this bouncescope cannot look at a running kernel: give a capture")
}

fn named(capture: &std::path::Path) -> String {
    capture.display().to_string()
}

fn theme(args: &Args) -> Theme {
    let found = Theme::of(|name| std::env::var(name).ok());
    let depth = match args.colors {
        Colors::Auto => found.depth,
        Colors::True => Depth::True,
        Colors::Indexed => Depth::Indexed,
        Colors::Sixteen => Depth::Sixteen,
        Colors::None => Depth::None,
    };
    Theme { depth, ascii: found.ascii || args.ascii }
}

fn parse_size(text: &str) -> Result<(u16, u16), String> {
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    sides
        .filter(|(width, height)| (40..=500).contains(width) && (10..=200).contains(height))
        .ok_or_else(|| "must be columns x rows, such as 120x40, from 40x10 to 500x200".to_owned())
}
