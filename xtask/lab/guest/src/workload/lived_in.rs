//! `lived-in before|after`: what a machine that has been used for a while holds in the caches of kmalloc. Users of many kinds, each with call
//! sites and sizes of its own, make objects that stay: links, keys, extended attributes, messages, events, sockets, open files, mounts. The
//! two parts make as many of each, so that one can be made before a recording begins and the other during it.
//!
//! Every kernel makes the same objects. A user that a kernel does not have (a `gki` has no System V messages) makes none, and a fact tells.

use std::{
    env,
    ffi::CString,
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    os::unix::fs::symlink,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use super::{fact, objects};
use crate::sysfs;

/// Files of a directory, which is one key or one event for each.
const LINKS: u64 = 15_000;
const ATTRIBUTES: u64 = 10_000;
const KEYS: u64 = 3000;
const MESSAGES: u64 = 16_000;
const EVENTS: u64 = 8000;
const MOUNTS: u64 = 60;
const SEMAPHORES: u64 = 200;
/// Open files of each kind; some of them are fewer, because each takes a page or more.
const FILES: u64 = 2000;
const FEW_FILES: u64 = 400;

/// Messages in a queue: `msgmnb` bounds their bytes.
const IN_A_QUEUE: u64 = 200;
/// What frees wait for: RCU, and a kernel thread that collects keys.
const SETTLE: Duration = Duration::from_secs(2);
/// The guest is gone long before.
const FOR_EVER: Duration = Duration::from_hours(1);

/// Makes one part.
pub(super) fn run(part: &str) -> Result<(), String> {
    let dir = format!("/tmp/lived-in-{part}");
    fs::create_dir_all(&dir).map_err(|error| format!("cannot create {dir}: {error}"))?;
    for (limit, value) in [
        ("keys/root_maxkeys", "100000"),
        ("keys/root_maxbytes", "50000000"),
        ("msgmnb", "1000000"),
        ("msgmni", "30000"),
    ] {
        // Not every kernel has messages.
        let _ = sysfs::write(format!("/proc/sys/kernel/{limit}"), value);
    }
    fact("links", links(&dir)?);
    fact("attributes", made(ATTRIBUTES, attributes(&dir))?);
    fact("keys", keys(part)?);
    fact("messages", made(MESSAGES, messages())?);
    fact("semaphores", made(SEMAPHORES, semaphores())?);
    fact("mounts", mounts(&dir)?);
    fact("files", files_of_another_process(&dir)?);
    thread::sleep(SETTLE);
    Ok(())
}

/// So many, or none where the kernel does not have these.
fn made(count: u64, result: io::Result<()>) -> Result<u64, String> {
    match result {
        Ok(()) => Ok(count),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => Ok(0),
        Err(error) => Err(error.to_string()),
    }
}

/// Links with texts of their own (`shmem_symlink()`), a third of which have names that do not fit a dentry (`__d_alloc()`).
fn links(dir: &str) -> Result<u64, String> {
    let (text, name) = ("x".repeat(128), "n".repeat(128));
    for n in 0..LINKS {
        let long = if n % 3 == 0 { &name[..40 + objects::length(n, 80) as usize] } else { "" };
        let path = format!("{dir}/{n}{long}");
        symlink(&text[..objects::length(n, 120) as usize], &path)
            .map_err(|error| format!("cannot link {path}: {error}"))?;
    }
    Ok(LINKS)
}

/// Attributes of files in memory: name and value are an object each (`simple_xattr_alloc()` in `fs/xattr.c`).
fn attributes(dir: &str) -> io::Result<()> {
    const ON_A_FILE: u64 = 20;
    let value = vec![b'v'; 1024];
    for n in 0..ATTRIBUTES {
        let path = format!("{dir}/with-attributes-{}", n / ON_A_FILE);
        if n % ON_A_FILE == 0 {
            File::create(&path)?;
        }
        let name = format!("trusted.{}{n}", "a".repeat((n % 23) as usize));
        let (path, name) = (CString::new(path)?, CString::new(name)?);
        let size = objects::length(n, 800) as usize;
        // SAFETY: two NUL-terminated strings and a buffer of at least the length given, all of which outlive the call.
        let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), size, 0) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Keys with payloads and descriptions of many lengths, and the trees of their keyrings.
fn keys(part: &str) -> Result<u64, String> {
    let (payload, text) = (vec![b'p'; 512], "d".repeat(64));
    let mut ring = 0;
    for n in 0..KEYS {
        if n % objects::IN_A_RING.pow(2) == 0 {
            let name = format!("lived-in-{part}-{n}");
            ring = objects::add("keyring", &name, &[], i64::from(libc::KEY_SPEC_USER_KEYRING))?;
        }
        let description = format!("{n}:{}", &text[..(n % 40) as usize]);
        objects::add("user", &description, &payload[..objects::length(n, 480) as usize], ring)?;
    }
    Ok(KEYS)
}

/// Messages that wait in queues (`alloc_msg()` in `ipc/msgutil.c`).
fn messages() -> io::Result<()> {
    let mut queue = -1;
    // The type comes first, and is not copied.
    let mut message = [0_u8; 1024];
    message[0] = 1;
    for n in 0..MESSAGES {
        if n % IN_A_QUEUE == 0 {
            // SAFETY: no pointers.
            queue = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        }
        let size = objects::length(n, 700) as usize;
        // SAFETY: a message of at least the length given, after its type. With no queue, the call says so.
        let result = unsafe { libc::msgsnd(queue, message.as_ptr().cast(), size, libc::IPC_NOWAIT) };
        if queue < 0 || result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sets of semaphores, one to eight each.
fn semaphores() -> io::Result<()> {
    for n in 0..SEMAPHORES {
        // SAFETY: no pointers.
        if unsafe { libc::semget(libc::IPC_PRIVATE, 1 + (n % 8) as i32, 0o600) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// File systems in memory, mounted on one another's directories.
fn mounts(dir: &str) -> Result<u64, String> {
    for n in 0..MOUNTS {
        let path = format!("{dir}/mount-{n}");
        fs::create_dir_all(&path).map_err(|error| format!("cannot create {path}: {error}"))?;
        let name = CString::new(format!("lived-in-{n}")).unwrap_or_default();
        let at = CString::new(path).unwrap_or_default();
        // SAFETY: three NUL-terminated strings that outlive the call, and no options.
        let result = unsafe { libc::mount(name.as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null()) };
        if result != 0 {
            return Err(format!("cannot mount: {}", io::Error::last_os_error()));
        }
    }
    Ok(MOUNTS)
}

/// Open files live as long as a process that has them open.
fn files_of_another_process(dir: &str) -> Result<u64, String> {
    let program = env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut child = Command::new(program)
        .args(["workload", "keep-files", dir])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the process that keeps files: {error}"))?;
    let mut said = String::new();
    let output = child.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_line(&mut said).map_err(|error| format!("cannot read what it says: {error}"))?;
    said.trim().parse().map_err(|_| format!("the process that keeps files said {said:?}"))
}

/// The process that keeps them.
pub(super) fn keep_files(dir: &str) -> Result<(), String> {
    const MOST: libc::rlim_t = 100_000;
    let limit = libc::rlimit { rlim_cur: MOST, rlim_max: MOST };
    // SAFETY: valid limits that outlive the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(format!("cannot have so many files: {}", io::Error::last_os_error()));
    }
    for (name, value) in [("max_user_instances", "4000"), ("max_queued_events", "200000")] {
        sysfs::write(format!("/proc/sys/fs/inotify/{name}"), value)?;
    }
    let failed = |error: io::Error| format!("cannot keep files: {error}");
    let mut kept = 0;
    for n in 0..FILES {
        kept += event_file(n).and_then(|()| timer(n)).and_then(|()| signals()).map_err(failed).map(|()| 3)?;
        kept += opened("/proc/self/status").map_err(failed)?;
        kept += bound_socket(dir, n).map_err(failed)?;
    }
    for n in 0..FEW_FILES {
        kept += pipe().and_then(|()| poll()).and_then(|()| netlink()).map_err(failed).map(|()| 4)?;
        kept += opened(&format!("/sys/kernel/slab/{}", SYSFS[n as usize % SYSFS.len()])).unwrap_or(0);
    }
    kept += watch(dir).map_err(failed)?;
    println!("{kept}");
    thread::sleep(FOR_EVER);
    Ok(())
}

/// Some files of caches that every kernel has.
const SYSFS: [&str; 6] = [
    "kmalloc-512/order",
    "kmalloc-512/objs_per_slab",
    "kmalloc-1k/order",
    "kmalloc-1k/slab_size",
    "dentry/order",
    "dentry/align",
];

/// What a call returned that returns a descriptor, which stays open.
fn descriptor(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn event_file(n: u64) -> io::Result<()> {
    // SAFETY: no pointers.
    descriptor(unsafe { libc::eventfd(n as u32, 0) }).map(drop)
}

fn timer(_: u64) -> io::Result<()> {
    // SAFETY: no pointers.
    descriptor(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) }).map(drop)
}

/// Its object has 8 bytes (`struct signalfd_ctx`).
fn signals() -> io::Result<()> {
    // SAFETY: a set of signals may be all zeros, and outlives the call.
    descriptor(unsafe {
        let set: libc::sigset_t = std::mem::zeroed();
        libc::signalfd(-1, &raw const set, 0)
    })
    .map(drop)
}

fn opened(path: &str) -> io::Result<u64> {
    std::mem::forget(File::open(path)?);
    Ok(1)
}

/// A socket with an address of its own (`unix_create_addr()`).
fn bound_socket(dir: &str, n: u64) -> io::Result<u64> {
    // SAFETY: no pointers.
    let socket = descriptor(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0) })?;
    // SAFETY: an address may be all zeros.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    // Of the abstract names, which begin with a zero.
    let name = format!("{dir}{n}{}", "s".repeat((n % 70) as usize));
    for (to, byte) in address.sun_path[1..].iter_mut().zip(name.bytes()) {
        *to = byte as libc::c_char;
    }
    let length = (size_of::<libc::sa_family_t>() + 1 + name.len()) as libc::socklen_t;
    // SAFETY: an address of at least the length given, which outlives the call.
    let result = unsafe { libc::bind(socket, (&raw const address).cast(), length) };
    descriptor(result).map(|_| 1)
}

fn pipe() -> io::Result<()> {
    let mut ends = [0; 2];
    // SAFETY: a place for two descriptors.
    descriptor(unsafe { libc::pipe(ends.as_mut_ptr()) }).map(drop)
}

fn poll() -> io::Result<()> {
    // SAFETY: no pointers.
    descriptor(unsafe { libc::epoll_create1(0) }).map(drop)
}

fn netlink() -> io::Result<()> {
    // SAFETY: no pointers.
    descriptor(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE) }).map(drop)
}

/// Events with names of many lengths that nobody reads (`inotify_handle_inode_event()`).
fn watch(dir: &str) -> io::Result<u64> {
    let watched = format!("{dir}/watched");
    fs::create_dir_all(&watched)?;
    // SAFETY: no pointers.
    let instance = descriptor(unsafe { libc::inotify_init1(0) })?;
    let path = CString::new(watched.as_str())?;
    // SAFETY: a NUL-terminated string that outlives the call.
    descriptor(unsafe { libc::inotify_add_watch(instance, path.as_ptr(), libc::IN_MOVED_TO) })?;
    let text = "e".repeat(200);
    let mut from = format!("{watched}/first");
    File::create(&from)?;
    for n in 0..EVENTS {
        let to = format!("{watched}/{n}{}", &text[..objects::length(n, 190) as usize]);
        fs::rename(&from, &to)?;
        from = to;
    }
    Ok(1)
}
