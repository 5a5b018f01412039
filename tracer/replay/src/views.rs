//! Views on what lies beside a buffer: kernels with lines of one size, the same caches and the
//! same devices see the same.

use tracer_ebpf::decide::size_roundup;

use super::mapping::{Beside, Buffer, Shares};
use super::objects::Objects;
use super::settings::Settings;
use bouncescope_model::sharing::{Object, Sharing, as_captured, in_caches};

/// All views that differ.
#[derive(Clone, Debug, Default)]
pub(super) struct Views {
    views: Vec<Settings>,
    longest_line: u64,
}

impl Views {
    /// The view of a kernel with these settings: its index.
    pub(super) fn of(&mut self, settings: &Settings) -> usize {
        let same = |other: &Settings| {
            other.decider.cache_line_size == settings.decider.cache_line_size
                && other.decider.minalign == settings.decider.minalign
                && other.packed == settings.packed
                && other.devices == settings.devices
        };
        if let Some(view) = self.views.iter().position(same) {
            return view;
        }
        self.longest_line = self.longest_line.max(u64::from(settings.decider.cache_line_size));
        self.views.push(settings.clone());
        self.views.len() - 1
    }

    /// The longest line of any of them, bytes; 0 without any.
    pub(super) fn longest_line(&self) -> u64 {
        self.longest_line
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.views.len()
    }

    /// What shares a buffer's lines, seen from each view in turn.
    pub(super) fn sharing<'a>(
        &'a self,
        buffer: &'a Buffer,
        objects: &'a Objects,
    ) -> impl Iterator<Item = Sharing> + 'a {
        self.views.iter().map(|settings| {
            let line = u64::from(settings.decider.cache_line_size);
            if let Some(object) = buffer.around.object.as_ref().filter(|object| object.of_kmalloc) {
                let caches = settings.caches(objects.address(buffer.site));
                let given = |minalign| size_roundup(object.requested, minalign);
                if given(caches.minalign) != given(settings.captured_minalign) {
                    return in_caches(object, buffer.size, line, &caches);
                }
            }
            let sharing = as_captured(buffer.phys, buffer.size, &buffer.around, line);
            let same_heap = settings.has_captured_caches();
            // With other caches the buffer's own object, which is not known, may lie elsewhere, and its neighbour too.
            match sharing {
                Sharing::Foreign if !same_heap && buffer.around.object.is_none() => Sharing::Unknown,
                sharing => sharing,
            }
        })
    }

    /// Whether a buffer and what was mapped already beside it would lie in one line, seen from each view in turn.
    pub(super) fn shares<'a>(
        &'a self,
        buffer: &'a Buffer,
        beside: &'a Beside,
        objects: &'a Objects,
    ) -> impl Iterator<Item = Shares> + 'a {
        let later = Side { phys: buffer.phys, object: buffer.around.object, site: objects.address(buffer.site) };
        let earlier = Side { phys: beside.phys, object: beside.object, site: objects.address(beside.origin.site) };
        let page_size = objects.page_size();
        let sides = [later.inferred(&earlier, page_size), earlier.inferred(&later, page_size)];
        self.views.iter().map(move |settings| shares(settings, sides, beside.from_line))
    }
}

/// One of two buffers in a line.
#[derive(Clone, Copy, Debug)]
struct Side {
    phys: u64,
    object: Option<Object>,
    site: u64,
}

/// Where an object would lie.
enum Place {
    /// Where it was.
    Same,
    /// Elsewhere, in whole lines of its own.
    Apart,
    /// Elsewhere, with others in its lines, or it is not known whether it is an object.
    Unknown,
}

impl Side {
    /// With what the other one tells of it: in one page both lie in objects of one slab cache, or none does.
    fn inferred(self, other: &Self, page_size: u64) -> Self {
        let Some(object) =
            other.object.filter(|_| self.object.is_none() && self.phys / page_size == other.phys / page_size)
        else {
            return self;
        };
        // Objects of a slab lie one after the other. What was asked for is not known.
        let base = other.phys.wrapping_sub(object.offset);
        let offset = i128::from(self.phys) - i128::from(base);
        let offset = offset.rem_euclid(i128::from(object.given.max(1))) as u64;
        let object = Object { offset, requested: object.given, ..object };
        Self { object: Some(object), site: if object.of_kmalloc { 0 } else { other.site }, ..self }
    }

