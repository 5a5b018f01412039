//! Process 1: starts the recorder, waits for it, and becomes the real init.
//!
//! Whatever fails here costs the recording and not the boot.

use std::{
    fs,
    io::Read as _,
    os::{
        fd::AsFd as _,
        unix::{
            fs::MetadataExt as _,
            process::{CommandExt as _, parent_id},
        },
    },
    panic::catch_unwind,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::statfs,
    mount::{MountFlags, UnmountFlags, mount, unmount},
};

use super::{log::tell, parameters::Parameters};
use crate::record::{self, RECORDER};

/// Where the kernel looks for its init (`kernel_init()` in `init/main.c`), and in an initramfs before that.
const INITS: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];
const INIT_OF_INITRAMFS: &str = "/init";
/// `RAMFS_MAGIC` and `TMPFS_MAGIC` of `include/uapi/linux/magic.h`: what an initramfs lies in.
const INITRAMFS: [u64; 2] = [0x8584_58f6, 0x0102_1994];

/// Becomes the real init; returns only where none can be executed.
pub(super) fn run() {
    let OfProc { command_line, program, already } = catch_unwind(of_proc).unwrap_or_default();
    let parameters = Parameters::parse(&command_line);
    let candidates = candidates(parameters.init.as_deref(), is_initramfs());
    let (patience, recording) = (parameters.patience(), parameters.record);
    let begin = move || {
        // There, a panic of the recorder would lose what it holds in memory.
        if cfg!(panic = "abort") {
            return Err("this program was built for a phone, without that".to_owned());
        }
        if already {
            return Ok("already recording, since the initramfs".to_owned());
        }
        start(&program, &recording, patience)
    };
    match catch_unwind(begin).unwrap_or_else(|_| Err("it panicked".to_owned())) {
        Ok(line) => tell(&line),
        Err(why) => tell(&format!("not recording from boot: {why}")),
    }
    for init in candidates {
        // The descriptors are the real init's to miss.
        close_opened();
        let error = Command::new(&init).args(std::env::args_os().skip(1)).exec();
        tell(&format!("cannot run {}: {error}", init.display()));
    }
}

/// What is read of /proc.
#[derive(Default)]
struct OfProc {
    /// The kernel's.
    command_line: String,
    /// This program's path.
    program: PathBuf,
    /// A recorder runs already.
    already: bool,
}

/// Reads it; /proc is mounted for that alone where it is not there yet.
fn of_proc() -> OfProc {
    let mounted = !Path::new("/proc/self").exists() && {
        fs::create_dir("/proc").ok();
        mount("proc", "/proc", "proc", MountFlags::empty(), None).is_ok()
    };
    let command_line = fs::read("/proc/cmdline").unwrap_or_default();
    let program = std::env::current_exe().ok();
    let already = record::records_from_boot();
    if mounted {
        unmount("/proc", UnmountFlags::DETACH).ok();
    }
    let program = program.or_else(|| std::env::args_os().next().map(PathBuf::from)).unwrap_or_default();
    OfProc { command_line: String::from_utf8_lossy(&command_line).into_owned(), program, already }
}

/// Starts the recorder, and waits for its word for so long; what is said of it. A recorder that takes longer goes on, and misses what
/// happens meanwhile.
fn start(program: &Path, options: &[String], patience: Duration) -> Result<String, String> {
    let began = Instant::now();
    let child = Command::new(program).arg0(RECORDER).args(options).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("cannot run {}: {error}", program.display()))?;
    let said = attached(&mut child, patience)?;
    let took = began.elapsed().as_secs_f64();
    if said {
        Ok(format!("recording from boot, attached after {took:.2} s"))
    } else {
        Ok(format!("the recorder has not attached its hooks within {took:.2} s; the boot goes on without waiting"))
    }
}

