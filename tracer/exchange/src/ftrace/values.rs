//! What an event holds, by its names: read in one go where it is as kernels print it, else value by value (`fields`).

use super::fields::{self, CallSite, Pointer, address, array, direction, hex, number, of_all};
use bouncescope_capture::event::{Direction, Kind};

/// Longer names are no device's: sysfs has a directory of each (`NAME_MAX`, `include/uapi/linux/limits.h`).
const LONGEST_NAME: usize = 255;

/// Events that are converted, and what to.
pub(super) const EVENTS: [(&str, Kind); 13] = [
    ("kmalloc", Kind::Kmalloc),
    ("kfree", Kind::Kfree),
    ("kmalloc_node", Kind::Kmalloc),
    ("dma_map_page", Kind::Map),
    ("dma_map_phys", Kind::Map),
    ("dma_unmap_page", Kind::Unmap),
    ("dma_unmap_phys", Kind::Unmap),
    ("dma_map_sg", Kind::MapSg),
    (MAP_SG_ERR, Kind::MapSg),
    ("dma_unmap_sg", Kind::UnmapSg),
    ("swiotlb_bounced", Kind::Bounced),
    ("dma_sync_single_for_cpu", Kind::Sync),
    (SYNC_FOR_DEVICE, Kind::Sync),
];

const MAP_SG_ERR: &str = "dma_map_sg_err";
const SYNC_FOR_DEVICE: &str = "dma_sync_single_for_device";

/// Which of [`EVENTS`] has this name; `None` for those that are not converted.
pub(super) fn known(event: &str) -> Option<usize> {
    // Compared with each as a constant, where a search through the list would call memcmp().
    Some(match event {
        "kmalloc" => 0,
        "kfree" => 1,
        "kmalloc_node" => 2,
        "dma_map_page" => 3,
        "dma_map_phys" => 4,
        "dma_unmap_page" => 5,
        "dma_unmap_phys" => 6,
        "dma_map_sg" => 7,
        MAP_SG_ERR => 8,
        "dma_unmap_sg" => 9,
        "swiotlb_bounced" => 10,
        "dma_sync_single_for_cpu" => 11,
        SYNC_FOR_DEVICE => 12,
        _ => return None,
    })
}

