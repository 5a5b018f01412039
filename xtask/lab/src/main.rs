//! The lab's program, `cargo xtask lab`.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask lab",
    bin_name = "cargo xtask lab",
    about = "Boot real arm64 kernels in QEMU, record there, and verify the captures here"
)]
struct Cli {
    #[command(flatten)]
    args: lab::Args,
}

fn main() -> ExitCode {
    match lab::run(&Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
