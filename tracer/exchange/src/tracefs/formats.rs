//! `events/SYSTEM/EVENT/format`: the fields of an event, by which its bytes are read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

use super::numbers::Order;
use crate::print::{self, Values};

/// Events of which the format is kept. Linux 6.18 with everything on has some 3000.
const EVENTS: usize = 1 << 16;

/// A field of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    /// Bytes from the beginning of the event.
    pub(super) offset: usize,
    /// Bytes.
    pub(super) size: usize,
    /// Where the contents are.
    place: Place,
    /// Bytes of an entry of a list.
    entry: usize,
}

/// Where the contents of a field are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In the field.
    #[default]
    Here,
    /// `__data_loc`: the field has their offset from the beginning of the event, and above it their length, 16 bits each.
    Located,
    /// `__rel_loc`: the same, from the end of the field (`include/trace/stages/stage1_struct_define.h`).
    Relative,
}

/// Fields that all events have, and where they lie (`struct trace_entry`, `include/linux/trace_events.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Common {
    at: usize,
    size: usize,
}

/// The format of an event that is imported, or the name alone of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    /// The event's name.
    pub(crate) name: String,
    fields: Vec<Field>,
    pid: Common,
}

/// Formats of all events in a file.
#[derive(Clone, Debug)]
pub(crate) struct Formats {
    by_id: HashMap<u16, Format>,
    kind: Common,
    /// Bytes of a `long` of the kernel.
    pub(crate) long: usize,
    order: Order,
}

impl Formats {
    pub(crate) fn new(order: Order) -> Self {
        Self { by_id: HashMap::new(), kind: Common { at: 0, size: 2 }, long: 8, order }
    }

    /// Takes in the text of a format. What is none is passed over: its events are then unknown, and are counted as such.
    pub(crate) fn add(&mut self, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let (mut name, mut id, mut fields) = ("", None, Vec::new());
        let (mut kind, mut pid) = (self.kind, Common { at: 4, size: 4 });
        for line in text.lines() {
            if let Some(value) = line.strip_prefix("name:") {
                name = value.trim();
            } else if let Some(value) = line.strip_prefix("ID:") {
                id = value.trim().parse().ok();
            } else if line.starts_with("print fmt:") {
                break;
            } else if let Some(field) = field(line, self.long) {
                let common = Common { at: field.offset, size: field.size };
                match field.name.as_str() {
                    "common_type" => kind = common,
                    "common_pid" => pid = common,
                    name if name.starts_with("common_") => {}
                    _ => fields.push(field),
                }
            }
        }
        let is_name =
            (1..=128).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if let (Some(id), true, true) = (id, is_name, self.by_id.len() < EVENTS) {
            self.kind = kind;
            self.by_id.insert(id, Format { name: name.to_owned(), fields, pid });
        }
    }

    /// The format of an event; `None` for one that the file does not describe.
    pub(crate) fn of(&self, event: &[u8]) -> Option<&Format> {
        let id = self.order.number_at(event, self.kind.at, self.kind.size)?;
        self.by_id.get(&u16::try_from(id).ok()?)
    }

    /// The thread id of an event.
    pub(crate) fn task(&self, format: &Format, event: &[u8]) -> u32 {
        self.order.number_at(event, format.pid.at, format.pid.size).unwrap_or(0) as u32
    }

    /// Appends an event. One that is imported and lacks a field becomes a line that cannot be read, which is counted as such; of others
    /// the name is told.
    pub(crate) fn print(&self, line: &mut String, format: &Format, event: &[u8], name_of: print::NameOf<'_>) {
        let fields = Fields { format, event, order: self.order };
        let begin = line.len();
        if print::event(line, &format.name, &fields, name_of).is_none() {
            line.truncate(begin);
            let _ = write!(line, "{}: (binary)", format.name);
        }
    }
}

/// `field:__data_loc u64[] addrs; offset:12; size:4; signed:0;`, with tabs.
pub(super) fn field(line: &str, long: usize) -> Option<Field> {
    let mut parts = line.trim().strip_prefix("field:")?.split(';').map(str::trim);
    let declaration = parts.next()?;
    let (mut offset, mut size) = (None, None);
    for part in parts {
        match part.split_once(':') {
            Some(("offset", value)) => offset = value.parse().ok(),
            Some(("size", value)) => size = value.parse().ok(),
            _ => {}
        }
    }
    let (kind, name) = declaration.rsplit_once([' ', '*'])?;
    // `char comm[16]`
    let name = name.split('[').next()?;
    let place = match kind.split_whitespace().next() {
        Some("__data_loc") => Place::Located,
        Some("__rel_loc") => Place::Relative,
        _ => Place::Here,
    };
    let entry = if kind.contains("64") || kind.contains("long long") || kind.contains("_addr_t") {
        8
    } else if kind.contains("long") || kind.contains("size_t") {
        long
    } else if kind.contains("char") || kind.contains("u8") {
        1
    } else if kind.contains("short") || kind.contains("16") {
        2
    } else {
        4
    };
    Some(Field { name: name.to_owned(), offset: offset?, size: size?, place, entry })
}

/// An event's bytes by the names of its fields.
struct Fields<'a> {
    format: &'a Format,
    event: &'a [u8],
    order: Order,
}

