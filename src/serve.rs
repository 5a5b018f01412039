//! `bouncescope serve`: the page of `report`, and metrics, over HTTP; of a capture, or of the running kernel.

mod http;
#[cfg(all(target_os = "linux", feature = "live"))]
mod live;
mod shown;

use std::{
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};

#[cfg(all(target_os = "linux", feature = "live"))]
use crate::recording::parse_sample;
use crate::{
    input::{input_path, of_embedded},
    limit::Limit,
    report::subject,
    what_if::WhatIfArgs,
};
use http::Server;
use shown::{Rendered, Shown};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope serve phone.bounce              http://127.0.0.1:9464/ has the page, /metrics the metrics
  sudo bouncescope serve --live               the same for this kernel, as it runs
  curl -s http://127.0.0.1:9464/metrics

Anyone who can reach the address can read the page: names of devices, drivers and functions. Nothing can be changed through it. \
dashboards/ has panels and rules for Grafana and Prometheus. docs/serve.md describes the metrics and the limits.")]
pub(crate) struct Args {
    #[arg(
        help = concat!("Capture to serve; - for standard input", of_embedded!(" [default: the embedded sample]")),
        value_parser = input_path(),
    )]
    capture: Option<PathBuf>,
    /// Serve the running kernel, traced from now on; needs the same privileges as `record`
    #[cfg(all(target_os = "linux", feature = "live"))]
    #[arg(long, conflicts_with = "capture")]
    live: bool,
    /// Address or host name, and port. `:PORT` is this machine's loopback; port 0 picks a free port, which is printed
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9464", value_parser = parse_listen)]
    listen: SocketAddr,
    #[command(flatten)]
    limit: Limit,
    #[command(flatten)]
    what_if: WhatIfArgs,
    /// With --live, stream one allocation in N (a power of two, or 0 for none), chosen by address
    #[cfg(all(target_os = "linux", feature = "live"))]
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse_sample, requires = "live")]
    sample: u64,
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let named = if text.starts_with(':') { format!("127.0.0.1{text}") } else { text.to_owned() };
    let found = named.to_socket_addrs().map_err(|error| format!("{error}; give ADDRESS:PORT, HOST:PORT or :PORT"))?;
    found.into_iter().next().ok_or_else(|| "this host has no address".to_owned())
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let listener = TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    #[cfg(all(target_os = "linux", feature = "live"))]
    if args.live {
        return live::run(listener, args.what_if.policies()?, args.what_if.live()?, args.sample);
    }
    let subject = subject(args.capture.as_ref(), &args.what_if, args.limit)?;
    let shown = Shown::Still(Arc::new(Rendered::new(&subject, "capture")));
    Server::new(listener)?.run(shown)?;
    Ok(ExitCode::SUCCESS)
}
