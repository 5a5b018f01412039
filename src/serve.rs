//! `bouncescope serve`: the page of `report`, and metrics, over HTTP; of a capture, or of the running kernel.

mod http;
#[cfg(all(target_os = "linux", feature = "live"))]
mod live;
mod shown;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};

#[cfg(all(target_os = "linux", feature = "live"))]
use crate::recording::parse_sample;
use crate::{
    limit::Limit,
    policy_files::policies,
    report::{POLICIES, subject},
};
use http::Server;
use shown::{Rendered, Shown};

#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  bouncescope serve phone.bounce              http://127.0.0.1:9464/ has the page, /metrics the metrics
  sudo bouncescope serve --live               the same of this kernel, as it runs
  curl -s http://127.0.0.1:9464/metrics

Anyone who reaches the address can read the page: names of devices, drivers and functions. Nothing can be changed over it. \
dashboards/ has panels and rules for Grafana and Prometheus, docs/serve.md the metrics and the limits.")]
pub(crate) struct Args {
    /// Capture to serve; the embedded one without
    capture: Option<PathBuf>,
    /// Serve the running kernel, traced from now on; needs what `record` needs
    #[cfg(all(target_os = "linux", feature = "live"))]
    #[arg(long, conflicts_with = "capture")]
    live: bool,
    /// Address and port; 0 is a free port, which is printed
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9464")]
    listen: SocketAddr,
    #[command(flatten)]
    limit: Limit,
    /// Policies to compare: names (see `bouncescope policies`), all, or TOML files
    #[arg(long, value_delimiter = ',', default_value = POLICIES, value_name = "NAME,…")]
    policy: Vec<String>,
    /// With --live, stream one allocation in N (a power of two; 0 none), chosen by its address
    #[cfg(all(target_os = "linux", feature = "live"))]
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = parse_sample, requires = "live")]
    sample: u64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let policies = policies(&args.policy)?;
    let listener = TcpListener::bind(args.listen).with_context(|| format!("cannot listen on {}", args.listen))?;
    #[cfg(all(target_os = "linux", feature = "live"))]
    if args.live {
        return live::run(listener, policies, args.sample);
    }
    let subject = subject(args.capture.as_ref(), &policies, args.limit)?;
    let shown = Shown::Still(Arc::new(Rendered::new(&subject, "capture")));
    Server::new(listener)?.run(shown)?;
    Ok(ExitCode::SUCCESS)
}
