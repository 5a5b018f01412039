//! A truth table as the lab's module writes it (`xtask/lab/module/README.md`), read and checked for being whole. What its
//! entries should be is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::{FromStr, SplitWhitespace},
};

use super::scenario::wanted;

/// What a kernel did, in the order in which it did it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// What its decisions depend on.
    pub(super) facts: BTreeMap<String, String>,
    /// Buffers mapped by themselves.
    pub(super) singles: Vec<Single>,
    /// Scatterlists.
    pub(super) lists: Vec<List>,
    /// Buffers held at once.
    pub(super) holds: Vec<Hold>,
}

/// What became of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    /// The device reaches it.
    Direct,
    /// The device reaches something else.
    Bounced,
    /// It was not mapped.
    Refused,
    /// In a list: no DMA segment has all of it.
    Torn,
}

/// A buffer, and what the device reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) len: u64,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) did: Did,
}

/// A buffer mapped by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Single {
    /// Bytes asked of kmalloc.
    pub(super) object: u64,
    /// Where in it the buffer begins.
    pub(super) offset: u64,
    pub(super) direction: u8,
    /// Bytes that kmalloc gave.
    pub(super) given: u64,
    pub(super) reached: Reached,
}

/// A scatterlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List {
    pub(super) number: u64,
    pub(super) direction: u8,
    /// DMA segments that came out.
    pub(super) ents: u64,
    pub(super) segments: Vec<Reached>,
}

/// Buffers held at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) len: u64,
    pub(super) direction: u8,
    pub(super) asked: u64,
    pub(super) mapped: u64,
    pub(super) bounced: u64,
    /// Slots in use before, meanwhile and after; negative where the kernel does not say.
    pub(super) used: [i64; 3],
}

impl Table {
    /// From the text, or what is wrong with it in the line of that number.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self::default();
        let mut lines = text.lines().enumerate();
        for (before, line) in &mut lines {
            let ended = table.line(line, before).map_err(|what| format!("line {}: {what}: {line:?}", before + 1))?;
            if ended {
                return lines.next().map_or(Ok(table), |_| Err("goes on after its end".into()));
            }
        }
        Err(format!("is cut after {} lines", text.lines().count()))
    }

    /// Takes a line; whether it is the last.
    fn line(&mut self, line: &str, before: usize) -> Result<bool, String> {
        let mut words = line.split_whitespace();
        match words.next().unwrap_or_default() {
            "fact" => {
                let name: String = word(&mut words)?;
                let value = words.by_ref().collect::<Vec<_>>().join(" ");
                if self.facts.insert(name, value).is_some() {
                    return Err("a fact told twice".into());
                }
            }
            "single" => self.singles.push(single(&mut words)?),
            "list" => self.lists.push(list(&mut words)?),
            "hold" => self.holds.push(hold(&mut words)?),
            "end" if word::<usize>(&mut words)? == before => return Ok(true),
            "end" => return Err(format!("{before} lines came")),
            _ => return Err("no such line".into()),
        }
        words.next().map_or(Ok(false), |more| Err(format!("more than expected: {more:?}")))
    }

    /// A fact that is a number.
    pub(super) fn number<T: FromStr>(&self, fact: &str) -> Result<T, String> {
        let value = self.facts.get(fact).ok_or_else(|| format!("does not tell {fact}"))?;
        value.parse().map_err(|_| format!("tells of {fact}: {value:?}"))
    }

    /// What is missing, or there twice, a line each.
    pub(super) fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        let mut singles = BTreeSet::new();
        for one in &self.singles {
            let part = one.object != one.reached.len;
            if !singles.insert((part, one.direction, one.reached.len)) {
                gaps.push(format!("length {} is there twice in direction {}", one.reached.len, one.direction));
            }
        }
        for direction in wanted::DIRECTIONS {
            for (part, longest) in [(false, wanted::LONGEST), (true, wanted::LONGEST_PART)] {
                let missing = (1..=longest).filter(|len| !singles.contains(&(part, direction, *len))).count();
                if missing > 0 {
                    gaps.push(format!(
                        "{missing} of {longest} lengths missing in direction {direction} (part: {part})"
                    ));
                }
            }
            let lists = self.lists.iter().filter(|list| list.direction == direction);
            let numbers: Vec<_> = lists.map(|list| list.number).collect();
            if numbers.len() < wanted::LISTS || !numbers.iter().copied().eq(0..numbers.len() as u64) {
                gaps.push(format!("{} lists in direction {direction}, or some left out", numbers.len()));
            }
            let slots = self.number::<i64>("pool_slots").unwrap_or(i64::MAX).max(0) as u64;
            let held = |enough: &dyn Fn(u64) -> bool| {
                self.holds.iter().any(|hold| hold.direction == direction && enough(hold.asked))
            };
            if !wanted::HELD.iter().all(|count| held(&|asked| asked == *count)) || !held(&|asked| asked > slots) {
                gaps.push(format!("not every number of held mappings in direction {direction}"));
            }
        }
        gaps
    }
}

