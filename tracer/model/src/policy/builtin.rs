//! The policies of the discussion about small kmalloc caches on arm64, 2022 to 2023, and a yardstick.

use super::{Alignment, Caches, Lists, Policy, PoolChoice, Rule, WhenFull};

/// Name, rule in one line, where it was proposed, caches, which buffers bounce, of what lengths must be a multiple.
type Row = (&'static str, &'static str, &'static str, Caches, Rule, Alignment);

const LINE: Alignment = Alignment::LineSize;

const ROWS: [Row; 12] = [
    (
        "legacy",
        "caches at ARCH_DMA_MINALIGN (128 B); nothing bounces for alignment",
        "what arm64 did before Linux 6.5",
        Caches::DmaMinalign,
        Rule::Never,
        LINE,
    ),
    (
        "dynamic",
        "caches at cache_line_size(), as found at boot; nothing bounces for alignment",
        "the first series of April 2022: a dynamic arch_kmalloc_minalign()",
        Caches::LineSize,
        Rule::Never,
        LINE,
    ),
    (
        "packed",
        "caches at ARCH_DMA_MINALIGN but for call sites marked __GFP_PACKED; nothing bounces for alignment",
        "the __GFP_PACKED series of October and November 2022",
        Caches::Packed,
        Rule::Never,
        LINE,
    ),
    (
        "mainline",
        "caches from 8 B; bounce lengths below 2 * ARCH_DMA_MINALIGN whose kmalloc cache is no multiple of the line",
        "merged in Linux 6.5 (dma_kmalloc_needs_bounce())",
        Caches::Smallest,
        Rule::Kmalloc,
        LINE,
    ),
    (
        "length-multiple",
        "caches from 8 B; bounce every length that is no multiple of the line size",
        "option (a) of the discussion: require aligned lengths, here bounced instead of refused",
        Caches::Smallest,
        Rule::LengthMultiple,
        LINE,
    ),
    (
        "length-multiple-minalign",
        "caches from 8 B; bounce every length that is no multiple of ARCH_DMA_MINALIGN",
        "option (a) of the discussion, against the constant that drivers know",
        Caches::Smallest,
        Rule::LengthMultiple,
        Alignment::DmaMinalign,
    ),
    (
        "always-small",
        "caches from 8 B; bounce every length below 2 * ARCH_DMA_MINALIGN",
        "option (b) of the mailing-list discussion: bounce every short buffer, whatever its alignment",
        Caches::Smallest,
        Rule::Short,
        LINE,
    ),
    (
        "start-aligned",
        "caches from 8 B; bounce what does not begin at a line, whatever its length",
        "the discussion: look at the start of the buffer",
        Caches::Smallest,
        Rule::Start,
        LINE,
    ),
    (
        "start-and-length",
        "caches from 8 B; bounce what does not begin at a line or is not made of whole lines",
        "the discussion: look at the start and at the length",
        Caches::Smallest,
        Rule::StartOrLength,
        LINE,
    ),
    (
        "short-or-start",
        "caches from 8 B; bounce every length below 2 * ARCH_DMA_MINALIGN, and what does not begin at a line",
        "option (b) of the discussion, with a check of the start kept",
        Caches::Smallest,
        Rule::ShortOrStart,
        LINE,
    ),
    (
        "short-or-start-minalign",
        "caches from 8 B; bounce every length below 2 * ARCH_DMA_MINALIGN, and what does not begin at a multiple of ARCH_DMA_MINALIGN",
        "option (b) of the discussion, with a check of the start against the constant that drivers know",
        Caches::Smallest,
        Rule::ShortOrStart,
        Alignment::DmaMinalign,
    ),
    (
        "exact",
        "caches from 8 B; bounce only where the first or last line is known to hold something else in use",
        "a yardstick: no kernel can know this when it maps",
        Caches::Smallest,
        Rule::Shared,
        LINE,
    ),
];

/// All of them, in the order in which they were thought of.
pub fn builtins() -> impl Iterator<Item = Policy> {
    ROWS.into_iter().map(|(name, about, origin, caches, bounce, multiple_of)| Policy {
        name: name.into(),
        about: about.into(),
        origin: origin.into(),
        caches,
        bounce,
        multiple_of,
        below: None,
        lists: Lists::default(),
        pool: PoolChoice::default(),
        when_full: WhenFull::default(),
        devices: Vec::new(),
    })
}

/// The one of this name.
pub fn builtin(name: &str) -> Option<Policy> {
    builtins().find(|policy| policy.name == name)
}
