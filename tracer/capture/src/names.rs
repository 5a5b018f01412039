//! Names that the recorder writes into a capture: of the hooks' subjects, of the programs, and of what was lost. Here they are enums, so
//! that the compiler asks for the meaning of a new one; a name of a later version is kept as it is.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tracer_ebpf::{counter::Other, record::Kind};

/// An enum of names, each with its text in captures and on screen, and one variant for every other text.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is explained by its name in captures, which stands beside it")]
        pub enum $name {
            $($(#[$of])* $variant,)*
            /// One of a later version.
            Unknown(Box<str>),
        }

        impl $name {
            /// All that this version knows.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in captures and on screen.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Unknown(name) => name,
                }
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                match name {
                    $($text => Self::$variant,)*
                    other => Self::Unknown(other.into()),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        by_name!($name);
    };
}

/// Order and spelling in files are those of the name.
macro_rules! by_name {
    ($name:ident) => {
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.to_string().cmp(&other.to_string())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(String::deserialize(deserializer)?.as_str().into())
            }
        }
    };
}

names! {
    /// What a hook records.
    Subject {
        SlotMap = "slot_map",
        SlotUnmap = "slot_unmap",
        CoherentAlloc = "coherent_alloc",
        CoherentFree = "coherent_free",
        PoolSyncForCpu = "pool_sync_for_cpu",
        PoolSyncForDevice = "pool_sync_for_device",
        MaintainForDevice = "maintain_for_device",
        MaintainForCpu = "maintain_for_cpu",
        Bounced = "bounced",
        Unmap = "unmap",
        UnmapSg = "unmap_sg",
        Map = "map",
        MapSg = "map_sg",
        MapSgRefused = "map_sg_refused",
        MapSgtableRefused = "map_sgtable_refused",
        MapResource = "map_resource",
        UnmapResource = "unmap_resource",
        IovaLink = "iova_link",
        IovaUnlink = "iova_unlink",
        Sync = "sync",
        SyncSg = "sync_sg",
        Kmalloc = "kmalloc",
        Kfree = "kfree",
        KfreeBulk = "kfree_bulk",
    }
}

impl Default for Subject {
    fn default() -> Self {
        Self::Unknown(Box::default())
    }
}

names! {
    /// A program in the kernel.
    Program {
        SlotMapEntry = "slot_map_entry",
        SlotMapReturn = "slot_map_return",
        SlotMapExit = "slot_map_exit",
        SlotUnmap = "slot_unmap",
        SlotUnmapEnter = "slot_unmap_enter",
        CoherentAllocEntry = "coherent_alloc_entry",
        CoherentAllocReturn = "coherent_alloc_return",
        CoherentAllocExit = "coherent_alloc_exit",
        CoherentFreeEntry = "coherent_free_entry",
        CoherentFreeEnter = "coherent_free_enter",
        PoolReturn = "pool_return",
        PoolCpuEntry = "pool_cpu_entry",
        PoolDeviceEntry = "pool_device_entry",
        PoolSyncEntry = "pool_sync_entry",
        MaintainDeviceEntry = "maintain_device_entry",
        MaintainCpuEntry = "maintain_cpu_entry",
        SwiotlbBounced = "swiotlb_bounced",
        DmaUnmap = "dma_unmap",
        UnmapEntry = "unmap_entry",
        DmaUnmapSg = "dma_unmap_sg",
        UnmapSgEntry = "unmap_sg_entry",
        DmaMap = "dma_map",
        MapPhysEntry = "map_phys_entry",
        MapPageEntry = "map_page_entry",
        MapReturn = "map_return",
        DmaMapSg = "dma_map_sg",
        MapSgEntry = "map_sg_entry",
        MapSgtEntry = "map_sgt_entry",
        MapSgReturn = "map_sg_return",
        MapSgReturnTurns = "map_sg_return_turns",
        MapSgRefused = "map_sg_refused",
        MapSgExit = "map_sg_exit",
        MapSgtExit = "map_sgt_exit",
        DmaMapResource = "dma_map_resource",
        MapResourceEntry = "map_resource_entry",
        MapResourceReturn = "map_resource_return",
        DmaUnmapResource = "dma_unmap_resource",
        UnmapResourceEntry = "unmap_resource_entry",
        IovaLinkEntry = "iova_link_entry",
        IovaLinkEnter = "iova_link_enter",
        IovaLinkReturn = "iova_link_return",
        IovaLinkExit = "iova_link_exit",
        IovaUnlinkEntry = "iova_unlink_entry",
        IovaUnlinkEnter = "iova_unlink_enter",
        IovaDestroyEntry = "iova_destroy_entry",
        IovaDestroyEnter = "iova_destroy_enter",
        SyncForCpu = "sync_for_cpu",
        SyncForDevice = "sync_for_device",
        SyncForCpuEntry = "sync_for_cpu_entry",
        SyncForDeviceEntry = "sync_for_device_entry",
        SyncSgForCpu = "sync_sg_for_cpu",
        SyncSgForDevice = "sync_sg_for_device",
        SyncSgForCpuEntry = "sync_sg_for_cpu_entry",
        SyncSgForDeviceEntry = "sync_sg_for_device_entry",
        Kmalloc = "kmalloc",
        Kfree = "kfree",
        FreeBulk = "free_bulk",
        FreeBulkTurns = "free_bulk_turns",
        FreeBulkEnter = "free_bulk_enter",
    }
}

