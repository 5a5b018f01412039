//! The recorder that process 1 leaves behind.
//!
//! **Where the capture is.** In a memfd: memory that belongs to this process. Nothing can be mounted over it as over a file in /run, no
//! switch of the root from the initramfs takes it away, and it needs no directory that can be written to. It goes away with the process.
//!
//! **What it sees.** It has mounts of its own, so that init finds none that it has not mounted itself, and a root of its own. An initramfs is
//! emptied when the root is switched, and to remove a directory takes away what others have mounted there (`detach_mounts()` in
//! `fs/namespace.c`). The root of the boot stays in sight until the hooks are attached, for what is read of it: BTF and the kernel's
//! configuration. It stays mounted below the recorder's own: this binary keeps its file system busy in any case, and the root of an initramfs
//! cannot be left with `pivot_root()`.
//!
//! **Who leaves it alone.** systemd ends all processes when it leaves the initramfs, but for those whose first argument begins with
//! an `@` (`ignore_proc()` in `src/shared/killall.c`, "Storage Daemons for the Root File System"). Elsewhere it is a process that init did
//! not start: it has to be finished before shutdown.

use std::{
    fs,
    io::Write as _,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, parser::ValueSource};
use rustix::{
    fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fstat, memfd_create, open, symlink},
    io::write,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_bind, mount_change, move_mount, unmount,
    },
    process::{Resource, Rlimit, chroot, fchdir, setrlimit, setsid},
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
    thread::{UnshareFlags, unshare_unsafe},
};
use tracer::report::bytes;

use super::log::{kernel_log, tell};
use crate::record::{self, MEMFD};

/// A recording of which nobody thinks any more ends by itself.
const LONGEST: Duration = Duration::from_mins(10);
/// The same of its capture, bytes.
const LARGEST: u64 = 32 << 20;
/// Part of the machine's memory that the capture, or a ring, takes at the most.
const PART_FOR_CAPTURE: u64 = 4;
const PART_FOR_RING: u64 = 16;

/// What a recorder reads from, and where.
const FILE_SYSTEMS: [(&str, &str); 5] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
];
/// Where the root of the boot is in the recorder's own root, and what of it is found at its usual place.
const OLD_ROOT: &str = "/old";
const OF_OLD_ROOT: [&str; 3] = ["/boot", "/lib", "/usr"];

/// The options of `bouncescope.record=`.
#[derive(Parser)]
#[command(name = "bouncescope.record", disable_help_flag = true)]
struct Options {
    #[command(flatten)]
    record: record::Args,
}

/// Records until it is ended, keeps the capture until it is fetched, and never returns.
pub(super) fn run() -> ! {
    if let Err(error) = prepare().and_then(|()| recorded()) {
        tell(&format!("the recorder ended: {error:#}"));
        std::process::exit(2);
    }
    loop {
        std::thread::park();
    }
}

/// Makes a session and mounts of its own, and opens what the program says things through. An error where init would see the mounts.
fn prepare() -> Result<()> {
    setsid().ok();
    own_mounts().context("it has no mounts of its own")?;
    if let Err(error) = own_root() {
        tell(&format!("the recorder has no root of its own: {error}"));
    }
    // What is said goes into the kernel's log: a console that is somebody else's by then, or closed, is no place for it.
    if let Ok(null) = open("/dev/null", OFlags::RDONLY, Mode::empty()) {
        dup2_stdin(&null).ok();
    }
    if let Ok(log) = kernel_log() {
        dup2_stderr(&log).ok();
    }
    // Where memory runs short, it is to go first.
    if let Ok(score) = open("/proc/self/oom_score_adj", OFlags::WRONLY, Mode::empty()) {
        write(&score, b"1000").ok();
    }
    Ok(())
}

/// From here on, what this process mounts is mounted for it alone.
fn own_mounts() -> rustix::io::Result<()> {
    // SAFETY: this process has one thread, and shares its descriptors with no other.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
}

/// Goes into a root of its own, with what a recorder reads from and, for now, the root of the boot.
fn own_root() -> rustix::io::Result<()> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&tmpfs, "size", "64k")?;
    fsconfig_create(&tmpfs)?;
    let root = fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    let old = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(&root)?;
    chroot(".")?;
    for (kind, target) in FILE_SYSTEMS {
        fs::create_dir_all(target).ok();
        // There are kernels without debugfs, or without tracing.
        mount(kind, target, kind, MountFlags::empty(), None).ok();
    }
    fs::create_dir_all(OLD_ROOT).ok();
    mount_bind(format!("/proc/self/fd/{}", old.as_raw_fd()), OLD_ROOT)?;
    for path in OF_OLD_ROOT {
        symlink(format!("{OLD_ROOT}{path}"), path)?;
    }
    Ok(())
}