impl Fields<'_> {
    fn field(&self, name: &str) -> Option<&Field> {
        self.format.fields.iter().find(|field| field.name == name)
    }

    /// The bytes of a text or a list.
    fn bytes(&self, field: &Field) -> Option<&[u8]> {
        let from = match field.place {
            Place::Here => return self.event.get(field.offset..field.offset.checked_add(field.size)?),
            Place::Located => 0,
            Place::Relative => field.offset.checked_add(field.size)?,
        };
        let located = self.order.number_at(self.event, field.offset, field.size)?;
        let from = from.checked_add((located & 0xffff) as usize)?;
        self.event.get(from..from + (located >> 16 & 0xffff) as usize)
    }
}

impl Values for Fields<'_> {
    fn number(&self, name: &str) -> Option<u64> {
        let field = self.field(name).filter(|field| field.place == Place::Here)?;
        self.order.number_at(self.event, field.offset, field.size)
    }

    fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let bytes = self.bytes(self.field(name)?)?;
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(print::one_line(text))
    }

    fn list(&self, name: &str, line: &mut String) -> Option<()> {
        let field = self.field(name)?;
        let bytes = self.bytes(field)?;
        if field.entry == 0 || !bytes.len().is_multiple_of(field.entry) {
            return None;
        }
        for (n, entry) in bytes.chunks_exact(field.entry).enumerate() {
            let _ = write!(line, "{}{:#x}", if n == 0 { "" } else { "," }, self.order.number(entry)?);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `events/dma/dma_map_sg/format` of Linux 6.18.
    const MAP_SG: &str = "\
name: dma_map_sg
ID: 431
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:__data_loc char[] device;\toffset:8;\tsize:4;\tsigned:0;
\tfield:int full_nents;\toffset:12;\tsize:4;\tsigned:1;
\tfield:int full_ents;\toffset:16;\tsize:4;\tsigned:1;
\tfield:bool truncated;\toffset:20;\tsize:1;\tsigned:0;
\tfield:__data_loc u64[] phys_addrs;\toffset:24;\tsize:4;\tsigned:0;
\tfield:__data_loc u64[] dma_addrs;\toffset:28;\tsize:4;\tsigned:0;
\tfield:__data_loc unsigned int[] lengths;\toffset:32;\tsize:4;\tsigned:0;
\tfield:enum dma_data_direction dir;\toffset:36;\tsize:4;\tsigned:0;
\tfield:unsigned long attrs;\toffset:40;\tsize:8;\tsigned:0;

print fmt: \"%s dir=%s\", __get_str(device)
";

    /// Such an event: a list of two buffers, in this byte order, with the lists where the field says (`relative` or not).
    fn map_sg(order: Order, relative: bool) -> Vec<u8> {
        let number = |value: u64, length: usize| match order {
            Order::Little => value.to_le_bytes()[..length].to_vec(),
            Order::Big => value.to_be_bytes()[8 - length..].to_vec(),
        };
        let mut event = Vec::new();
        let place = |event: &Vec<u8>, at: u64, length: u64| {
            number(length << 16 | (if relative { at - event.len() as u64 - 4 } else { at }), 4)
        };
        event.extend(number(431, 2));
        event.extend([0, 0]);
        event.extend(number(77, 4));
        event.extend(place(&event, 48, 4));
        event.extend([number(2, 4), number(2, 4), number(0, 4)].concat());
        event.extend(place(&event, 52, 16));
        event.extend(place(&event, 68, 16));
        event.extend(place(&event, 84, 8));
        event.extend([number(2, 4), number(1 << 5, 8)].concat());
        event.extend(b"1-1\0");
        event.extend([0x4_0000_1008, 0x5000, 0x9000, 0x5000].map(|addr| number(addr, 8)).concat());
        event.extend([number(18, 4), number(512, 4)].concat());
        event
    }

    fn printed(formats: &Formats, event: &[u8]) -> String {
        let mut line = String::new();
        let format = formats.of(event).unwrap();
        formats.print(&mut line, format, event, &|_, _| ());
        line
    }

    #[test]
    fn the_lists_of_an_event_are_read_in_both_byte_orders_and_at_both_kinds_of_places() {
        for order in [Order::Little, Order::Big] {
            for relative in [false, true] {
                let mut formats = Formats::new(order);
                formats
                    .add(if relative { MAP_SG.replace("__data_loc", "__rel_loc") } else { MAP_SG.into() }.as_bytes());
                let event = map_sg(order, relative);
                assert_eq!(
                    printed(&formats, &event),
                    "dma_map_sg: 1-1 dir=FROM_DEVICE full_nents=2 full_ents=2 dma_addrs={0x9000,0x5000} sizes={0x12,0x200} \
                     phys_addrs={0x400001008,0x5000} attrs=0x20"
                );
                assert_eq!(formats.task(formats.of(&event).unwrap(), &event), 77);
            }
        }
    }

    #[test]
    fn what_lies_beyond_the_event_makes_a_line_that_cannot_be_read() {
        let mut formats = Formats::new(Order::Little);
        formats.add(MAP_SG.as_bytes());
        let event = map_sg(Order::Little, false);
        assert_eq!(printed(&formats, &event[..event.len() - 1]), "dma_map_sg: (binary)");
        assert_eq!(printed(&formats, &event[..2]), "dma_map_sg: (binary)");
        assert!(formats.of(&event[..1]).is_none() && formats.of(b"\x01\x01").is_none());
    }

    #[test]
    fn what_is_no_format_is_passed_over() {
        let mut formats = Formats::new(Order::Little);
        for text in ["", "name: a b\nID: 7\n", "name: a\n", "name: a\nID: 70000\n", "\u{fffd}\nfield:;offset:1;size:9"]
        {
            formats.add(text.as_bytes());
        }
        assert!(formats.by_id.is_empty());
    }
}