/// Something that a recording has lost. What follows from each stands in `replay::losses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Records that the full ring refused.
    RingFull(Kind),
    /// Runs of a program that the kernel skipped, because another one ran on that CPU (`recursion_misses`).
    Missed(Program),
    /// What the programs count as lost.
    Counted(Other),
    /// Records that made no sense to the recorder.
    Malformed,
    /// Events of any kind that an imported trace reports as lost.
    TraceEvents,
    /// A loss of a later version.
    Unknown(Box<str>),
}

/// How the names of [`Loss::RingFull`] begin.
const RING_FULL: &str = "ring_full.";
/// How the names of [`Loss::Missed`] begin.
const MISSED: &str = "missed.";
const MALFORMED: &str = "malformed";
const TRACE_EVENTS: &str = "trace_events";

impl From<&str> for Loss {
    fn from(name: &str) -> Self {
        let unknown = || Self::Unknown(name.into());
        if let Some(kind) = name.strip_prefix(RING_FULL) {
            return Kind::ALL.into_iter().find(|one| one.name() == kind).map_or_else(unknown, Self::RingFull);
        }
        if let Some(program) = name.strip_prefix(MISSED) {
            return Self::Missed(program.into());
        }
        match name {
            MALFORMED => Self::Malformed,
            TRACE_EVENTS => Self::TraceEvents,
            _ => {
                let counted = Other::LOSSES.into_iter().find(|(_, one)| *one == name);
                counted.map_or_else(unknown, |(other, _)| Self::Counted(other))
            }
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RingFull(kind) => write!(f, "{RING_FULL}{}", kind.name()),
            Self::Missed(program) => write!(f, "{MISSED}{program}"),
            Self::Counted(other) => {
                f.write_str(Other::LOSSES.iter().find(|(one, _)| one == other).map_or("", |(_, name)| name))
            }
            Self::Malformed => f.write_str(MALFORMED),
            Self::TraceEvents => f.write_str(TRACE_EVENTS),
            Self::Unknown(name) => f.write_str(name),
        }
    }
}

by_name!(Loss);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_written() {
        for subject in Subject::ALL {
            assert_eq!(Subject::from(subject.name()), *subject);
        }
        for program in Program::ALL {
            assert_eq!(Loss::from(format!("missed.{program}").as_str()), Loss::Missed(program.clone()));
        }
        let counted = Other::LOSSES.map(|(other, _)| Loss::Counted(other));
        let rings = Kind::ALL.map(Loss::RingFull);
        for loss in counted.iter().chain(&rings).chain([&Loss::Malformed, &Loss::TraceEvents]) {
            assert_eq!(&Loss::from(loss.to_string().as_str()), loss);
        }
    }

    #[test]
    fn names_of_a_later_version_are_kept() {
        for name in ["ring_full.sound", "missed.sound", "sound_full", ""] {
            assert_eq!(Loss::from(name).to_string(), name);
        }
        assert_eq!(Subject::from("sound").name(), "sound");
    }
}
