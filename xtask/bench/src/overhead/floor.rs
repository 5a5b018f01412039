//! Programs that do nothing, on the tracepoints that `record` uses: below their cost no tool can be that runs programs there.

use std::{
    ffi::{CStr, c_long},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context as _, Result};

const BPF_PROG_LOAD: c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: c_long = 17;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
/// `r0 = 0; exit`.
const NOTHING: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

/// The beginning of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    rest: [u64; 12],
}

/// `union bpf_attr` for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct Open {
    name: u64,
    prog_fd: u32,
    reserved: u32,
}

/// Attached until it is dropped.
pub(super) struct Floor {
    _links: Vec<OwnedFd>,
}

impl Floor {
    pub(super) fn attach(tracepoints: &[&CStr]) -> Result<Self> {
        let load = Load {
            prog_type: BPF_PROG_TYPE_RAW_TRACEPOINT,
            insn_cnt: NOTHING.len() as u32,
            insns: NOTHING.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            rest: [0; 12],
        };
        let attach = |name: &&CStr| {
            let program = bpf(BPF_PROG_LOAD, &load)?;
            let open = Open { name: name.as_ptr() as u64, prog_fd: program.as_raw_fd() as u32, reserved: 0 };
            bpf(BPF_RAW_TRACEPOINT_OPEN, &open)
        };
        let links = tracepoints.iter().map(attach).collect::<io::Result<_>>();
        Ok(Self { _links: links.context("cannot attach an empty program; it takes root")? })
    }
}

/// The `bpf()` system call, for the commands that return a file descriptor.
fn bpf<T>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are as long as they are said to be, and what they point to outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
