//! Programs made by hand, on the tracepoints that `record` uses: some that do nothing, below whose cost no tool can be that runs programs
//! there, and one that does nothing but count, as cheaply as counting by call site and size is done with a hash.

use std::{
    ffi::{CStr, c_long},
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use anyhow::{Context as _, Result};

const BPF_MAP_CREATE: c_long = 0;
const BPF_MAP_LOOKUP_ELEM: c_long = 1;
const BPF_MAP_GET_NEXT_KEY: c_long = 4;
const BPF_PROG_LOAD: c_long = 5;
const BPF_RAW_TRACEPOINT_OPEN: c_long = 17;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
const BPF_MAP_TYPE_PERCPU_HASH: u32 = 5;
/// As many as `record` counts by default.
const ENTRIES: u32 = 16_384;
/// CPUs that there may be.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

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

/// The beginning of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    rest: [u64; 12],
}

/// `union bpf_attr` for what is done with an element.
#[repr(C)]
struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    /// Or the next key.
    value: u64,
    flags: u64,
}

/// An instruction (`struct bpf_insn`): operation, registers, offset and constant.
const fn instruction(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> u64 {
    let registers = to as u64 | (from as u64) << 4;
    code as u64 | registers << 8 | (offset as u16 as u64) << 16 | (constant as u32 as u64) << 32
}

const EXIT: u64 = instruction(0x95, 0, 0, 0, 0);
/// `r0 = 0`.
const RETURN_0: u64 = instruction(0xb7, 0, 0, 0, 0);
const NOTHING: [u64; 2] = [RETURN_0, EXIT];

/// Adds one to what a per-CPU hash has for the call site and the length of a `kmem:kmalloc`; puts 1 there where it has nothing.
fn counting(map: &OwnedFd) -> [u64; 25] {
    // The second half of a constant of 64 bits is an instruction by itself. 1 says that it is the descriptor of a map.
    let map = [instruction(0x18, 1, 1, 0, map.as_raw_fd()), 0];
    [
        // call_site and bytes_req, the first and the third argument, onto the stack.
        instruction(0x79, 2, 1, 0, 0),
        instruction(0x79, 3, 1, 16, 0),
        instruction(0x7b, 10, 2, -16, 0),
        instruction(0x7b, 10, 3, -8, 0),
        map[0],
        map[1],
        instruction(0xbf, 2, 10, 0, 0),
        instruction(0x07, 2, 0, 0, -16),
        // bpf_map_lookup_elem()
        instruction(0x85, 0, 0, 0, 1),
        instruction(0x15, 0, 0, 4, 0),
        instruction(0x79, 1, 0, 0, 0),
        instruction(0x07, 1, 0, 0, 1),
        instruction(0x7b, 0, 1, 0, 0),
        instruction(0x05, 0, 0, 9, 0),
        instruction(0x7a, 10, 0, -24, 1),
        map[0],
        map[1],
        instruction(0xbf, 2, 10, 0, 0),
        instruction(0x07, 2, 0, 0, -16),
        instruction(0xbf, 3, 10, 0, 0),
        instruction(0x07, 3, 0, 0, -24),
        // bpf_map_update_elem() with BPF_NOEXIST.
        instruction(0xb7, 4, 0, 0, 1),
        instruction(0x85, 0, 0, 0, 2),
        RETURN_0,
        EXIT,
    ]
}

/// Attached until it is dropped.
pub(super) struct Floor {
    _links: Vec<OwnedFd>,
}

impl Floor {
    pub(super) fn attach(tracepoints: &[&CStr]) -> Result<Self> {
        let links = tracepoints.iter().map(|name| attached(&NOTHING, name)).collect::<io::Result<_>>();
        Ok(Self { _links: links.context("cannot attach an empty program; it takes root")? })
    }
}

/// A count of allocations by call site and size, until it is dropped.
pub(super) struct Count {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Count {
    pub(super) fn attach() -> Result<Self> {
        let create = Create {
            map_type: BPF_MAP_TYPE_PERCPU_HASH,
            key_size: size_of::<[u64; 2]>() as u32,
            value_size: size_of::<u64>() as u32,
            max_entries: ENTRIES,
            rest: [0; 12],
        };
        let map = bpf(BPF_MAP_CREATE, &create).context("cannot make a map; it takes root")?;
        let link = attached(&counting(&map), c"kmalloc").context("cannot attach a program that counts")?;
        Ok(Self { map, _link: link })
    }

    /// All that was counted.
    pub(super) fn total(&self) -> Result<u64> {
        let possible = fs::read_to_string(POSSIBLE)?;
        let last = possible.trim().rsplit(['-', ',']).next().context("no CPU is possible")?;
        let mut values = vec![0_u64; last.parse::<usize>()? + 1];
        let (mut key, mut next, mut total) = ([0_u64; 2], [0_u64; 2], 0);
        let mut is_first = true;
        loop {
            let before = if is_first { 0 } else { key.as_ptr() as u64 };
            if !self.found(BPF_MAP_GET_NEXT_KEY, before, next.as_mut_ptr() as u64)? {
                return Ok(total);
            }
            (key, is_first) = (next, false);
            if self.found(BPF_MAP_LOOKUP_ELEM, key.as_ptr() as u64, values.as_mut_ptr() as u64)? {
                total += values.iter().sum::<u64>();
            }
        }
    }

    fn found(&self, command: c_long, key: u64, value: u64) -> io::Result<bool> {
        let element = Element { map_fd: self.map.as_raw_fd() as u32, reserved: 0, key, value, flags: 0 };
        // SAFETY: the attributes are as long as they are said to be, and both addresses are of memory that is as long as the map's keys and values.
        let status = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const element, size_of_val(&element)) };
        match io::Error::last_os_error() {
            _ if status == 0 => Ok(true),
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            error => Err(error),
        }
    }
}

/// A program on a raw tracepoint, until the descriptor is closed.
fn attached(program: &[u64], tracepoint: &CStr) -> io::Result<OwnedFd> {
    let load = Load {
        prog_type: BPF_PROG_TYPE_RAW_TRACEPOINT,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        rest: [0; 12],
    };
    let program = bpf(BPF_PROG_LOAD, &load)?;
    let open = Open { name: tracepoint.as_ptr() as u64, prog_fd: program.as_raw_fd() as u32, reserved: 0 };
    bpf(BPF_RAW_TRACEPOINT_OPEN, &open)
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
