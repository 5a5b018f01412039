//! `objects`: thousands of small objects of kmalloc of known sizes that stay, and as many that go again, the same on every
//! kernel. Nothing is mapped.
//!
//! A symbolic link on tmpfs is one `kmemdup()` of its text (`shmem_symlink()` in `mm/shmem.c`, up to 128 bytes, with its
//! terminator). A key of type `user` is one `kmalloc()` of 24 bytes and its payload (`user_preparse()` in
//! `security/keys/user_defined.c`), one `kmemdup()` of its description, and copies of both that are freed at once.

use std::{ffi::CString, fs, os::unix::fs::symlink, thread, time::Duration};

use super::fact;
use crate::sysfs;

/// Links that stay, and as many that are removed again.
const LINKS: u64 = 16_000;
/// Keys that stay, and as many that are removed again.
const KEYS: u64 = 8000;
/// Longest text of a link, bytes without its terminator: a longer one has a page.
const LONGEST_LINK: u64 = 127;
/// Longest payload of a key, bytes.
const LONGEST_PAYLOAD: u64 = 480;
/// Frees wait for RCU, and keys for the collector, which comes at once but takes its time.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run() -> Result<(), String> {
    sysfs::write("/proc/sys/kernel/keys/root_maxkeys", "100000")?;
    sysfs::write("/proc/sys/kernel/keys/root_maxbytes", "50000000")?;
    // Of its own, so that it can be run again while what it made before is still there.
    let own = format!("objects-{}", std::process::id());
    let dir = format!("/tmp/{own}");
    fs::create_dir_all(&dir).map_err(|error| format!("cannot create {dir}: {error}"))?;
    let text = "x".repeat(LONGEST_LINK as usize);
    let link = |n: u64| -> Result<String, String> {
        let path = format!("{dir}/{n}");
        symlink(&text[..length(n, LONGEST_LINK) as usize], &path).map_err(|error| format!("cannot link {path}: {error}"))?;
        Ok(path)
    };
    let ring = keyring(&own)?;
    let keys_before = keys()?;

    // Those that go lie between those that stay, as they do in a system that has run for a while.
    let mut gone = (Vec::new(), Vec::new());
    for n in 0..2 * LINKS {
        let path = link(n)?;
        if n % 2 == 1 {
            gone.0.push(path);
        }
    }
    for n in 0..2 * KEYS {
        let serial = key(n, length(n, LONGEST_PAYLOAD), ring)?;
        if n % 2 == 1 {
            gone.1.push(serial);
        }
    }
    for path in gone.0 {
        fs::remove_file(&path).map_err(|error| format!("cannot remove {path}: {error}"))?;
    }
    for serial in gone.1 {
        unlink(serial, ring)?;
    }
    sysfs::wait_for("the end of the keys that were removed", LIMIT, || (keys().ok()? <= keys_before + KEYS).then_some(()))?;
    // What was freed by then is freed for good a grace period later.
    thread::sleep(Duration::from_millis(1500));
    fact("links", LINKS);
    fact("keys", KEYS);
    Ok(())
}

/// Lengths 1 to `longest`, short ones more often than long ones, as kernels ask for them; the same at every run.
fn length(n: u64, longest: u64) -> u64 {
    // Pairs of one that stays and one that goes are of the same length. The multiplier is Knuth's.
    let random = (n / 2 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
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

/// A keyring that stays when this process ends.
fn keyring(name: &str) -> Result<i64, String> {
    add("keyring", name, &[], i64::from(libc::KEY_SPEC_USER_KEYRING))
}

/// Key number `n` with so many bytes of payload. Its serial number.
fn key(n: u64, bytes: u64, ring: i64) -> Result<i64, String> {
    add("user", &format!("bouncescope:{n}"), &vec![b'x'; bytes as usize], ring)
}

fn add(kind: &str, description: &str, payload: &[u8], ring: i64) -> Result<i64, String> {
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
