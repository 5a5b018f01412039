//! What the kernel's messages about bouncing really mean, and what would help. Pure: knows no kernel but that of the log.
//!
//! A log becomes text ([`text_of`]), the text records (`record`), records messages (`message`) and facts of the machine
//! (`machine`), boot by boot (`reading`). Answers are given when all of a boot is known; each kind has a file of its own.

mod address;
mod boot;
mod coherent;
mod driver;
mod format;
mod full;
mod gather;
mod iommu;
mod machine;
mod message;
mod reading;
mod record;
mod text;
mod words;

#[cfg(test)]
mod tests;

use bouncescope_capture::reach::Reach;
use serde::Serialize;

pub use self::format::{FormatError, Text, text_from, text_of};
pub use self::gather::{Jump, LARGEST};
pub use self::machine::{Architecture, BusWindow, Machine, Restricted};
use self::message::Message;
use self::reading::{Group, Reading};
pub use self::text::{nothing, text, unread};

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// "buffer is full", and larger than any pool can give in one piece.
    NeverFits,
    /// "buffer is full", and there is no pool.
    NoPool,
    /// "buffer is full", and it was.
    Full,
    /// "buffer is full", with enough free slots that lie apart.
    NotInOnePiece,
    /// "buffer is full", of a pool with so many free slots that only alignment or a defect explains it.
    NoFit,
    /// "buffer is full", from a kernel that does not say how full.
    FullUnknown,
    /// The device cannot reach the buffer, and there is no pool.
    OutOfReach,
    /// The device can reach the buffer: it was to bounce for its length, and there is no pool.
    UnalignedWithoutPool,
    /// A device register, not memory.
    Register,
    /// The address of a stack or of vmalloc memory, which is none.
    NoPhysicalAddress,
    /// The bus translates no such address.
    NoTranslation,
    /// The device cannot reach the pool itself.
    PoolOutOfReach,
    /// Behind an IOMMU something had to bounce, and there is no pool.
    IommuWithoutPool,
    /// The IOMMU's own tables were bounced or moved.
    IommuTables,
    /// The IOMMU's granule is smaller than the alignment that a device asks for.
    IommuGranule,
    /// An IOMMU refused an access.
    IommuFault,
    /// The pool could not be made at boot, or not at the first attempt.
    PoolNotMade,
    /// The pool that was made at boot.
    Pool,
    /// The pool was given up after it was made.
    PoolGivenUp,
    /// The pool's areas.
    Areas,
    /// The pool is not of the size that was asked for.
    Resized,
    /// A pool for some devices alone.
    RestrictedPool,
    /// A restricted pool that could not be used.
    RestrictedPoolFailed,
    /// A pool that was to grow did not.
    NotGrown,
    /// Memory encryption makes everything bounce.
    MemoryEncryption,
    /// A sync or unmap beyond its mapping.
    BeyondMapping,
    /// An allocation or mapping with an alignment that the pool does not give.
    Alignment,
    /// Cache lines are longer than kmalloc's alignment.
    LongLines,
    /// vmalloc memory was to be mapped.
    Vmalloc,
    /// A stack was mapped.
    Stack,
    /// The device has no DMA mask.
    NoMask,
    /// The kernel refused the mask that a driver wants.
    MaskRefused,
    /// An IOMMU had no addresses left.
    IommuFull,
    /// A driver says that a mapping failed, and nothing in the log says why.
    MapFailed,
    /// The pool for atomic coherent allocations.
    AtomicPool,
    /// Coherent memory, which no bounce replaces.
    CoherentMemory,
    /// A check of `CONFIG_DMA_API_DEBUG`.
    DmaDebug,
    /// A bus whose addresses begin beyond a device's mask.
    BusWindow,
    /// A vendor's engine that reaches 4 GiB alone.
    VendorLimit,
    /// An oops on the pool's path.
    Oops,
}

