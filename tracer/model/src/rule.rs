//! A policy's rule for buffers that the device can reach, with every size known.

use tracer_ebpf::decide::{Decider, TO_DEVICE};

use super::buffer::{Buffer, Reason};

/// Which buffers bounce for alignment: [`super::policy::Rule`] on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResolvedRule {
    /// What is looked at.
    pub look: Look,
    /// Lengths from this on never bounce for alignment, bytes.
    pub below: u64,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Look {
    /// At nothing: no buffer bounces.
    Never,
    /// At the length, as the kernel does.
    Kmalloc,
    /// Whether the length is a multiple of so many bytes.
    LengthMultiple(u64),
    /// Whether the length is below the rule's limit.
    Short,
    /// Whether the start is a multiple of so many bytes.
    Start(u64),
    /// Whether start and length are.
    StartOrLength(u64),
    /// Whether the length is below so many bytes, or the start no multiple of so many.
    ShortOrStart {
        /// Shorter buffers bounce.
        below: u64,
        /// So do those that do not begin at a multiple of this.
        multiple_of: u64,
    },
    /// At what else is in the first and the last line.
    Shared,
}

impl ResolvedRule {
    /// The kernel's rule.
    pub const KMALLOC: Self = Self { look: Look::Kmalloc, below: u64::MAX };

    /// Whether a buffer has to bounce, and for what.
    #[inline]
    pub fn bounces(&self, decider: &Decider, coherent: bool, buffer: &Buffer) -> Option<Reason> {
        // dma_kmalloc_safe(), for every rule.
        if coherent || buffer.direction == TO_DEVICE || buffer.size >= self.below {
            return None;
        }
        let is_multiple = |value: u64, of: u64| value.is_multiple_of(of.max(1));
        let (bounces, reason) = match self.look {
            Look::Never => (false, Reason::Kmalloc),
            Look::Kmalloc => (decider.needs_bounce(coherent, buffer.direction, buffer.size), Reason::Kmalloc),
            Look::Short => (true, Reason::Length),
            Look::Start(of) => (!is_multiple(buffer.phys, of), Reason::Start),
            Look::StartOrLength(of) if !is_multiple(buffer.phys, of) => (true, Reason::Start),
            Look::LengthMultiple(of) | Look::StartOrLength(of) => (!is_multiple(buffer.size, of), Reason::Length),
            Look::ShortOrStart { below, .. } if buffer.size < below => (true, Reason::Length),
            Look::ShortOrStart { multiple_of, .. } => (!is_multiple(buffer.phys, multiple_of), Reason::Start),
            Look::Shared => (buffer.shared, Reason::Shared),
        };
        bounces.then_some(reason)
    }
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::decide::{ARM64_DMA_MINALIGN, FROM_DEVICE};

    use super::*;

    const DECIDER: Decider =
        Decider { bounce_unaligned: 1, cache_line_size: 64, minalign: 8, dma_minalign: ARM64_DMA_MINALIGN };

    fn bounces(look: Look, below: u64, phys: u64, size: u64) -> Option<Reason> {
        let buffer = Buffer { phys, dma_addr: None, size, direction: FROM_DEVICE, attrs: 0, shared: false };
        ResolvedRule { look, below }.bounces(&DECIDER, false, &buffer)
    }

    #[test]
    fn each_rule_looks_at_what_it_is_named_for() {
        let all = u64::MAX;
        assert_eq!(bounces(Look::Never, all, 8, 8), None);
        assert_eq!(bounces(Look::Kmalloc, all, 0, 65), Some(Reason::Kmalloc));
        assert_eq!(bounces(Look::LengthMultiple(128), all, 0, 64), Some(Reason::Length));
        assert_eq!(bounces(Look::LengthMultiple(64), all, 8, 64), None);
        assert_eq!(bounces(Look::LengthMultiple(64), all, 0, 1500), Some(Reason::Length));
        assert_eq!(bounces(Look::Short, 256, 0, 128), Some(Reason::Length));
        assert_eq!(bounces(Look::Short, 256, 0, 256), None);
        assert_eq!(bounces(Look::Start(64), all, 64, 1), None);
        assert_eq!(bounces(Look::Start(128), all, 64, 1), Some(Reason::Start));
        assert_eq!(bounces(Look::Start(64), all, 66, 4096), Some(Reason::Start));
        assert_eq!(bounces(Look::Start(64), 256, 66, 4096), None);
        assert_eq!(bounces(Look::StartOrLength(64), all, 64, 65), Some(Reason::Length));
        assert_eq!(bounces(Look::StartOrLength(64), all, 64, 128), None);
        let either = |multiple_of| Look::ShortOrStart { below: 256, multiple_of };
        assert_eq!(bounces(either(64), all, 64, 255), Some(Reason::Length));
        assert_eq!(bounces(either(64), all, 66, 4096), Some(Reason::Start));
        assert_eq!([64, 128].map(|of| bounces(either(of), all, 64, 300)), [None, Some(Reason::Start)]);
    }

    #[test]
    fn no_rule_bounces_for_coherent_devices_or_what_they_only_read() {
        for look in [Look::Kmalloc, Look::LengthMultiple(64), Look::Short, Look::Start(64), Look::Shared] {
            let buffer = Buffer { phys: 3, dma_addr: None, size: 5, direction: FROM_DEVICE, attrs: 0, shared: true };
            let rule = ResolvedRule { look, below: 256 };
            assert!(rule.bounces(&DECIDER, false, &buffer).is_some(), "{look:?}");
            assert_eq!(rule.bounces(&DECIDER, true, &buffer), None);
            assert_eq!(rule.bounces(&DECIDER, false, &Buffer { direction: TO_DEVICE, ..buffer }), None);
        }
    }
}
