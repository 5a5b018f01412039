//! A mapping with all that a stream tells of it, and what the recorded kernel did with each of its buffers.

use std::ops::Deref;

use super::site::SiteId;
use bouncescope_capture::event::{DeviceId, Direction, Memory};
use bouncescope_model::sharing::{Around, Object, Sharing};

/// One mapping: a single buffer, or a scatterlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its number in the stream, in the order of the mapping events.
    pub id: u64,
    /// Time of the mapping event, ns.
    pub time_ns: u64,
    /// The device.
    pub device: DeviceId,
    /// Direction.
    pub direction: Direction,
    /// `DMA_ATTR_*` bits.
    pub attrs: u64,
    /// Return address of who mapped the list; 0 for a single buffer, and where it was not recorded.
    pub caller: u64,
    /// What its unmapping will name.
    pub handle: Handle,
    /// The driver got an error.
    pub failed: bool,
    /// Bytes of all its buffers.
    pub bytes: u64,
    /// Its buffers: one, the recorded segments of the list, or the pieces of what was linked.
    pub buffers: Buffers,
    /// Segments of the list that were not recorded.
    pub truncated: u32,
    /// What else lies in the lines of each buffer, from each of the [`super::views`]; empty where the
    /// device writes nothing.
    pub sharing: Box<[Sharing]>,
    /// What was mapped already in the lines of its buffers, by buffer. Only where one of the two is written by its device.
    pub beside: Besides,
    /// Others may be found to be mapped beside it, as long as it lasts.
    pub in_lines: bool,
}

impl Mapping {
    /// Whether it is a scatterlist.
    pub const fn is_list(&self) -> bool {
        matches!(self.handle, Handle::List(_))
    }

    /// Whether its buffers are the pieces of one, linked into a range of DMA addresses ([`bouncescope_model::link`]).
    pub const fn is_link(&self) -> bool {
        matches!(self.handle, Handle::Link(_))
    }

    /// Where one of its buffers comes from.
    pub(crate) fn origin(&self, n: usize) -> Origin {
        Origin { site: self.buffers.get(n).map_or(SiteId::UNKNOWN, |buffer| buffer.site), caller: self.caller }
    }

    /// Which of the kernel's functions unmap it: each has an order of its own of event and slots given back.
    pub(crate) const fn way(&self) -> usize {
        match self.handle {
            Handle::Single(_) => 0,
            Handle::List(_) => 1,
            Handle::Link(_) => 2,
        }
    }
}

/// Those of one mapping: mostly none, so that a mapping has a pointer to them and no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Besides(Option<Box<Found>>);

/// One or more.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found(Vec<Beside>);

impl From<Vec<Beside>> for Besides {
    fn from(found: Vec<Beside>) -> Self {
        Self((!found.is_empty()).then(|| Box::new(Found(found))))
    }
}

impl Deref for Besides {
    type Target = [Beside];

    fn deref(&self) -> &[Beside] {
        self.0.as_ref().map_or(&[], |found| &found.0)
    }
}

/// A buffer of another mapping that lies in the lines of one that is mapped later, while it is mapped itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The later buffer: index in its mapping.
    pub buffer: u32,
    /// The earlier mapping's number in the stream; none has it that is not followed, since no kernel does anything with it.
    pub mapping: u64,
    /// Index of the earlier buffer in its mapping.
    pub index: u32,
    /// The device that it is mapped for.
    pub device: DeviceId,
    /// Where it comes from.
    pub origin: Origin,
    /// What the recorded kernel did with it.
    pub truth: Truth,
    /// Its physical address.
    pub phys: u64,
    /// The object that it lies in, where that is known.
    pub object: Option<Object>,
    /// The shortest line in which both lie, bytes; 1 where they have bytes in common.
    pub from_line: u64,
    /// Whether both would lie in one line, from each of the [`super::views`].
    pub shares: Box<[Shares]>,
}

/// Whether two buffers would lie in one cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// They would not.
    No,
    /// They would.
    Yes,
    /// It is not known where they would lie, in other caches.
    Unknown,
}

/// Where a buffer comes from, as far as is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Where its object was allocated, or else what it lies in.
    pub site: SiteId,
    /// Return address of who mapped its list; 0 where there is none, or it was not recorded.
    pub caller: u64,
}

/// How many of them [`Mapping::way`] tells apart.
pub(crate) const WAYS: usize = 3;

