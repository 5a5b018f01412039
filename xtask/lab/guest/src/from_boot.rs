//! A recording that the product began as the kernel's init, before there was this one.

use std::{
    fs, io,
    os::unix::{fs::chroot, process::CommandExt as _},
    path::Path,
    process::Command,
    time::Duration,
};

use crate::{process, sysfs, workload};

const TRACING: &str = "/sys/kernel/tracing";
const LIMIT: Duration = Duration::from_mins(2);

/// Where the next root is made.
const NEXT: &str = "/next";
/// Left in the next root.
const SWITCHED: &str = "/switched";

/// Goes over to another root as an initramfs does it: what is in the first one is removed, whatever the recorder has mounted there. Returns at
/// once where that has been done.
pub(crate) fn switch_root() -> Result<(), String> {
    if Path::new(SWITCHED).exists() {
        return Ok(());
    }
    mount(c"tmpfs", c"/next", Some(c"tmpfs"), 0)?;
    let failed = |error: io::Error| format!("cannot switch the root: {error}");
    for entry in fs::read_dir("/").map_err(failed)?.flatten().filter(|entry| entry.file_name() != NEXT[1..]) {
        move_to(&entry.path(), &Path::new(NEXT).join(entry.file_name())).map_err(failed)?;
    }
    fs::write(format!("{NEXT}{SWITCHED}"), "").map_err(failed)?;
    std::env::set_current_dir(NEXT).map_err(failed)?;
    mount(c".", c"/", None, libc::MS_MOVE)?;
    chroot(".").and_then(|()| std::env::set_current_dir("/")).map_err(failed)?;
    Err(format!("cannot run /init: {}", Command::new("/init").exec()))
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: Option<&std::ffi::CStr>,
    flags: u64,
) -> Result<(), String> {
    let _ = fs::create_dir(NEXT);
    let kind = kind.map_or(std::ptr::null(), std::ffi::CStr::as_ptr);
    // SAFETY: strings that outlive the call, or none; the options are none.
    let result = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, std::ptr::null()) };
    if result == 0 { Ok(()) } else { Err(format!("cannot mount {target:?}: {}", io::Error::last_os_error())) }
}

fn move_to(from: &Path, to: &Path) -> io::Result<()> {
    let file = fs::symlink_metadata(from)?;
    if file.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            move_to(&entry.path(), &to.join(entry.file_name()))?;
        }
        return fs::remove_dir(from);
    }
    // Nodes of devices are made anew.
    if file.is_file() {
        fs::copy(from, to)?;
    }
    fs::remove_file(from)
}

/// Brings out what the kernel wrote from boot on, where it was told to; the time until when that is whole. The kernel goes on writing.
pub(crate) fn copy_trace(share: &Path, name: &str) -> Result<Option<u64>, String> {
    let to_ns = workload::monotonic_ns();
    let file = share.join(format!("{name}.boot.trace"));
    // The share's own traffic is not to be in it.
    let text = fs::read(format!("{TRACING}/trace")).map_err(|error| format!("cannot read the trace: {error}"))?;
    fs::write(&file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(Some(to_ns))
}

/// Brings out what the kernel wrote from boot on, where it was told to, and lets it write no more; the time until when.
pub(crate) fn save_trace(share: &Path, name: &str) -> Result<Option<u64>, String> {
    let is_traced = sysfs::read(format!("{TRACING}/events/dma/enable")).is_some_and(|enabled| enabled == "1");
    if !is_traced {
        return Ok(None);
    }
    sysfs::write(format!("{TRACING}/tracing_on"), "0")?;
    let to_ns = workload::monotonic_ns();
    let file = share.join(format!("{name}.boot.trace"));
    fs::copy(format!("{TRACING}/trace"), &file).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(Some(to_ns))
}

/// Ends the recording and fetches it. The exit code.
pub(crate) fn finish(capture: &str) -> Result<i32, String> {
    process::run(Command::new("/bin/bouncescope").args(["record", "--finish", "-o", capture]), LIMIT)
}

/// Brings out the kernel's log, which says how the recorder started.
pub(crate) fn save_log(share: &Path, name: &str) -> Result<(), String> {
    let mut log = vec![0_u8; 1 << 20];
    // `SYSLOG_ACTION_READ_ALL` of `include/linux/syslog.h`.
    // SAFETY: the kernel writes no more than the length given into the buffer.
    let length = unsafe { libc::klogctl(3, log.as_mut_ptr().cast(), log.len() as i32) };
    log.truncate(usize::try_from(length).unwrap_or(0));
    let file = share.join(format!("{name}.dmesg"));
    fs::write(&file, log).map_err(|error| format!("cannot write {}: {error}", file.display()))
}

/// Where the recorder was to fail: what `record --finish` says, and what the log does.
pub(crate) fn failed(name: &str, share: &Path) -> Result<i32, String> {
    save_log(share, name)?;
    let code = finish(&format!("{}/{name}.bounce", share.display()))?;
    let file = share.join(format!("{name}.result"));
    fs::write(&file, format!("exit={code}\n")).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    Ok(code)
}
