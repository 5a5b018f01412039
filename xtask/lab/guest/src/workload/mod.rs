//! The workloads, one file each: what they make the kernel do, and what they saw of it. Each ends only when the devices
//! are quiet again, so that a recording around it holds all of it.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
    process::Command,
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{module, serve, sysfs, truth, usbfs, witness};

mod hold;
mod hotplug;
mod leak;
mod lived_in;
mod objects;
mod programs;
mod race;
mod random;
mod storage;
mod usb_control;
mod usb_rescan;
mod xhci_rebind;

/// Longer than the last seconds that the flight recorder keeps, and than it goes on.
const QUIET: Duration = Duration::from_secs(12);

/// The burst in ten minutes of quiet.
pub(crate) const LONG_BURST: &str = "long-burst";
/// Before it, and behind it.
const LONG_QUIET: Duration = Duration::from_mins(5);

/// Where a workload leaves what it saw, `KEY=VALUE` a line, for init to bring out.
pub(crate) const FACTS: &str = "/tmp/facts";
/// The workload that has two parts; with [`BEFORE`] it makes what is there when a recording begins.
pub(crate) const LIVED_IN: &str = "lived-in";
pub(crate) const BEFORE: &str = "before";

/// Runs the workload that the arguments name.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let (name, rest) = args.split_first().ok_or("no workload named")?;
    let number = |default: u64| {
        rest.first().map_or(Ok(default), |text| text.parse().map_err(|_| format!("not a number: {text}")))
    };
    if name == "objects" {
        // Maps nothing that could be counted, or would have to become quiet.
        return objects::run();
    }
    if name == "maintained" {
        // The lab's module alone maps, and waits for nothing.
        return truth::run(&rest.join(" "));
    }
    if name == "leaking" {
        return leak::keep(number(0)?);
    }
    if name == "keep-files" {
        return lived_in::keep_files(rest.first().map_or("", String::as_str));
    }
    if name == LIVED_IN {
        // Nothing counts what drivers do: its tables would be among the objects.
        let before = rest.first().is_some_and(|part| part == BEFORE);
        return if before { lived_in::run(BEFORE) } else { lived_in::run("after").and_then(|()| drivers()) };
    }
    serve::keep_in(serve::FILES[0])?;
    if std::env::var_os(COUNTS).is_some() {
        // The recorder and the kernel's trace go on side by side first.
        thread::sleep(BESIDE_TRAFFIC);
        fs::write(NO_TRAFFIC, "").map_err(|error| format!("cannot write {NO_TRAFFIC}: {error}"))?;
    } else {
        // Not before: until a recorder has attached everything, devices may do what no capture has.
        fact("counted_from_ns", monotonic_ns());
        witness::resume()?;
    }
    match name.as_str() {
        "usb-control" => usb_control::run()?,
        "storage" => storage::run(number(300)?)?,
        "drivers" => {
            module::load_all(Path::new(module::LATER))?;
            // Devices are found and reset in threads of their own, with pauses; and a disk has a name before it can be opened.
            let settled = || witness::settle(Duration::from_secs(6), Duration::from_secs(90));
            let found = settled();
            storage::read_what_is_there(100)?;
            if !(found && settled()) {
                return Err("devices do not become quiet".into());
            }
        }
        "long-lists" => {
            storage::long_lists()?;
            usb_control::run()?;
            storage::run(number(300)?)?;
        }
        "links" => storage::links(number(300)?)?,
        "losses" => truth::run("losses=1")?,
        "lists" => {
            truth::run_and_stay(&format!("device=pci lists={} stale=5 registers=300", number(600)?))?;
            storage::vectors()?;
        }
        "overlaps" => truth::run_and_stay(&format!("overlapping={}", number(50)?))?,
        "usb-rescan" => usb_rescan::run(number(100)?)?,
        "xhci-rebind" => xhci_rebind::run(number(2)?)?,
        "hold" => hold::run(number(100)?, &hold::SMALL)?,
        // Out of quiet, and into quiet again, while somebody keeps the last seconds.
        "burst" | LONG_BURST => {
            let quiet = if name == LONG_BURST { LONG_QUIET } else { QUIET };
            thread::sleep(quiet);
            hold::run(number(600)?, &hold::SMALL)?;
            thread::sleep(quiet);
        }
        "lengths" => {
            usb_control::run()?;
            hold::run(number(600)?, &hold::LENGTHS)?;
        }
        "leak" => leak::run(number(24)?)?,
        "race" => race::run(number(1500)?)?,
        "mixed" => mixed()?,
        "short" => short()?,
        "hotplug" => hotplug::during(mixed)?,
        "programs" => programs::after(mixed)?,
        _ => return Err(format!("no workload {name}")),
    }
    settle()?;
    serve::keep_in(serve::FILES[1])?;
    settle()?;
    // What comes after, while the recorder ends, may be in the capture or not.
    witness::pause()?;
    fact("counted_to_ns", monotonic_ns());
    Ok(())
}

/// Set where counting has begun before the workload.
const COUNTS: &str = "LAB_COUNTS";
/// The traffic ends when this file is there.
const NO_TRAFFIC: &str = "/tmp/no-traffic";
/// How long it goes on after a recorder has begun.
const BESIDE_TRAFFIC: Duration = Duration::from_secs(4);

/// Begins to count what is mapped, and keeps disks busy until the workload of this command begins.
pub(crate) fn count_with_traffic(command: &mut Command) -> Result<JoinHandle<Result<(), String>>, String> {
    command.env(COUNTS, "1");
    fact("counted_from_ns", monotonic_ns());
    witness::resume()?;
    Ok(thread::spawn(|| storage::keep_busy(|| Path::new(NO_TRAFFIC).exists())))
}

fn settle() -> Result<(), String> {
    let quiet = witness::settle(Duration::from_millis(400), Duration::from_secs(15));
    if quiet { Ok(()) } else { Err("devices do not become quiet".into()) }
}

/// `CLOCK_MONOTONIC`, which captures have.
/// `CLOCK_MONOTONIC`, ns.
pub(crate) fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What drivers do, a few times each.
fn drivers() -> Result<(), String> {
    storage::run(50)?;
    usb_rescan::run(10)?;
    xhci_rebind::run(2)?;
    storage::run(50)
}

fn mixed() -> Result<(), String> {
    usb_control::run()?;
    storage::run(300)?;
    usb_rescan::run(100)?;
    xhci_rebind::run(2)?;
    // Devices that were enumerated anew must be followed as well.
    storage::run(50)
}

/// A little of everything, for recorders that take long over each event.
fn short() -> Result<(), String> {
    hold::run(60, &hold::LENGTHS)?;
    storage::run(40)?;
    usb_rescan::run(20)
}

/// Waits until every device that a workload uses is there.
pub(crate) fn wait_for_devices() -> Result<(), String> {
    sysfs::wait_for("the USB input devices", Duration::from_mins(2), || {
        (usbfs::devices().iter().filter(|device| is_input(device)).count() >= 2).then_some(())
    })?;
    storage::wait_for_disks()
}

/// A device whose only endpoint besides 0 is silent until somebody types or points: safe to talk to.
fn is_input(device: &usbfs::Device) -> bool {
    device.product.contains("Tablet") || device.product.contains("Keyboard")
}

/// Keeps a fact for the lab, and shows it.
fn fact(key: &str, value: impl std::fmt::Display) {
    println!("  {key}={value}");
    if let Ok(mut file) = OpenOptions::new().append(true).create(true).open(FACTS) {
        let _ = writeln!(file, "{key}={value}");
    }
}
