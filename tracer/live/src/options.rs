//! What a session is asked for.

use std::path::PathBuf;

use bouncescope_capture::labels::Labels;
use tracer_ebpf::streamed::Streamed;

use super::{MapEntries, Places};

/// Which rings objects go through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectRings {
    /// Arrays that this process maps, one for each CPU and program; where they cannot be had, as below, and the start's notes say why.
    #[default]
    Best,
    /// Ring buffers of the kernel's, one for each of up to 8 CPUs: for tests.
    Kernel,
}

/// How to trace.
#[expect(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
#[derive(Clone, Debug)]
pub struct Options {
    /// Stream one allocation in how many, a power of two: 1 all, 0 none. Counts by call site are exact in any case.
    pub allocation_sample: u64,
    /// What the times of allocations and frees may be rounded down to where they are kept, ns, as the stream says
    /// ([`bouncescope_capture::stream::Start::object_tick_ns`]); `None` for exact times.
    pub object_tick_ns: Option<u32>,
    /// Which mappings to stream. Counts by length are exact in any case.
    pub streamed: Streamed,
    /// Size of the ring of all that is no object, bytes, rounded up to a power of two of at least a page. Those of objects
    /// share as much again where all allocations are streamed, and a sixteenth of it where a sample is (an eighth in rings of the kernel's).
    pub ring_bytes: u32,
    /// Sizes of the programs' maps.
    pub map_entries: MapEntries,
    /// Shrink the kmalloc caches before they are sampled at the beginning and at the end, so that the kernel's count of their
    /// objects is exact.
    pub shrink_caches: bool,
    /// Let the tracing file system count `swiotlb_bounced` too, as a second witness.
    pub count_tracefs: bool,
    /// Which of the places where the same can be seen.
    pub places: Places,
    /// Which rings objects go through.
    pub object_rings: ObjectRings,
    /// Print the programs' debug messages.
    pub programs_log: bool,
    /// The BTF of this very kernel, for one that shows none itself: a raw blob, an ELF file, or an archive of one.
    pub btf: Option<PathBuf>,
    /// What to write into the capture as its recorder.
    pub recorder: String,
    /// What to say of the machine in the capture.
    pub labels: Labels,
    /// Let the kernel count throughout what the programs cost, not only at the beginning.
    pub count_costs: bool,
    /// Time cache maintenance too. Non-coherent devices need it with every mapping, however long, so that this costs more than all
    /// the rest.
    pub time_maintenance: bool,
    /// Let the kernel's own high-water mark of the pool begin anew, so that it is that of the recording.
    pub reset_hiwater: bool,
}

impl Default for Options {
    /// What `record` does when nothing else is asked for; the recorder is this process's command line.
    fn default() -> Self {
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        Self {
            allocation_sample: 64,
            object_tick_ns: None,
            streamed: Streamed::Small,
            ring_bytes: 8 << 20,
            map_entries: MapEntries::default(),
            shrink_caches: false,
            count_tracefs: false,
            places: Places::Best,
            object_rings: ObjectRings::Best,
            programs_log: false,
            btf: None,
            recorder: arguments.collect::<Vec<_>>().join(" "),
            labels: Labels::default(),
            count_costs: false,
            time_maintenance: false,
            reset_hiwater: true,
        }
    }
}