fn word<T: FromStr>(words: &mut SplitWhitespace) -> Result<T, String> {
    let text = words.next().ok_or("too short")?;
    text.parse().map_err(|_| format!("not as expected: {text:?}"))
}

fn single(words: &mut SplitWhitespace) -> Result<Single, String> {
    let [object, offset, len] = [word(words)?, word(words)?, word(words)?];
    let (direction, given) = (word(words)?, word(words)?);
    let [from, to] = [word(words)?, word(words)?].map(|Hex(address)| address);
    Ok(Single { object, offset, direction, given, reached: Reached { len, from, to, did: word(words)? } })
}

fn list(words: &mut SplitWhitespace) -> Result<List, String> {
    let (number, direction, nents, ents) = (word(words)?, word(words)?, word::<usize>(words)?, word(words)?);
    let segments = words.map(|text| segment(text).ok_or_else(|| format!("not a segment: {text:?}")));
    let segments = segments.collect::<Result<Vec<_>, _>>()?;
    if segments.len() != nents {
        return Err(format!("{} segments of {nents}", segments.len()));
    }
    Ok(List { number, direction, ents, segments })
}

fn segment(text: &str) -> Option<Reached> {
    let parts: Vec<_> = text.split(':').collect();
    let &[len, from, to, did] = parts.as_slice() else { return None };
    let address = |text: &str| text.parse().ok().map(|Hex(address)| address);
    Some(Reached { len: len.parse().ok()?, from: address(from)?, to: address(to)?, did: did.parse().ok()? })
}

fn hold(words: &mut SplitWhitespace) -> Result<Hold, String> {
    let (len, direction, asked) = (word(words)?, word(words)?, word(words)?);
    let (mapped, bounced) = (word(words)?, word(words)?);
    Ok(Hold { len, direction, asked, mapped, bounced, used: [word(words)?, word(words)?, word(words)?] })
}

/// An address as the kernel's `%pa` prints it.
struct Hex(u64);

impl FromStr for Hex {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        u64::from_str_radix(text.strip_prefix("0x").ok_or(())?, 16).map(Self).map_err(|_| ())
    }
}

impl FromStr for Did {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "direct" => Self::Direct,
            "bounced" => Self::Bounced,
            "refused" => Self::Refused,
            "torn" => Self::Torn,
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample, *};

    #[test]
    fn each_kind_of_line_is_read() {
        let text = "fact release 6.12\nsingle 1024 512 8 2 1024 0x43008 0x7000 bounced\n\
                    list 3 0 2 1 4096:0x1000:0x1000:direct 8:0x2008:0x0:torn\nhold 8 2 700 512 512 0 -1 0\nend 4\n";
        let table = Table::parse(text).unwrap();
        assert_eq!(table.facts["release"], "6.12");
        let reached = Reached { len: 8, from: 0x43008, to: 0x7000, did: Did::Bounced };
        assert_eq!(table.singles, [Single { object: 1024, offset: 512, direction: 2, given: 1024, reached }]);
        assert_eq!((table.lists[0].ents, table.lists[0].segments[1].did), (1, Did::Torn));
        assert_eq!((table.holds[0].mapped, table.holds[0].used), (512, [0, -1, 0]));
    }

    #[test]
    fn a_table_that_is_cut_anywhere_is_refused() {
        let text = "fact a 1\nhold 8 2 1 1 1 0 1 0\nlist 0 0 1 1 8:0x8:0x8:direct\nend 3\n";
        assert!(Table::parse(text).is_ok());
        // Without its very last line end it is whole.
        for end in 0..text.len() - 1 {
            assert!(Table::parse(&text[..end]).is_err(), "{:?}", &text[..end]);
        }
    }

    #[test]
    fn lines_lost_on_the_way_and_lines_behind_the_end_are_noticed() {
        assert!(Table::parse("fact a 1\nend 2\n").unwrap_err().contains("1 lines came"));
        assert!(Table::parse("fact a 1\nend 1\nfact b 1\n").is_err());
        assert!(Table::parse("fact a 1\nfact a 2\nend 2\n").is_err());
        assert!(Table::parse("hold 8 2 1 1 1 0 1 0 0\nend 1\n").is_err());
        assert!(Table::parse("").is_err());
    }

    #[test]
    fn whatever_is_left_out_is_a_gap() {
        let whole = sample::table(None);
        assert_eq!(whole.gaps(), Vec::<String>::new());
        let mut less = whole.clone();
        less.singles.remove(500);
        assert_eq!(less.gaps().len(), 1);
        let mut less = whole.clone();
        less.lists.remove(5);
        assert_eq!(less.gaps().len(), 1);
        let mut less = whole.clone();
        less.holds.retain(|hold| hold.asked != 700 || hold.direction != 1);
        assert_eq!(less.gaps().len(), 1);
        let mut twice = whole;
        twice.singles.push(twice.singles[0]);
        assert_eq!(twice.gaps().len(), 1);
    }
}
