//! What runs inside the lab's guests, one static binary: as process 1 it is init, called as `workload NAME …` it makes
//! the kernel map and bounce. It exists on Linux only; elsewhere it compiles to a message.

#[cfg(target_os = "linux")]
mod btf;
mod carry;
#[cfg(target_os = "linux")]
mod doctor;
#[cfg(target_os = "linux")]
mod from_boot;
#[cfg(target_os = "linux")]
mod init;
#[cfg(target_os = "linux")]
mod maintenance;
#[cfg(target_os = "linux")]
mod module;
#[cfg(target_os = "linux")]
mod pool;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod script;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod slab;
#[cfg(target_os = "linux")]
mod sysfs;
#[cfg(target_os = "linux")]
mod tools;
#[cfg(target_os = "linux")]
mod truth;
#[cfg(target_os = "linux")]
mod usbfs;
#[cfg(target_os = "linux")]
mod witness;
#[cfg(target_os = "linux")]
mod workload;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;

    if std::process::id() == 1 {
        init::run();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.split_first() {
        Some((command, rest)) if command == "workload" => workload::run(rest),
        _ => Err("usage: lab-guest workload NAME [ARGUMENT…]   (as process 1: init)".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("lab-guest runs in the lab's Linux guests only");
}