    /// Where its object began; `None` where it is not known.
    fn base(&self) -> Option<u64> {
        Some(self.phys.wrapping_sub(self.object?.offset))
    }

    /// Where its object would lie.
    fn place(&self, settings: &Settings) -> Place {
        let Some(object) = self.object else {
            return if settings.has_captured_caches() { Place::Same } else { Place::Unknown };
        };
        let caches = settings.caches(self.site);
        let given = |minalign| size_roundup(object.requested, minalign);
        if !object.of_kmalloc || given(caches.minalign) == given(settings.captured_minalign) {
            return Place::Same;
        }
        let line = u64::from(settings.decider.cache_line_size).max(1);
        let given = given(caches.minalign);
        if given.is_multiple_of(line) && caches.alignment(given).is_multiple_of(line) {
            Place::Apart
        } else {
            Place::Unknown
        }
    }
}

fn shares(settings: &Settings, sides: [Side; 2], from_line: u64) -> Shares {
    let as_captured = if from_line <= u64::from(settings.decider.cache_line_size) { Shares::Yes } else { Shares::No };
    // Parts of one object stay together, and the same bytes are the same bytes.
    if from_line == 1 {
        return Shares::Yes;
    }
    let of_one_object = sides[0].base().is_some() && sides[0].base() == sides[1].base();
    match sides.map(|side| side.place(settings)) {
        [Place::Same, Place::Same] => as_captured,
        // A line's worth of the object begins where it did, or it is not known.
        [Place::Apart, _] | [_, Place::Apart] if !of_one_object => Shares::No,
        _ => Shares::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::start;
    use super::super::settings::WhatIf;
    use super::*;
    use bouncescope_model::policy::builtin;

    /// Under this policy, with lines of so many bytes.
    fn settings(policy: &str, line: u32) -> Settings {
        let change = WhatIf { cache_line_size: Some(line), ..WhatIf::default() };
        Settings::what_if(&start().kernel, &builtin(policy).unwrap(), &change)
    }

    fn side(phys: u64, object: impl Into<Option<Object>>) -> Side {
        Side { phys, object: object.into(), site: 0 }
    }

    fn of_kmalloc(size: u64) -> Object {
        Object { offset: 0, requested: size, given: size, of_kmalloc: true }
    }

    #[test]
    fn two_objects_are_in_one_line_where_they_were_and_not_where_each_has_lines_of_its_own() {
        let sides = [side(0x1000, of_kmalloc(8)), side(0x1008, of_kmalloc(8))];
        assert_eq!(shares(&settings("mainline", 64), sides, 16), Shares::Yes);
        assert_eq!(shares(&settings("legacy", 64), sides, 16), Shares::No, "caches from 128 bytes");
        assert_eq!(shares(&settings("legacy", 256), sides, 16), Shares::Unknown, "two of them in a line");
    }

    #[test]
    fn memory_that_is_no_object_of_kmalloc_stays_where_it_is() {
        let page = Object { offset: 0, requested: 4096, given: 4096, of_kmalloc: false };
        let sides = [side(0x1000, page), side(0x1008, Object { offset: 8, ..page })];
        assert_eq!(shares(&settings("legacy", 64), sides, 16), Shares::Yes);
        assert_eq!(shares(&settings("legacy", 64), sides, 128), Shares::No);
    }

    #[test]
    fn of_what_nothing_is_known_only_the_same_bytes_are_certain_in_other_caches() {
        let sides = [side(0x1000, None), side(0x1008, None)];
        assert_eq!(shares(&settings("mainline", 64), sides, 16), Shares::Yes, "the same caches");
        assert_eq!(shares(&settings("legacy", 64), sides, 16), Shares::Unknown);
        assert_eq!(shares(&settings("legacy", 64), sides, 1), Shares::Yes);
    }

    #[test]
    fn what_lies_in_the_page_of_an_object_lies_in_one_of_the_same_size() {
        let known = side(0x1040, of_kmalloc(32));
        let other = side(0x1008, None).inferred(&known, 4096);
        assert_eq!((other.base(), other.object.unwrap().offset), (Some(0x1000), 8));
        assert_eq!(shares(&settings("legacy", 64), [known, other], 128), Shares::No);
        assert!(side(0x2008, None).inferred(&known, 4096).object.is_none(), "in another page");
    }
}