/// The values of an event. Those of its lists are in [`Lists`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Values<'a> {
    /// `kmalloc`, `kmalloc_node`.
    Kmalloc { site: CallSite<'a>, ptr: Pointer, bytes_req: u64, bytes_alloc: u64 },
    /// `kfree`.
    Kfree { site: CallSite<'a>, ptr: Pointer },
    /// `dma_map_page`, `dma_map_phys`.
    Map { device: &'a str, phys: u64, dma_addr: u64, size: u64, direction: Direction, attrs: u64 },
    /// `dma_unmap_page`, `dma_unmap_phys`.
    Unmap { device: &'a str, dma_addr: u64, size: u64, direction: Direction, attrs: u64 },
    /// `dma_sync_single_for_cpu`, `dma_sync_single_for_device`.
    Sync { device: &'a str, dma_addr: u64, size: u64, direction: Direction, for_device: bool },
    /// `swiotlb_bounced`; a mask of 0 is not known.
    Bounced { device: &'a str, dma_mask: u64, dev_addr: u64, size: u64, forced: bool },
    /// `dma_map_sg`: buffers, DMA addresses and lengths.
    MapSg { device: &'a str, nents: u32, ents: u32, direction: Direction, attrs: u64 },
    /// `dma_map_sg_err`: buffers.
    RefusedSg { device: &'a str, direction: Direction, attrs: u64 },
    /// `dma_unmap_sg`: buffers.
    UnmapSg { device: &'a str, direction: Direction, attrs: u64 },
}

/// The lists of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// Physical addresses.
    pub(super) buffers: Vec<u64>,
    pub(super) dma_addrs: Vec<u64>,
    /// Lengths of the buffers, bytes, where `has_lengths`.
    pub(super) lengths: Vec<u64>,
    /// The event has the lengths of the DMA segments (`lengths` of `dma_map_sg`, `include/trace/events/dma.h`), which are the buffers'
    /// only where none were merged.
    pub(super) has_lengths: bool,
}

impl Lists {
    fn clear(&mut self) {
        self.buffers.clear();
        self.dma_addrs.clear();
        self.lengths.clear();
        self.has_lengths = false;
    }

    /// Finds out whether the lengths are the buffers' own. Entries are all of a list: the event holds no more than 128.
    fn settle(&mut self, entries_are_as_many: bool) {
        self.has_lengths = self.lengths.len() == self.buffers.len() && entries_are_as_many;
        if !self.has_lengths {
            self.lengths.clear();
        }
    }
}

impl<'a> Values<'a> {
    /// Of one of [`EVENTS`]; `None` where something is missing that is needed of it.
    pub(super) fn of(event: usize, text: &'a str, lists: &mut Lists) -> Option<Self> {
        let values = match as_printed(event, text, lists) {
            Some(values) => values,
            None => by_name(event, text, lists)?,
        };
        values.device().is_none_or(|name| (1..=LONGEST_NAME).contains(&name.len())).then_some(values)
    }

    /// The device that an event is of; `None` for events of objects.
    pub(super) fn device(&self) -> Option<&'a str> {
        match *self {
            Self::Kmalloc { .. } | Self::Kfree { .. } => None,
            Self::Map { device, .. }
            | Self::Unmap { device, .. }
            | Self::Sync { device, .. }
            | Self::Bounced { device, .. }
            | Self::MapSg { device, .. }
            | Self::RefusedSg { device, .. }
            | Self::UnmapSg { device, .. } => Some(device),
        }
    }
}

/// The values of an event wherever they are in its text.
fn by_name<'a>(event: usize, text: &'a str, lists: &mut Lists) -> Option<Values<'a>> {
    lists.clear();
    let (name, kind) = EVENTS[event];
    let device = || fields::device(text);
    let attrs = || fields::attrs(text);
    Some(match kind {
        Kind::Kmalloc => Values::Kmalloc {
            site: fields::call_site(text),
            ptr: fields::pointer(text)?,
            bytes_req: number(text, "bytes_req")?,
            bytes_alloc: number(text, "bytes_alloc")?,
        },
        Kind::Kfree => Values::Kfree { site: fields::call_site(text), ptr: fields::pointer(text)? },
        Kind::Map => Values::Map {
            device: device()?,
            phys: hex(text, "phys_addr")?,
            dma_addr: hex(text, "dma_addr")?,
            size: number(text, "size")?,
            direction: direction(text)?,
            attrs: attrs(),
        },
        Kind::Unmap => Values::Unmap {
            device: device()?,
            dma_addr: address(text, ["dma_addr", "addr"])?,
            size: number(text, "size")?,
            direction: direction(text)?,
            attrs: attrs(),
        },
        Kind::Sync => Values::Sync {
            device: device()?,
            dma_addr: hex(text, "dma_addr")?,
            size: number(text, "size")?,
            direction: direction(text)?,
            for_device: name == SYNC_FOR_DEVICE,
        },
        Kind::Bounced => Values::Bounced {
            device: fields::bounced_device(text)?,
            dma_mask: hex(text, "dma_mask").unwrap_or(0),
            dev_addr: hex(text, "dev_addr")?,
            size: number(text, "size")?,
            forced: fields::is_forced(text),
        },
        Kind::MapSg if name == MAP_SG_ERR => {
            // Of a refused list the event has no lengths; what it prints as `dma_addrs` are physical addresses.
            lists.buffers = array(text, "dma_addrs", 8).or_else(|| array(text, "phys_addrs", 8))?;
            Values::RefusedSg { device: device()?, direction: direction(text)?, attrs: attrs() }
        }
        Kind::MapSg => {
            lists.buffers = array(text, "phys_addrs", 8)?;
            lists.dma_addrs = array(text, "dma_addrs", 8)?;
            let lengths = array(text, "sizes", 4).or_else(|| array(text, "lengths", 4));
            let has_lengths = lengths.is_some();
            lists.lengths = lengths.unwrap_or_default();
            // `None` where the event does not say how many there are.
            let entries = |name: &str| of_all(text, name).or_else(|| of_all(text, &format!("full_{name}")));
            let (nents, ents) = (entries("nents"), entries("ents"));
            lists.settle(has_lengths && nents == ents);
            let nents = nents.unwrap_or(lists.buffers.len() as u32);
            let ents = ents.unwrap_or(lists.dma_addrs.len() as u32);
            Values::MapSg { device: device()?, nents, ents, direction: direction(text)?, attrs: attrs() }
        }
        Kind::UnmapSg => {
            lists.buffers = array(text, "phys_addrs", 8).or_else(|| array(text, "addrs", 8))?;
            Values::UnmapSg { device: device()?, direction: direction(text)?, attrs: attrs() }
        }
        _ => return None,
    })
}

/// The values of an event in the order and in the formats of its `print fmt` (`include/trace/events/{dma,swiotlb,kmem}.h`), which is what
/// nearly all lines hold: each byte is looked at once. `None` at the first that is different; what is found is as [`by_name`] finds it.
fn as_printed<'a>(event: usize, text: &'a str, lists: &mut Lists) -> Option<Values<'a>> {
    let (name, kind) = EVENTS[event];
    let mut rest = Rest(text);
    Some(match kind {
        Kind::Kmalloc => {
            let site = rest.site()?;
            Values::Kmalloc {
                site,
                ptr: rest.pointer()?,
                bytes_req: rest.decimal(b" bytes_req=")?,
                bytes_alloc: rest.decimal(b" bytes_alloc=")?,
            }
        }
        Kind::Kfree => Values::Kfree { site: rest.site()?, ptr: rest.pointer()? },
        Kind::Map => {
            let (device, direction) = (rest.device()?, rest.direction()?);
            let (dma_addr, size) = (rest.hex(b" dma_addr=")?, rest.decimal(b" size=")?);
            Values::Map { device, phys: rest.hex(b" phys_addr=")?, dma_addr, size, direction, attrs: rest.attrs()? }
        }
        Kind::Unmap => {
            let (device, direction) = (rest.device()?, rest.direction()?);
            let (dma_addr, size) = (rest.hex(b" dma_addr=")?, rest.decimal(b" size=")?);
            Values::Unmap { device, dma_addr, size, direction, attrs: rest.attrs()? }
        }
        Kind::Sync => {
            let (device, direction) = (rest.device()?, rest.direction()?);
            let (dma_addr, size) = (rest.hex(b" dma_addr=")?, rest.decimal(b" size=")?);
            Values::Sync { device, dma_addr, size, direction, for_device: name == SYNC_FOR_DEVICE }
        }
        Kind::Bounced => {
            rest.skip(b"dev_name: ")?;
            let (device, dma_mask) = (rest.device()?, rest.hex(b" dma_mask=")?);
            let (dev_addr, size) = (rest.hex(b" dev_addr=")?, rest.decimal(b" size=")?);
            Values::Bounced { device, dma_mask, dev_addr, size, forced: rest.forced()? }
        }
        Kind::MapSg if name == MAP_SG_ERR => return None,
        Kind::MapSg => {
            lists.clear();
            let (device, direction) = (rest.device()?, rest.direction()?);
            let entries = match rest.skip(b" nents=") {
                Some(()) => {
                    let nents = rest.of_all()?;
                    rest.skip(b" ents=")?;
                    let ents = rest.of_all()?;
                    let _ = rest.skip(b" [TRUNCATED]");
                    Some((nents, ents))
                }
                None => None,
            };
            rest.list(b" dma_addrs={", &mut lists.dma_addrs)?;
            rest.list(b" sizes={", &mut lists.lengths)?;
            rest.list(b" phys_addrs={", &mut lists.buffers)?;
            lists.settle(entries.is_none_or(|(nents, ents)| nents == ents));
            let (nents, ents) = entries.unwrap_or((lists.buffers.len() as u32, lists.dma_addrs.len() as u32));
            Values::MapSg { device, nents, ents, direction, attrs: rest.attrs()? }
        }
        Kind::UnmapSg => {
            lists.clear();
            let (device, direction) = (rest.device()?, rest.direction()?);
            rest.list(b" phys_addrs={", &mut lists.buffers)?;
            Values::UnmapSg { device, direction, attrs: rest.attrs()? }
        }
        _ => return None,
    })
}

/// What is left of an event's text. Each value ends at a blank or with the text.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Passes over what is expected; of constant length, so that it is compared in place.
    fn skip<const N: usize>(&mut self, expected: &[u8; N]) -> Option<()> {
        if self.0.as_bytes().first_chunk() != Some(expected) {
            return None;
        }
        self.0 = &self.0[N..];
        Some(())
    }

    /// Up to the next blank.
    fn word(&mut self) -> &'a str {
        let (word, rest) = self.0.split_at(memchr::memchr(b' ', self.0.as_bytes()).unwrap_or(self.0.len()));
        self.0 = rest;
        word
    }

    /// Takes so many bytes, which are digits.
    fn taken(&mut self, digits: usize) -> Option<()> {
        let rest = &self.0[digits..];
        self.0 = rest;
        (rest.is_empty() || rest.starts_with(' ')).then_some(())
    }

    /// A number that a name stands before.
    fn decimal<const N: usize>(&mut self, name: &[u8; N]) -> Option<u64> {
        self.skip(name)?;
        let (value, digits) = decimal(self.0.as_bytes());
        self.taken(digits)?;
        (1..=19).contains(&digits).then_some(value)
    }

    fn hex<const N: usize>(&mut self, name: &[u8; N]) -> Option<u64> {
        self.skip(name)?;
        let _ = self.skip(b"0x");
        let (value, digits) = hexadecimal(self.0.as_bytes());
        self.taken(digits)?;
        (1..=16).contains(&digits).then_some(value)
    }

    /// `call_site=function+0x10/0x40 [module]`, before which trace-cmd prints the function in brackets.
    fn site(&mut self) -> Option<CallSite<'a>> {
        if self.0.starts_with('(') {
            self.word();
            self.skip(b" ")?;
        }
        self.skip(b"call_site=")?;
        let name = self.word();
        let mut module = "";
        if self.0.starts_with(" [") {
            let (inside, rest) = self.0[2..].split_once(']')?;
            (module, self.0) = (inside, rest);
        }
        // What looks like another value is looked for as such.
        let is_plain = !name.is_empty() && !name.starts_with('(') && !module.contains(' ');
        is_plain.then(|| fields::site_of(name, module))
    }

    fn pointer(&mut self) -> Option<Pointer> {
        let before = self.0;
        if self.skip(b" ptr=(nil)").is_some() {
            return (self.0.is_empty() || self.0.starts_with(' ')).then_some(Pointer::Known(0));
        }
        self.0 = before;
        self.hex(b" ptr=").map(Pointer::Known)
    }

    /// A device's name, at the very beginning.
    fn device(&mut self) -> Option<&'a str> {
        let name = self.word();
        (!name.contains('=')).then_some(name)
    }

    fn direction(&mut self) -> Option<Direction> {
        self.skip(b" dir=")?;
        match self.word() {
            "BIDIRECTIONAL" => Some(Direction::Bidirectional),
            "TO_DEVICE" => Some(Direction::ToDevice),
            "FROM_DEVICE" => Some(Direction::FromDevice),
            _ => None,
        }
    }

    /// The attributes, which end the text.
    fn attrs(&mut self) -> Option<u64> {
        self.skip(b" attrs=")?;
        let names = self.word();
        let attrs = || if names.is_empty() { 0 } else { fields::attrs_of(names) };
        (self.0.is_empty() && !names.starts_with('(')).then(attrs)
    }

    /// `NORMAL`, `FORCE`, or nothing, which ends the text.
    fn forced(&mut self) -> Option<bool> {
        match self.0 {
            " NORMAL" | "" => Some(false),
            " FORCE" | " swiotlb_force" => Some(true),
            _ => None,
        }
    }

    /// `shown/all`; the second.
    fn of_all(&mut self) -> Option<u32> {
        let (_, shown) = decimal(self.0.as_bytes());
        self.0 = self.0[shown..].strip_prefix('/')?;
        let (all, digits) = decimal(self.0.as_bytes());
        self.taken(digits)?;
        ((1..=9).contains(&digits) && shown > 0).then_some(all as u32)
    }

    /// `{0x1000,0x2000}`, behind its name and the first brace.
    fn list<const N: usize>(&mut self, name: &[u8; N], list: &mut Vec<u64>) -> Option<()> {
        self.skip(name)?;
        if self.skip(b"}").is_some() {
            return Some(());
        }
        let mut rest = self.0.as_bytes();
        let mut at = 0;
        loop {
            if rest.starts_with(b"0x") {
                rest = &rest[2..];
                at += 2;
            }
            let (value, digits) = hexadecimal(rest);
            if !(1..=16).contains(&digits) {
                return None;
            }
            list.push(value);
            at += digits + 1;
            match rest.get(digits) {
                Some(b',') => rest = &rest[digits + 1..],
                Some(b'}') => break,
                _ => return None,
            }
        }
        self.0 = &self.0[at..];
        (self.0.is_empty() || self.0.starts_with(' ')).then_some(())
    }
}

