//! Choices that are a word or a number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::pool::SLOT;
use crate::size::{exact, parse_bytes};

/// Which kmalloc caches there are, by their minimum alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caches {
    /// `smallest`: 8 bytes (16 where memory tagging wants it) if there is a pool to bounce through, else the line size:
    /// `__kmalloc_minalign()` since 6.5 (`mm/slab_common.c`).
    Smallest,
    /// `line-size`: `cache_line_size()`.
    LineSize,
    /// `dma-minalign`: `ARCH_DMA_MINALIGN`.
    DmaMinalign,
    /// `packed`: `ARCH_DMA_MINALIGN`, but the smallest for call sites that are marked as never reaching DMA.
    Packed,
    /// So many bytes, a power of two.
    Bytes(u32),
}

/// Of what a length must be a multiple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alignment {
    /// `line-size`: `cache_line_size()`.
    #[default]
    LineSize,
    /// `dma-minalign`: `ARCH_DMA_MINALIGN`.
    DmaMinalign,
    /// So many bytes, a power of two.
    Bytes(u32),
}

/// The pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolChoice {
    /// `captured`: as the captured kernel's.
    #[default]
    Captured,
    /// `none`, or the kernel's own word `noforce`: `swiotlb=noforce`.
    None,
    /// `default`: what an arm64 kernel of that version makes without `swiotlb=`.
    Default,
    /// `dynamic`: the captured kernel's, or the default where it had none, with more added when it is full
    /// (`CONFIG_SWIOTLB_DYNAMIC`).
    Dynamic,
    /// A size such as `4M`, or slots such as `2048` as on the kernel's command line: `swiotlb=SLOTS`, rounded as the kernel
    /// rounds it.
    Slots(u64),
    /// `restricted=SIZE`: a pool of its own for every device, through which everything bounces.
    Restricted(u64),
}

/// The size of a device's own pool, slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSize(pub u64);

/// No pool is larger, slots (32 GiB).
const MOST_SLOTS: u64 = 1 << 24;

/// What can be said for it, as a list for people.
pub(super) const CACHES: &str = "smallest, line-size, dma-minalign, packed, or a power of two from 8 to 4096";
/// What can be said for it, as a list for people.
pub(super) const ALIGNMENTS: &str = "line-size, dma-minalign, or a power of two from 8 to 4096";
/// What can be said for it, as a list for people.
pub(super) const POOLS: &str =
    "captured, default, none, dynamic, restricted=SIZE, a size such as 4M, or slots such as 2048";
/// `swiotlb=force`, which is no size.
const FORCE: &str = "'force' is not a pool: a pool that was forced in the capture stays so, restricted=SIZE makes \
                     everything bounce through a pool for each device, and a size such as 4M is only that";
/// `swiotlb=SLOTS,AREAS,…`.
const ONE_NUMBER: &str = "only the slots are chosen here, such as 4096; areas follow the possible CPUs, and noforce is \
                          none";
const POOL_SIZES: &str = "a size such as 4M, or slots such as 2048";

impl FromStr for Caches {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "smallest" => Self::Smallest,
            "line-size" => Self::LineSize,
            "dma-minalign" => Self::DmaMinalign,
            "packed" => Self::Packed,
            number => Self::Bytes(power_of_two(number).ok_or_else(|| wrong(text, CACHES))?),
        })
    }
}

impl fmt::Display for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Smallest => f.write_str("smallest"),
            Self::LineSize => f.write_str("line-size"),
            Self::DmaMinalign => f.write_str("dma-minalign"),
            Self::Packed => f.write_str("packed"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for Alignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "line-size" => Self::LineSize,
            "dma-minalign" => Self::DmaMinalign,
            number => Self::Bytes(power_of_two(number).ok_or_else(|| wrong(text, ALIGNMENTS))?),
        })
    }
}

impl fmt::Display for Alignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineSize => f.write_str("line-size"),
            Self::DmaMinalign => f.write_str("dma-minalign"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl FromStr for PoolChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "captured" => Self::Captured,
            "none" | "noforce" => Self::None,
            "default" => Self::Default,
            "dynamic" => Self::Dynamic,
            _ if text.split(',').any(|word| word == "force") => return Err(FORCE.to_owned()),
            _ if text.contains(',') => return Err(format!("'{text}': {ONE_NUMBER}")),
            _ => match text.strip_prefix("restricted=") {
                Some(size) => Self::Restricted(slots(size, POOLS)?),
                None => Self::Slots(slots(text, POOLS)?),
            },
        })
    }
}