/// Whether the recorder said in time that it records.
fn attached(child: &mut Child, patience: Duration) -> Result<bool, String> {
    let Some(mut said) = child.stdout.take() else { return Ok(false) };
    let limit = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
    let mut descriptors = [PollFd::from_borrowed_fd(said.as_fd(), PollFlags::IN)];
    match poll(&mut descriptors, Some(&limit)) {
        Ok(0) => Ok(false),
        Ok(_) if said.read(&mut [0; 16]).is_ok_and(|read| read > 0) => Ok(true),
        Ok(_) => Err("the recorder ended, and said why above".to_owned()),
        Err(error) => Err(format!("cannot wait for the recorder: {error}")),
    }
}

/// The inits to try, the one that was asked for first; never this program itself.
fn candidates(asked: Option<&Path>, is_initramfs: bool) -> Vec<PathBuf> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let this = std::env::current_exe().ok().or_else(|| std::env::args_os().next().map(PathBuf::from));
    let this = this.and_then(|path| identity(&path));
    let usual = is_initramfs.then_some(INIT_OF_INITRAMFS).into_iter().chain(INITS).map(PathBuf::from);
    let all = asked.map(Path::to_owned).into_iter().chain(usual);
    all.filter(|path| this.is_none() || identity(path) != this).collect()
}

fn is_initramfs() -> bool {
    statfs("/").is_ok_and(|root| INITRAMFS.contains(&(root.f_type as u64)))
}

/// The standard descriptors that [`open_descriptors`] opened: bit n for descriptor n.
static OPENED: AtomicU8 = AtomicU8::new(0);

/// The standard library ends a program at its start where one of the three standard descriptors is closed and there is no /dev/null; the
/// kernel starts its init so where there is no /dev/console (`console_on_rootfs()` in `init/main.c`). For process 1 that would be a panic.
#[used]
#[unsafe(link_section = ".init_array")]
static OPEN_DESCRIPTORS: extern "C" fn() = open_descriptors;

extern "C" fn open_descriptors() {
    if parent_id() != 0 || std::process::id() != 1 {
        return;
    }
    loop {
        // SAFETY: no pointers; it is closed below, or kept open for the program's life.
        let descriptor = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK) };
        if !(0..=2).contains(&descriptor) {
            // SAFETY: opened just now and known to nobody, or no descriptor, of which nothing is closed.
            unsafe { libc::close(descriptor) };
            return;
        }
        OPENED.fetch_or(1 << descriptor, Ordering::Relaxed);
    }
}

/// Closes what [`open_descriptors`] opened.
fn close_opened() {
    let opened = OPENED.swap(0, Ordering::Relaxed);
    for descriptor in (0..3_i32).filter(|descriptor| opened >> descriptor & 1 == 1) {
        // SAFETY: opened by this program, which only says things through it, and can do without.
        unsafe { libc::close(descriptor) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_init_that_is_asked_for_comes_first_and_this_program_never() {
        let paths = |asked: Option<&Path>, is_initramfs| {
            candidates(asked, is_initramfs).iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(paths(Some(Path::new("/a/b")), false)[..2], ["/a/b", "/sbin/init"]);
        assert_eq!(paths(None, true)[..2], ["/init", "/sbin/init"]);
        let this = std::env::current_exe().unwrap();
        assert_eq!(paths(Some(&this), false)[0], "/sbin/init");
    }

    #[test]
    fn a_recorder_that_says_nothing_is_waited_for_no_longer_than_so_long() {
        let spawn = |script: &str| {
            Command::new("sh").args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut child = spawn("exec sleep 60");
        assert_eq!(attached(&mut child, Duration::from_millis(100)), Ok(false));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut ended = spawn("exit 3");
        assert!(attached(&mut ended, Duration::from_mins(1)).unwrap_err().contains("ended"));
        ended.wait().unwrap();
        let mut attaches = spawn("echo attached");
        assert_eq!(attached(&mut attaches, Duration::from_mins(1)), Ok(true));
        attaches.wait().unwrap();
    }
}