/// The number that some bytes begin with, and how many digits it has; wrong where those are more than 19.
fn decimal(bytes: &[u8]) -> (u64, usize) {
    let mut value = 0_u64;
    for (n, byte) in bytes.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return (value, n);
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    (value, bytes.len())
}

/// The same of a hexadecimal one; wrong where there are more than 16 digits.
fn hexadecimal(bytes: &[u8]) -> (u64, usize) {
    let mut value = 0_u64;
    for (n, byte) in bytes.iter().enumerate() {
        let digit = HEX[usize::from(*byte)];
        if digit > 15 {
            return (value, n);
        }
        value = value << 4 | u64::from(digit);
    }
    (value, bytes.len())
}

/// What each byte is as a hexadecimal digit; more than 15 for none.
const HEX: [u8; 256] = {
    let mut digits = [u8::MAX; 256];
    let mut n = 0;
    while n < 16 {
        digits[b"0123456789abcdef"[n] as usize] = n as u8;
        digits[b"0123456789ABCDEF"[n] as usize] = n as u8;
        n += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What events of kernels and tools print: the text behind the event's name.
    const TEXTS: [&str; 4] = [
        include_str!("../../../../tests/traces/6.18-direct-hold-100.txt"),
        include_str!("../../../../tests/traces/6.18-x86-perf-script.txt"),
        include_str!("../../../../tests/traces/6.18-x86-trace-cmd-report.txt"),
        include_str!("../../../../tests/import/cases.toml"),
    ];

    /// Which event, and its text.
    fn events(text: &str) -> Vec<(usize, &str)> {
        let of = |line| {
            let name = |(n, (name, _)): (usize, &(&str, Kind))| {
                let (_, text) = str::split_once(line, &format!("{name}: "))?;
                Some((n, text.trim()))
            };
            EVENTS.iter().enumerate().find_map(name)
        };
        text.lines().filter_map(of).collect()
    }

    /// Reads an event in both ways; whether it is as kernels print it.
    fn is_as_printed(event: usize, text: &str) -> bool {
        let (mut lists, mut expected) = (Lists::default(), Lists::default());
        // What was there before is of no matter.
        lists.buffers.push(1);
        let Some(values) = as_printed(event, text, &mut lists) else { return false };
        assert_eq!(Some(values), by_name(event, text, &mut expected), "{text:?}");
        let has_lists = matches!(EVENTS[event].1, Kind::MapSg | Kind::UnmapSg);
        assert!(!has_lists || lists == expected, "{text:?}: {lists:?}, {expected:?}");
        true
    }

    #[test]
    fn each_event_is_known_by_its_name() {
        for (n, (name, _)) in EVENTS.iter().enumerate() {
            assert_eq!(known(name), Some(n), "{name}");
        }
        assert_eq!((known("sched_switch"), known("")), (None, None));
    }

    #[test]
    fn what_kernels_print_is_read_in_one_go() {
        for text in &TEXTS[..3] {
            for (event, text) in events(text) {
                assert!(is_as_printed(event, text), "{text}");
            }
        }
        let map_sg = known("dma_map_sg").unwrap();
        for text in [
            "1-1 dir=TO_DEVICE dma_addrs={0x52000,0xb000} sizes={0x1000,0x10} phys_addrs={0x52000,0xb000} attrs=",
            "1-1 dir=TO_DEVICE nents=128/300 ents=2/2 [TRUNCATED] dma_addrs={0x52000} sizes={0x1000} phys_addrs={0x52000} attrs=MMIO",
            "1-1 dir=TO_DEVICE nents=2/2 ents=1/1 dma_addrs={0x52000} sizes={0x1000} phys_addrs={0x52000,0x53000} attrs=0x20",
            "1-1 dir=TO_DEVICE dma_addrs={} sizes={} phys_addrs={} attrs=",
        ] {
            assert!(is_as_printed(map_sg, text), "{text}");
        }
        assert!(is_as_printed(known("dma_unmap_sg").unwrap(), "1-1 dir=TO_DEVICE phys_addrs={0x52000} attrs="));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn an_event_of_any_text_is_the_same_in_both_ways(
            text in 0..TEXTS.len(),
            event in any::<prop::sample::Index>(),
            changes in prop::collection::vec((
                any::<prop::sample::Index>(),
                0..4_usize,
                r"([ =(){}\[\],/|+x0-9a-fF\t\u{a0}é]{0,3}|size=|ptr=|dir=|attrs=|0x|\(null\)|FORCE)",
            ), 0..4),
        ) {
            thread_local!(static EVENTS: Vec<Vec<(usize, &'static str)>> = TEXTS.iter().map(|text| events(text)).collect());
            let (event, text) = EVENTS.with(|events| *event.get(&events[text]));
            let mut text = text.to_owned();
            for (at, taken, put) in changes {
                let mut at = at.index(text.len() + 1);
                while !text.is_char_boundary(at) { at -= 1; }
                let mut end = (at + taken).min(text.len());
                while !text.is_char_boundary(end) { end += 1; }
                text.replace_range(at..end, &put);
            }
            is_as_printed(event, text.trim());
        }
    }
}