/// What one line of a log, or several alike, means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explanation {
    /// What it is about.
    pub kind: Kind,
    /// Number of the first such line, from 1.
    pub line: usize,
    /// Number of the boot in the log, from 1.
    pub boot: usize,
    /// How often it happened at least: lines of the same kind, device and size, with those that loggers counted or the kernel
    /// suppressed.
    pub times: u64,
    /// How many of them the kernel suppressed.
    pub suppressed: u64,
    /// The first such line's message, without what comes before the device.
    pub message: String,
    /// `dev_name()`, where the line has it.
    pub device: Option<String>,
    /// Length that was to be mapped, bytes, where the line has it.
    pub size: Option<u64>,
    /// What it means, a sentence or two each.
    pub means: Vec<String>,
    /// What would help, a sentence or two each; empty where nothing is wrong.
    pub helps: Vec<String>,
    /// What the log does not say, and what to add to it.
    pub unknown: Vec<String>,
}

/// A line that speaks of bouncing and is none of the messages that are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Unread {
    /// Number of the line, from 1.
    pub line: usize,
    /// What the kernel printed.
    pub text: String,
}

/// How far devices reach in one boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BootReach {
    /// Number of the boot in the log, from 1.
    pub boot: usize,
    /// What decides it.
    pub reach: Reach,
}

/// A log, explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Explained {
    /// Messages in the order of the log.
    pub explanations: Vec<Explanation>,
    /// What the log says of each boot.
    pub boots: Vec<Machine>,
    /// How far devices reach, of boots that say enough for it.
    pub reach: Vec<BootReach>,
    /// Records that were read.
    pub records: u64,
    /// Records with a time or priority, as the kernel's have.
    pub kernel_records: u64,
    /// Lines about bouncing that were not understood, the first few.
    pub unread: Vec<Unread>,
    /// How many there are.
    pub unread_times: u64,
    /// Messages that were left out because a log has too many different ones.
    pub left_out: u64,
}

/// What a recogniser makes of a message.
#[derive(Clone, Debug)]
struct Said {
    kind: Kind,
    size: Option<u64>,
    means: Vec<String>,
    helps: Vec<String>,
    unknown: Vec<String>,
}

impl Said {
    fn new(kind: Kind) -> Self {
        Self { kind, size: None, means: Vec::new(), helps: Vec::new(), unknown: Vec::new() }
    }

    fn of_size(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }

    fn means(mut self, sentence: impl Into<String>) -> Self {
        self.means.push(sentence.into());
        self
    }

    fn helps(mut self, sentence: impl Into<String>) -> Self {
        self.helps.push(sentence.into());
        self
    }

    fn unknown(mut self, sentence: impl Into<String>) -> Self {
        self.unknown.push(sentence.into());
        self
    }
}

/// A message with everything that its boot says.
#[derive(Clone, Copy)]
struct Context<'a> {
    machine: &'a Machine,
    group: &'a Group,
    reading: &'a Reading,
}

impl Context<'_> {
    /// Whether the same boot has a message.
    fn has(&self, wanted: impl Fn(&Message) -> bool) -> bool {
        self.find(wanted).is_some()
    }

    fn find(&self, wanted: impl Fn(&Message) -> bool) -> Option<&Group> {
        self.reading.groups.iter().find(|group| group.boot == self.group.boot && wanted(&group.message))
    }
}

/// Explains every message of a log that is about bouncing. What the log says of a kernel is taken for that boot alone.
pub fn explain(log: &str) -> Explained {
    let reading = Reading::of(log);
    let mut explanations = Vec::new();
    for group in &reading.groups {
        let context = Context { machine: &reading.boots[group.boot], group, reading: &reading };
        let Some(said) = answer(context) else { continue };
        explanations.push(Explanation {
            kind: said.kind,
            line: group.line,
            boot: group.boot + 1,
            times: group.times.saturating_add(group.suppressed),
            suppressed: group.suppressed,
            message: group.words.clone(),
            device: group.device.clone(),
            size: said.size,
            means: said.means,
            helps: said.helps,
            unknown: said.unknown,
        });
    }
    explanations.sort_by_key(|one| one.line);
    let reach = (0..reading.boots.len())
        .filter_map(|boot| Some(BootReach { boot: boot + 1, reach: address::reach(&reading, boot)? }));
    let reach = reach.collect();
    Explained {
        explanations,
        reach,
        boots: reading.boots,
        records: reading.records,
        kernel_records: reading.kernel_records,
        unread: reading.unread,
        unread_times: reading.unread_times,
        left_out: reading.left_out,
    }
}

