//! `objects`: thousands of small objects of kmalloc of known sizes that stay, and as many that go again, the same on every
//! kernel. Nothing is mapped.
//!
//! A symbolic link on tmpfs is one `kmemdup()` of its text (`shmem_symlink()` in `mm/shmem.c`, up to 128 bytes, with its
//! terminator). A key of type `user` is one `kmalloc()` of 24 bytes and its payload (`user_preparse()` in
//! `security/keys/user_defined.c`), one `kmemdup()` of its description, and copies of both that are freed at once.

use std::{ffi::CString, fs, os::unix::fs::symlink, thread, time::Duration};

use super::fact;
use crate::sysfs;

/// Links; every fifth [`BLOCK`] of them is removed again.
const LINKS: u64 = 16_000;
/// Keys; every fifth [`BLOCK`] of them is removed again.
const KEYS: u64 = 5000;
/// What was made one after the other goes together, so that most slabs become empty as a whole.
const BLOCK: u64 = 500;
/// Longest text of a link, bytes without its terminator: a longer one has a page.
const LONGEST_LINK: u64 = 127;
/// Longest payload of a key, bytes.
const LONGEST_PAYLOAD: u64 = 480;
/// Keys, or keyrings, in a keyring: they fit into one node of its tree (`ASSOC_ARRAY_FAN_OUT`). The tree of more has a shape
/// that depends on where the kernel was loaded.
pub(super) const IN_A_RING: u64 = 15;
/// Frees wait for RCU, and keys for the collector, which comes at once but takes its time.
const LIMIT: Duration = Duration::from_mins(1);
/// Every so many steps there is a pause, in which RCU frees. A program that is interrupted in a free does not see that of the
/// interrupt: the fewer of these there are, the fewer are lost.
const STEPS: u64 = 32;
const PAUSE: Duration = Duration::from_millis(8);

pub(super) fn run() -> Result<(), String> {
    sysfs::write("/proc/sys/kernel/keys/root_maxkeys", "100000")?;
    sysfs::write("/proc/sys/kernel/keys/root_maxbytes", "50000000")?;
    // Of its own, so that it can be run again while what it made before is still there.
    let own = format!("objects-{:05}", std::process::id());
    let dir = format!("/tmp/{own}");
    fs::create_dir_all(&dir).map_err(|error| format!("cannot create {dir}: {error}"))?;
    let (text, payload) = ("x".repeat(LONGEST_LINK as usize), vec![b'x'; LONGEST_PAYLOAD as usize]);

    let mut gone = Vec::new();
    for n in 0..LINKS {
        let path = format!("{dir}/{n}");
        symlink(&text[..length(n, LONGEST_LINK) as usize], &path)
            .map_err(|error| format!("cannot link {path}: {error}"))?;
        if goes(n) {
            gone.push(path);
        }
        pause(n);
    }
    let links = LINKS - gone.len() as u64;
    for (n, path) in gone.iter().enumerate() {
        fs::remove_file(path).map_err(|error| format!("cannot remove {path}: {error}"))?;
        pause(n as u64);
    }

    let (mut gone, mut made) = (Vec::new(), 0);
    let mut rings = [i64::from(libc::KEY_SPEC_USER_KEYRING); 4];
    let before = keys()?;
    for n in 0..KEYS {
        for level in 1..rings.len() {
            if n % IN_A_RING.pow((rings.len() - level) as u32) == 0 {
                rings[level] = add("keyring", &format!("{own}-{level}-{n:05}"), &[], rings[level - 1])?;
                made += 1;
            }
        }
        let bytes = length(n, LONGEST_PAYLOAD) as usize;
        let serial = add("user", &format!("bouncescope:{n}"), &payload[..bytes], rings[3])?;
        if goes(n) {
            gone.push((serial, rings[3]));
        }
        made += 1;
        pause(n);
    }
    let staying = before + made - gone.len() as u64;
    for (n, (serial, ring)) in gone.into_iter().enumerate() {
        unlink(serial, ring)?;
        pause(n as u64);
    }
    sysfs::wait_for("the end of the keys that were removed", LIMIT, || (keys().ok()? <= staying).then_some(()))?;
    // What was freed by then is freed for good a grace period later.
    thread::sleep(Duration::from_millis(1500));
    fact("links", links);
    fact("keys", staying - before);
    Ok(())
}

fn goes(n: u64) -> bool {
    n / BLOCK % 5 == 1
}

fn pause(step: u64) {
    if step.is_multiple_of(STEPS) {
        thread::sleep(PAUSE);
    }
}

/// Lengths 1 to `longest`, short ones more often than long ones, as kernels ask for them; the same at every run.
pub(super) fn length(n: u64, longest: u64) -> u64 {
    let random = (n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    let (a, b) = (random & 0xfff, random >> 12);
    1 + longest * a.min(b) / 0x1000
}

/// Keys of root that exist, dead ones included: `0: USAGE KEYS/INSTANTIATED …` in `/proc/key-users`.
fn keys() -> Result<u64, String> {
    let text = sysfs::read("/proc/key-users").ok_or("no /proc/key-users")?;
    let line = text.lines().find(|line| line.trim_start().starts_with("0:")).ok_or("root has no keys")?;
    let count = line.split_whitespace().nth(2).and_then(|counts| counts.split('/').next()?.parse().ok());
    count.ok_or_else(|| format!("not a line of /proc/key-users: {line}"))
}

/// Adds a key, or a keyring, to a keyring. Its serial number.
pub(super) fn add(kind: &str, description: &str, payload: &[u8], ring: i64) -> Result<i64, String> {
    let [kind, description] = [kind, description].map(|text| CString::new(text).unwrap_or_default());
    let payload_at = if payload.is_empty() { std::ptr::null() } else { payload.as_ptr() };
    // SAFETY: two NUL-terminated strings and a buffer of the length given, all of which outlive the call.
    let serial = unsafe {
        libc::syscall(libc::SYS_add_key, kind.as_ptr(), description.as_ptr(), payload_at, payload.len(), ring)
    };
    if serial < 0 { Err(format!("cannot add a key: {}", std::io::Error::last_os_error())) } else { Ok(serial) }
}

fn unlink(serial: i64, ring: i64) -> Result<(), String> {
    // SAFETY: keyctl() with this operation takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_UNLINK, serial, ring) };
    if result < 0 { Err(format!("cannot unlink a key: {}", std::io::Error::last_os_error())) } else { Ok(()) }
}
