//! Every entry of a truth table against the model.

use super::{
    model::Model,
    table::{Did, Hold, List, Single, Table},
};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Answers of the kernel that were compared.
    pub(super) entries: u64,
    /// Buffers and segments that the kernel bounced.
    pub(super) bounced: u64,
    /// Buffers and segments that the kernel refused to map.
    pub(super) refused: u64,
    /// Lists from which fewer DMA segments came out than went in.
    pub(super) merged: u64,
    /// Lists that the model says lose their concatenation.
    pub(super) lost: u64,
    /// Those entries for which model and kernel differ, a line each.
    pub(super) differences: Vec<String>,
}

impl Compared {
    /// Asks the model for each entry.
    pub(super) fn new(table: &Table) -> Result<Self, String> {
        let model = Model::of(table)?;
        let mut compared = Self::default();
        table.singles.iter().for_each(|one| compared.single(&model, one));
        table.lists.iter().for_each(|list| compared.list(&model, list));
        table.holds.iter().for_each(|hold| compared.hold(&model, hold));
        Ok(compared)
    }

    fn entry<T: PartialEq + std::fmt::Debug>(&mut self, model: &T, kernel: &T, of: impl FnOnce() -> String) {
        self.entries += 1;
        if model != kernel {
            self.differences.push(format!("{}: model {model:?}, kernel {kernel:?}", of()));
        }
    }

    fn count(&mut self, did: Did) {
        self.bounced += u64::from(did == Did::Bounced);
        self.refused += u64::from(did == Did::Refused);
    }

    fn single(&mut self, model: &Model, one: &Single) {
        let reached = one.reached;
        let fate = model.fate(reached.from, reached.len, one.direction);
        self.count(reached.did);
        self.entry(&(fate, model.given(one)), &(reached.did, one.given), || {
            format!(
                "{} of {} bytes at {:#x} (offset {} of an object of {}), reached at {:#x} (fate, bytes given)",
                direction(one.direction),
                reached.len,
                reached.from,
                one.offset,
                one.object,
                reached.to
            )
        });
    }

    fn list(&mut self, model: &Model, list: &List) {
        let name = || {
            let lengths: Vec<_> = list.segments.iter().map(|segment| segment.len.to_string()).collect();
            format!("{} of list {{{}}}", direction(list.direction), lengths.join(", "))
        };
        self.merged += u64::from(list.ents > 0 && list.ents < list.segments.len() as u64);
        self.lost += u64::from(model.loses_concatenation(list));
        self.entry(&model.ents(list), &list.ents, || format!("DMA segments, {}", name()));
        for (at, (segment, fate)) in list.segments.iter().zip(model.fates(list)).enumerate() {
            self.count(segment.did);
            self.entry(&fate, &segment.did, || {
                format!("segment {at} at {:#x}, reached at {:#x}, {}", segment.from, segment.to, name())
            });
        }
    }

    fn hold(&mut self, model: &Model, hold: &Hold) {
        let (mapped, bounced, slots) = model.held(hold);
        let [before, meanwhile, after] = hold.used;
        // Where the kernel does not count slots, mapped and bounced are all there is to compare.
        let counted = if before < 0 || meanwhile < 0 { slots as i64 } else { meanwhile - before };
        self.entry(&(mapped, bounced, slots as i64, before), &(hold.mapped, hold.bounced, counted, after), || {
            format!(
                "{} held mappings {} of {} bytes (mapped, bounced, slots, slots afterwards)",
                hold.asked,
                direction(hold.direction),
                hold.len
            )
        });
    }
}

fn direction(direction: u8) -> &'static str {
    ["BIDIRECTIONAL", "TO_DEVICE", "FROM_DEVICE"].get(usize::from(direction)).copied().unwrap_or("NONE")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{sample, table::Reached},
        *,
    };

    fn differences(table: &Table) -> usize {
        Compared::new(table).unwrap().differences.len()
    }

    #[test]
    fn a_kernel_that_does_what_the_model_says_differs_nowhere() {
        for granule in [None, Some(4096)] {
            let compared = Compared::new(&sample::table(granule)).unwrap();
            assert_eq!(compared.differences, Vec::<String>::new());
            assert_eq!(compared.entries, sample::ENTRIES);
            assert!(compared.bounced > 0);
            assert_eq!((compared.merged > 0, compared.lost > 0), (granule.is_some(), granule.is_some()));
        }
    }

    #[test]
    fn a_table_text_with_one_wrong_entry_gives_one_difference() {
        let text = sample::text(None);
        let wrong = [
            ("single 96 0 96 2 96 0x40008 0x90000 bounced", "single 96 0 96 2 96 0x40008 0x40008 direct"),
            ("single 97 0 97 2 128 0x40008 0x40008 direct", "single 97 0 97 2 128 0x40008 0x90000 bounced"),
            ("single 8 0 8 1 8 0x40008 0x40008 direct", "single 8 0 8 1 8 0x40008 0x0 refused"),
            ("single 8 0 8 1 8 0x40008", "single 8 0 8 1 16 0x40008"),
            ("hold 8 2 700 512 512 0 512 0", "hold 8 2 700 511 511 0 511 0"),
            ("hold 8 2 700 512 512 0 512 0", "hold 8 2 700 512 512 0 511 0"),
            ("hold 8 2 700 512 512 0 512 0", "hold 8 2 700 512 512 0 512 1"),
        ];
        for (right, false_one) in wrong {
            assert_eq!(text.matches(right).count(), 1, "{right}");
            let table = Table::parse(&text.replace(right, false_one)).unwrap();
            assert_eq!(differences(&table), 1, "{false_one}");
        }
    }

    #[test]
    fn a_list_that_keeps_or_loses_what_it_should_not_is_a_difference() {
        let mut table = sample::table(Some(4096));
        let whole = table.lists.iter().position(|list| list.ents < list.segments.len() as u64).unwrap();
        table.lists[whole].ents += 1;
        assert_eq!(differences(&table), 1);
        let mut table = sample::table(Some(4096));
        table.lists[whole].segments[0].did = Did::Torn;
        assert_eq!(differences(&table), 1);
    }

    #[test]
    fn a_list_with_a_segment_that_is_refused_is_refused_whole() {
        let mut table = sample::table(Some(4096));
        table.facts.insert("pool_slots".into(), "-1".into());
        let bounced = |list: &&List| list.segments.iter().any(|segment| segment.did == Did::Bounced);
        let list = table.lists.iter().find(bounced).cloned().unwrap();
        let refused = list.segments.iter().map(|segment| Reached { to: 0, did: Did::Refused, ..*segment }).collect();
        (table.singles, table.holds) = (Vec::new(), Vec::new());
        table.lists = vec![List { ents: 0, segments: refused, ..list }];
        let compared = Compared::new(&table).unwrap();
        assert_eq!((compared.differences.len(), compared.refused), (0, 3));
    }

    #[test]
    fn other_facts_are_another_kernel() {
        let mut table = sample::table(None);
        table.facts.insert("cache_alignment".into(), "128".into());
        assert!(differences(&table) > 100);
        table.facts.insert("coherent".into(), "1".into());
        assert!(differences(&table) > 100);
        table.facts.remove("granule");
        assert!(Compared::new(&table).is_err());
    }
}
