//! Loading the BPF object, and telling a refusal by the kernel from other failures.

use aya::{Ebpf, EbpfLoader, sys::SyscallError};
use bytemuck::bytes_of;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracer_ebpf::config::Config;

use super::{LiveError, map_entries::MapEntries, rings::Sizes};
use bouncescope_capture::facts::Hook;

/// The process has the capabilities, and yet the kernel refused: lockdown, a security module, a container.
const REFUSED: &str = "the kernel refused BPF (lockdown, a security module, or a container?)";

/// What loads the object. To be made first: it reads the kernel's types, which takes 15 MB for a moment, whether they are wanted or not.
pub(super) fn loader<'a>() -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    // Offsets come in as a global.
    loader.btf(None);
    loader
}

/// Loads the object of this architecture; its programs are not attached yet.
pub(super) fn load<'a>(
    mut loader: EbpfLoader<'a>,
    config: &'a Config,
    rings: Sizes,
    entries: MapEntries,
) -> Result<Ebpf, LiveError> {
    #[cfg(target_arch = "aarch64")]
    let kept = include_bytes!("objects/aarch64.o.zst");
    #[cfg(target_arch = "x86_64")]
    let kept = include_bytes!("objects/x86_64.o.zst");
    let object = zstd::decode_all(&kept[..]).map_err(LiveError::Unpack)?;
    raise_memlock_limit();
    loader.override_global("CONFIG", bytes_of(config), true);
    for (map, entries) in entries.by_map().into_iter().chain(rings.by_name()) {
        loader.map_max_entries(map, entries);
    }
    loader
        .load(&object)
        .map_err(|error| if is_not_permitted(&error) { LiveError::NotPermitted(REFUSED) } else { error.into() })
}

/// Whether the kernel's answer, at the bottom of the error, was EPERM or EACCES.
fn is_not_permitted(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = match error.downcast_ref::<SyscallError>() {
            Some(error) => Some(&error.io_error),
            None => error.downcast_ref::<std::io::Error>(),
        };
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The error when nothing at all could be attached.
pub(super) fn no_hook(hooks: &[Hook]) -> LiveError {
    let not_permitted = std::io::Error::from_raw_os_error(libc::EPERM).to_string();
    if hooks.iter().all(|hook| hook.why_not.contains(&not_permitted)) {
        return LiveError::NotPermitted(REFUSED);
    }
    LiveError::NoHook(hooks.first().map(|hook| hook.why_not.clone()).unwrap_or_default())
}

/// Descriptors that a recording takes, with room for a kernel of many hooks: a program, a map, a link or an event each.
const DESCRIPTORS: u64 = 256;
/// What most systems let a process have. More than that a command of `record`, which inherits the limit, may not be able to handle.
const USUAL: u64 = 1024;

/// Raises the limit on open files as far as it may be.
pub(super) fn raise_descriptor_limit() -> Result<(), LiveError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = maximum.unwrap_or(u64::MAX).min(USUAL);
    if current.is_none_or(|current| current >= raised) {
        return enough_descriptors(current);
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).ok();
    enough_descriptors(getrlimit(Resource::Nofile).current)
}

fn enough_descriptors(limit: Option<u64>) -> Result<(), LiveError> {
    match limit {
        Some(limit) if limit < DESCRIPTORS => Err(LiveError::FewDescriptors { limit, needed: DESCRIPTORS }),
        _ => Ok(()),
    }
}

/// Kernels before 5.11 charge BPF maps to `RLIMIT_MEMLOCK`.
fn raise_memlock_limit() {
    let unlimited = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a plain system call with a valid argument; when it is refused, loading says so.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) };
}
