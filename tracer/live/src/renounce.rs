//! Giving up capabilities once everything is attached: a recorder that only reads needs next to none.
//!
//! Programs and hooks stay attached as long as their descriptors are open, and the ring is shared memory: neither asks for a
//! capability again.

use rustix::{
    io::Result,
    process::geteuid,
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs},
};

/// `BPF_MAP_LOOKUP_ELEM` of `enum bpf_cmd`.
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;

/// Gives up what the calling thread does not need any more, and returns what it kept. Threads that are started later have no more; one
/// that was started before has to do the same itself.
///
/// Root keeps nothing: debugfs, slabinfo and tracefs belong to it. Others keep what opens these again and again. Both keep
/// `CAP_BPF` (or `CAP_SYS_ADMIN`) where the kernel wants it even for reading a map.
///
/// With `runs_command` a command is still to be run, which gets from the kernel what the user may have; without, nothing that
/// this process might be made to execute gets anything back (`no_new_privs`).
pub fn renounce(runs_command: bool) -> Result<CapabilitySet> {
    renounce_unless(runs_command, || true)
}

/// The same for a thread that goes on to make files. It keeps `CAP_DAC_OVERRIDE` where `can_write` finds that it could not without: root in a
/// directory of somebody else.
pub fn renounce_unless(runs_command: bool, can_write: impl FnOnce() -> bool) -> Result<CapabilitySet> {
    let held = capabilities(None)?;
    let mut kept = CapabilitySet::empty();
    if !geteuid().is_root() {
        kept |= held.permitted & (CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE);
    }
    // Only those in effect at first, so that they can be taken up again.
    set_capabilities(None, CapabilitySets { effective: kept, ..held })?;
    if !can_write() {
        kept |= held.permitted & CapabilitySet::DAC_OVERRIDE;
    }
    if !may_read_maps() {
        kept |= [CapabilitySet::BPF, CapabilitySet::SYS_ADMIN]
            .into_iter()
            .find(|one| held.permitted.contains(*one))
            .unwrap_or(CapabilitySet::empty());
    }
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() })?;
    if !runs_command {
        set_no_new_privs(true)?;
    }
    Ok(kept)
}

/// Whether this kernel lets the thread, as it is now, read BPF maps.
///
/// Where `kernel.unprivileged_bpf_disabled` is set, `__sys_bpf()` (`kernel/bpf/syscall.c`) of 5.10 refuses every command to those
/// without `CAP_BPF`, that of later kernels only what makes maps and programs. A map that is not there shows which comes
/// first, the refusal or the search for it.
fn may_read_maps() -> bool {
    // `map_fd`, padding, `key`, `value`, `flags` of `union bpf_attr`.
    let no_map: [u64; 4] = [u64::from(u32::MAX), 0, 0, 0];
    // SAFETY: the kernel reads `no_map` only, of the length given; it finds no map, and so touches neither key nor value.
    let answer = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_MAP_LOOKUP_ELEM, no_map.as_ptr(), size_of_val(&no_map) as libc::c_long)
    };
    answer == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_that_renounced_has_nothing_left_that_it_does_not_need() {
        let (kept, left) = thread::spawn(|| (renounce(false).unwrap(), capabilities(None).unwrap())).join().unwrap();
        assert_eq!((left.effective, left.permitted, left.inheritable), (kept, kept, CapabilitySet::empty()));
        let needed = CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE | CapabilitySet::BPF;
        assert!((needed | CapabilitySet::SYS_ADMIN).contains(kept), "{kept:?}");
        assert!(!geteuid().is_root() || !kept.intersects(CapabilitySet::DAC_READ_SEARCH), "root owns what it reads");
    }

    #[test]
    fn what_was_renounced_cannot_be_taken_up_again() {
        thread::spawn(|| {
            let before = capabilities(None).unwrap();
            let kept = renounce(true).unwrap();
            let lost = before.permitted - kept;
            assert!(lost.is_empty() || set_capabilities(None, before).is_err(), "{lost:?} came back");
        })
        .join()
        .unwrap();
    }
}
