//! Views on what lies beside a buffer: kernels with lines of one size, the same caches and the
//! same devices see the same.

use tracer_ebpf::decide::size_roundup;

use super::mapping::Buffer;
use super::objects::Objects;
use super::settings::Settings;
use bouncescope_model::sharing::{Sharing, as_captured, in_caches};

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
            let same_heap = settings.decider.minalign == settings.captured_minalign && settings.packed.is_none();
            // With other caches the buffer's own object, which is not known, may lie elsewhere, and its neighbour too.
            match sharing {
                Sharing::Foreign if !same_heap && buffer.around.object.is_none() => Sharing::Unknown,
                sharing => sharing,
            }
        })
    }
}