/// Records until the end, and keeps what was recorded: with an error nothing is left to keep.
fn recorded() -> Result<()> {
    let args = options(std::env::args().skip(1), memory()?)?;
    if let Some(longest) = args.duration() {
        let most = bytes(args.max_size());
        tell(&format!("records until it is fetched, for at most {} s and about {most}", longest.as_secs()));
    }
    let capture =
        memfd_create(MEMFD, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).context("cannot make a memfd")?;
    // A last batch comes after the limit has been reached.
    limit_files(args.max_size().saturating_mul(2));
    let path = format!("/proc/self/fd/{}", capture.as_raw_fd());
    let attached = || {
        unmount(OLD_ROOT, UnmountFlags::DETACH).ok();
        say_attached();
    };
    let result = catch_unwind(AssertUnwindSafe(|| record::into_memory(args, path.into(), attached)));
    let result = result.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")));
    let size = fstat(&capture).map_or(0, |file| file.st_size as u64);
    match result {
        Ok(()) => tell(&format!("the recording is over: {}; `bouncescope record --finish` fetches it", bytes(size))),
        Err(error) if record::holds_recording(&capture) => {
            tell(&format!("the recording was cut: {error:#}; `bouncescope record --finish` fetches what there is"));
        }
        Err(error) => return Err(error),
    }
    if let Err(error) = seal(capture) {
        tell(&format!("cannot seal the capture: {error}; `bouncescope record --finish` takes longer to fetch it"));
    }
    Ok(())
}

/// Whoever waits for the end sees it by that; the descriptor stays open in any case.
fn seal(capture: OwnedFd) -> rustix::io::Result<()> {
    let sealed = fcntl_add_seals(capture.as_fd(), SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK);
    std::mem::forget(capture);
    sealed
}

/// The options, bounded; an error says which of them cannot be used.
fn options(words: impl Iterator<Item = String>, memory: u64) -> Result<record::Args> {
    let name = "bouncescope.record".to_owned();
    let unusable = |error: clap::Error| anyhow::anyhow!("{}", first_line(&error.to_string()));
    let matches = Options::command().try_get_matches_from(std::iter::once(name).chain(words)).map_err(unusable)?;
    let mut args = Options::from_arg_matches(&matches).map_err(unusable)?.record;
    ensure!(
        args.is_plain(),
        "bouncescope.record= takes neither --output nor --finish nor a command: the capture is kept in memory"
    );
    let most = memory / PART_FOR_RING;
    if matches.value_source("ring_size") == Some(ValueSource::DefaultValue) {
        args.shrink_ring(most);
    } else {
        let ring = u64::from(args.ring_size());
        ensure!(ring <= most, "a ring of {} is more than this machine has for it, {}", bytes(ring), bytes(most));
    }
    args.look_below(Path::new(OLD_ROOT));
    args.bound(LONGEST, LARGEST, memory / PART_FOR_CAPTURE);
    Ok(args)
}

/// What clap says, without its usage.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}

/// `MemTotal`, bytes.
fn memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.map(|kib: u64| kib << 10).context("/proc/meminfo does not say how much memory there is")
}

/// No file that this process writes grows beyond that: a write fails instead.
fn limit_files(bytes: u64) {
    // SAFETY: no handler runs; the signal is only ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum: Some(bytes) }).ok();
}

/// The word that process 1 waits for; it may have gone on by then.
fn say_attached() {
    let mut stdout = std::io::stdout();
    stdout.write_all(b"attached\n").and_then(|()| stdout.flush()).ok();
    if let Ok(null) = open("/dev/null", OFlags::WRONLY, Mode::empty()) {
        dup2_stdout(&null).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn of(text: &str, memory: u64) -> Result<record::Args> {
        options(text.split_whitespace().map(str::to_owned), memory)
    }

    #[test]
    fn a_forgotten_recording_is_bounded_in_time_and_size() {
        let args = of("", GIB).unwrap();
        assert_eq!((args.max_size(), args.duration()), (LARGEST, Some(LONGEST)));
        let args = of("--max-size 1G -d 2h --full", GIB).unwrap();
        assert_eq!((args.max_size(), args.duration()), (GIB / 4, Some(Duration::from_hours(2))));
    }

    #[test]
    fn a_ring_of_which_nothing_is_said_fits_a_small_machine() {
        let ring = |memory| of("", memory).unwrap().ring_size();
        assert_eq!([GIB, 128 << 20, 64 << 20, 50 << 20, 1 << 10].map(ring), [8 << 20, 8 << 20, 4 << 20, 2 << 20, 4096]);
        assert_eq!(of("-m 4M", 64 << 20).unwrap().ring_size(), 4 << 20);
        assert!(of("-m 8M", 64 << 20).is_err_and(|error| error.to_string().contains("4.0 MiB")));
    }

    #[test]
    fn options_that_make_no_sense_from_boot_are_refused_in_one_line() {
        for bad in
            ["-o x.bounce", "--finish", "-- true", "--no-such-option", "-m 512M", "--sample 3", "-d never", "--help"]
        {
            let said = of(bad, GIB).err().unwrap_or_else(|| panic!("{bad} was taken")).to_string();
            assert!(!said.is_empty() && !said.contains('\n'), "{bad}: {said}");
        }
        assert!(of("-m 512M", GIB).is_err_and(|error| error.to_string().contains("64.0 MiB")));
    }
}