impl fmt::Display for PoolChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Captured => f.write_str("captured"),
            Self::None => f.write_str("none"),
            Self::Default => f.write_str("default"),
            Self::Dynamic => f.write_str("dynamic"),
            Self::Slots(slots) => f.write_str(&exact(slots * SLOT)),
            Self::Restricted(slots) => write!(f, "restricted={}", exact(slots * SLOT)),
        }
    }
}

impl FromStr for PoolSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        slots(text, POOL_SIZES).map(Self)
    }
}

impl fmt::Display for PoolSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&exact(self.0 * SLOT))
    }
}

/// Bytes below which something holds; a message of its own says what it wants.
pub(super) fn bytes_below<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Bytes;
    impl de::Visitor<'_> for Bytes {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number of bytes, such as 256")
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
            u64::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }
    }
    deserializer.deserialize_any(Bytes).map(Some)
}

/// A power of two that an alignment or a line size can be, bytes.
pub(super) fn power_of_two(text: &str) -> Option<u32> {
    text.parse().ok().filter(|bytes: &u32| bytes.is_power_of_two() && (8..=4096).contains(bytes))
}

/// Slots. A size has a unit, slots have none, as on the kernel's command line, where 0 still makes the smallest pool.
fn slots(text: &str, choices: &str) -> Result<u64, String> {
    let slots = match text.parse::<u64>() {
        Ok(slots) => slots,
        Err(_) => parse_bytes(text).map_err(|_| wrong(text, choices))?.div_ceil(SLOT),
    };
    if slots > MOST_SLOTS {
        return Err(format!("'{text}' is more than 32 GiB of pool"));
    }
    Ok(slots.max(1))
}

fn wrong(text: &str, choices: &str) -> String {
    format!("'{text}' is none of: {choices}")
}

/// A word or a number, through [`FromStr`].
fn word_or_number<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(
    deserializer: D,
    expecting: &'static str,
) -> Result<T, D::Error> {
    struct Visitor<T>(&'static str, std::marker::PhantomData<T>);
    impl<T: FromStr<Err = String>> de::Visitor<'_> for Visitor<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            self.visit_str(&number.to_string())
        }
    }
    deserializer.deserialize_any(Visitor(expecting, std::marker::PhantomData))
}

macro_rules! as_word {
    ($($type:ty: $expecting:expr;)*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                word_or_number(deserializer, $expecting)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let word = self.to_string();
                match word.parse::<u64>() {
                    Ok(number) => serializer.serialize_u64(number),
                    Err(_) => serializer.serialize_str(&word),
                }
            }
        }
    )*};
}

as_word! {
    Caches: CACHES;
    Alignment: ALIGNMENTS;
    PoolChoice: POOLS;
    PoolSize: POOL_SIZES;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_a_word_a_size_or_slots() {
        let parse = |text: &str| text.parse::<PoolChoice>();
        assert_eq!(["none", "noforce"].map(parse), [Ok(PoolChoice::None), Ok(PoolChoice::None)]);
        assert_eq!(["512", "1M", "3K"].map(parse), [512, 512, 2].map(|slots| Ok(PoolChoice::Slots(slots))));
        assert_eq!(parse("0"), Ok(PoolChoice::Slots(1)), "swiotlb=0 makes the smallest pool, not none");
        assert_eq!(parse("restricted=4M"), Ok(PoolChoice::Restricted(2048)));
        assert!(parse("lots").is_err_and(|error| error.contains("restricted=SIZE")));
        assert!(parse("999G").is_err());
    }

    #[test]
    fn what_the_kernel_also_takes_is_told_what_it_is_here() {
        let wrong = |text: &str| text.parse::<PoolChoice>().unwrap_err();
        assert!(wrong("force").contains("stays so") && wrong("4096,force").contains("stays so"));
        assert!(wrong("4096,2").contains("possible CPUs"), "{}", wrong("4096,2"));
    }

    #[test]
    fn alignments_are_powers_of_two() {
        assert_eq!("64".parse(), Ok(Caches::Bytes(64)));
        for nonsense in ["0", "4", "48", "8192", "-8", "x", ""] {
            assert!(nonsense.parse::<Caches>().is_err(), "{nonsense}");
            assert!(nonsense.parse::<Alignment>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn what_is_shown_reads_as_the_same() {
        for choice in [
            PoolChoice::Captured,
            PoolChoice::Default,
            PoolChoice::Dynamic,
            PoolChoice::Slots(1000),
            PoolChoice::Restricted(2048),
        ] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
    }
}