/// The same of a log of which lines may be left out: numbers of lines are those of the log.
pub fn explain_text(log: &Text) -> Explained {
    let mut explained = explain(&log.text);
    for one in &mut explained.explanations {
        one.line = log.line_in_log(one.line);
    }
    for one in &mut explained.unread {
        one.line = log.line_in_log(one.line);
    }
    explained
}

/// What a message means in its boot; `None` where it means nothing by itself.
fn answer(context: Context<'_>) -> Option<Said> {
    Some(match context.group.message {
        Message::Full { size, total, .. } => full::full(context, size, total),
        Message::FullWithoutFill { size } => full::without_fill(context, size),
        Message::FullWithoutFigures => full::without_figures(context),
        Message::Overflow(overflow) => address::overflow(context, overflow),
        Message::OldOverflow(overflow) => address::old_overflow(context, overflow),
        Message::PoolOverflow(overflow) => address::pool_overflow(context, overflow),
        Message::IommuInactive => iommu::inactive(context),
        Message::IommuTables => iommu::tables(context),
        Message::IommuGranule => iommu::granule(),
        Message::IommuFault => iommu::fault(),
        Message::XenFailed => boot::xen(),
        Message::NotDecrypted { pool } => boot::not_decrypted(pool),
        Message::CoherentUnsupported => coherent::unsupported(),
        Message::Panicked => full::panicked(),
        Message::NoPoolEarlier => boot::missing(context),
        Message::NotMade => boot::not_made(context),
        Message::Failed { bytes } => boot::failed(context, bytes),
        Message::Mapped(pool) => boot::mapped(context, pool),
        Message::Areas(areas) => boot::areas(areas),
        Message::AdjustedTo { mib } => boot::adjusted(context, mib),
        Message::RoundedTo { mib } => boot::rounded(context, mib),
        Message::Halved { from, to } => boot::halved(context, from, to),
        Message::LateSmall { mib } => boot::late(context, mib),
        Message::GivenUp => boot::given_up(context),
        Message::Restricted(pool) => boot::restricted(context, pool),
        Message::RestrictedOutsideLinearMap => boot::outside_linear_map(),
        Message::RestrictedFailed => boot::restricted_failed(context),
        Message::GrowFailed => boot::not_grown(),
        Message::Encryption => boot::encryption(),
        Message::LongLines { minalign, line } => boot::long_lines(minalign, line),
        Message::BeyondMapping { held, wanted } => driver::beyond_mapping(held, wanted),
        Message::AlignmentWarning => driver::alignment_warning(),
        Message::UnalignedPages => driver::unaligned_pages(context),
        Message::Vmalloc => driver::vmalloc(),
        Message::NoMask => driver::no_mask(),
        Message::NoCoherentMask => driver::no_coherent_mask(),
        Message::MaskRefused => driver::mask_refused(),
        Message::UsbBuffer { stack } => driver::usb_buffer(stack),
        Message::IommuFull => iommu::full(),
        Message::MapFailed => driver::map_failed(context)?,
        Message::MaintenanceOops => driver::maintenance_oops(),
        Message::MappingWarning { coherent } => driver::mapping_warning(coherent),
        Message::Debug(check) => driver::debug(context, check),
        Message::Rga => driver::rga(),
        Message::Oops { copy: true, checker: true, .. } => driver::copy_beyond_memory(),
        Message::Oops { copy, abort, lockup, .. } => driver::oops(context, copy, abort, lockup),
        Message::AtomicExhausted => coherent::atomic_exhausted(),
        Message::AtomicUnsuitable => coherent::atomic_unsuitable(),
        Message::AtomicNotMade => coherent::atomic_not_made(),
        Message::CoherentFailed { size } => coherent::failed(size),
        Message::DriverCoherentFailed { size } => coherent::driver_failed(size),
        Message::CoherentOutOfReach => coherent::out_of_reach(),
        Message::CmaFailed => coherent::cma(),
        Message::SetupFailed => address::setup_failed(context)?,
    })
}