/// The buffers of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Buffers {
    /// Of a single mapping.
    One([Buffer; 1]),
    /// Of a list, or the pieces of a linked buffer.
    List(Vec<Buffer>),
}

impl Deref for Buffers {
    type Target = [Buffer];

    fn deref(&self) -> &[Buffer] {
        match self {
            Self::One(one) => one,
            Self::List(list) => list,
        }
    }
}

/// What an unmapping names its mapping by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handle {
    /// The DMA address.
    Single(u64),
    /// The address of the first entry of the list.
    List(u64),
    /// The DMA address that the buffer was linked at, which an unlinked range holds.
    Link(u64),
}

/// One buffer of a mapping: what is bounced, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// When the kernel took its slots, or when the mapping event was sent, ns.
    pub time_ns: u64,
    /// The CPU of that moment, from which the kernel chooses the pool's area.
    pub cpu: u16,
    /// Physical address; where `exact` is false, right only below the page size.
    pub phys: u64,
    /// The whole of `phys` is known.
    pub exact: bool,
    /// Length, bytes.
    pub size: u64,
    /// The DMA address that the buffer itself has, where the stream tells it.
    pub direct_dma_addr: Option<u64>,
    /// What it lies in, as its page said when it was mapped.
    pub memory: Memory,
    /// Where its object was allocated, or else what it lies in.
    pub site: SiteId,
    /// What is known of the memory around it.
    pub around: Around,
    /// What the kernel did.
    pub truth: Truth,
}

/// What the recorded kernel did with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The device was given the buffer itself.
    Direct {
        /// How that is known.
        proof: Proof,
    },
    /// The device was given slots of the pool.
    Bounced {
        /// Their physical address, where it was recorded.
        slot: Option<u64>,
    },
    /// The driver got an error at this buffer.
    Refused,
    /// Belongs to a list that was refused for an earlier segment.
    NotReached,
    /// The stream does not tell.
    Unknown(Unknown),
}

impl Truth {
    /// Its name, without what else is known.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct { .. } => "Direct",
            Self::Bounced { .. } => "Bounced",
            Self::Refused => "Refused",
            Self::NotReached => "NotReached",
            Self::Unknown(_) => "Unknown",
        }
    }

    /// The slots that were taken, where that was recorded.
    pub const fn slot(self) -> Option<u64> {
        match self {
            Self::Bounced { slot } => slot,
            _ => None,
        }
    }

    /// The buffer bounced.
    pub const fn is_bounced(self) -> bool {
        matches!(self, Self::Bounced { .. })
    }
}

/// How it is known that a buffer did not bounce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its DMA address is its own.
    Address,
    /// No slot was looked for; worth nothing when such events were lost.
    NoAttempt,
}

/// Why the truth is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// Events that would tell were lost.
    EventsLost,
    /// No hook that would tell was attached.
    NoHook,
    /// A list failed, and not at this segment as far as is known.
    ListFailed,
    /// The list is longer than what was recorded of it, and the IOMMU path looks at all of it.
    Truncated,
    /// The device's description was lost: nothing can be predicted.
    DeviceUnknown,
    /// A slot was taken, but no mapping event came.
    NoMappingEvent,
    /// Refused although the pool had slots, or without asking it: the IOMMU had no address, for example.
    RefusedElsewhere,
    /// No attempt to bounce was seen, and yet the DMA address is not the buffer's own.
    Contradicted,
    /// An attempt to bounce such a buffer had been given up when the mapping came.
    Late,
    /// Whether the pool was full depends on the order of searches and releases that overlap in time.
    Raced,
}

impl Unknown {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::EventsLost => "records that would prove it may have been lost",
            Self::NoHook => "no hook attached that would tell",
            Self::ListFailed => "segments of a list that failed for no reason that was seen",
            Self::Truncated => "segments of a long scatterlist that were not recorded",
            Self::DeviceUnknown => "the description of the device was lost",
            Self::RefusedElsewhere => "refused for another reason than the pool",
            Self::Contradicted => "no bounce was seen, but the DMA address is not the buffer's own",
            Self::Late => "mappings that took so long that their attempt to bounce had been given up",
            Self::Raced => "raced: whether the pool was full depends on the order of what overlaps in time",
            Self::NoMappingEvent => {
                "slots taken without a mapping event (a path that has none, or cut off by begin or end)"
            }
        }
    }
}
