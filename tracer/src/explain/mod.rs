//! What the kernel's messages about bouncing really mean, and what would help. Here: finding them in a log; what each kind
//! says is in a file of its own. Pure: knows no kernel but that of the log.

mod boot;
mod full;
mod iommu;
mod line;
mod reach;

#[cfg(test)]
mod tests;

use serde::Serialize;

pub use line::Context;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// "buffer is full", and larger than any pool can give in one piece.
    NeverFits,
    /// "buffer is full", and there is no pool.
    NoPool,
    /// "buffer is full", and it was.
    Full,
    /// "buffer is full", with enough free slots.
    NotInOnePiece,
    /// "buffer is full", from a kernel that does not say how full.
    FullUnknown,
    /// The device cannot reach the buffer, and there is no pool.
    OutOfReach,
    /// The device can reach the buffer: it was to bounce for its length, and there is no pool.
    UnalignedWithoutPool,
    /// The device cannot reach the pool itself.
    PoolOutOfReach,
    /// Behind an IOMMU something had to bounce, and there is no pool.
    IommuWithoutPool,
    /// The IOMMU's own tables were bounced or moved.
    IommuTables,
    /// The IOMMU's granule is smaller than the alignment that a device asks for.
    IommuGranule,
    /// The pool could not be made at boot.
    PoolNotMade,
    /// The pool that was made at boot.
    Pool,
    /// The pool's areas.
    Areas,
    /// The pool is not of the size that was asked for.
    Resized,
    /// A pool for some devices alone.
    RestrictedPool,
    /// Cache lines are longer than kmalloc's alignment.
    LongLines,
}

/// What one line of a log, or several alike, means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// What it is about.
    pub kind: Kind,
    /// Number of the first such line, from 1.
    pub line: usize,
    /// How many lines say so: of the same kind, device and size.
    pub times: u64,
    /// The first such line's message, without what comes before the device.
    pub message: String,
    /// `dev_name()`, where the line has it.
    pub device: Option<String>,
    /// Length that was to be mapped, bytes, where the line has it.
    pub size: Option<u64>,
    /// What it means, a sentence or two each.
    pub means: Vec<String>,
    /// What would help, a sentence or two each; empty where nothing is wrong.
    pub helps: Vec<String>,
}

/// What a recogniser makes of a message.
#[derive(Debug)]
struct Said {
    kind: Kind,
    size: Option<u64>,
    means: Vec<String>,
    helps: Vec<String>,
}

impl Said {
    fn new(kind: Kind) -> Self {
        Self { kind, size: None, means: Vec::new(), helps: Vec::new() }
    }

    fn of_size(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }

    fn means(mut self, sentence: impl Into<String>) -> Self {
        self.means.push(sentence.into());
        self
    }

    fn helps(mut self, sentence: impl Into<String>) -> Self {
        self.helps.push(sentence.into());
        self
    }
}

/// Makes sense of what follows a message's first words; `None` when it is damaged.
type Recogniser = fn(&str, &Context) -> Option<Said>;

/// First words of each message, as `kernel/dma/swiotlb.c`, `kernel/dma/direct.[ch]`, `drivers/iommu/dma-iommu.c`,
/// `drivers/iommu/io-pgtable-arm.c` and `arch/arm64/mm/dma-mapping.c` print it from 5.10 to 7.3.
const MESSAGES: &[(&str, Recogniser)] = &[
    ("swiotlb buffer is full (sz: ", full::full),
    ("DMA addr ", reach::overflow),
    ("swiotlb addr ", reach::pool),
    ("DMA bounce buffers are inactive, unable to map unaligned transaction", |_, context| {
        Some(iommu::inactive(context))
    }),
    ("Cannot accommodate DMA translation for IOMMU page tables", |_, context| Some(iommu::tables(context))),
    ("Unsupported alignment constraint", |_, _| Some(iommu::granule())),
    ("Can not allocate SWIOTLB buffer earlier", |_, context| Some(boot::missing(context))),
    ("Cannot allocate SWIOTLB buffer", |_, context| Some(boot::not_allocated(context))),
    ("software IO TLB: No low mem", |_, context| Some(boot::not_allocated(context))),
    ("software IO TLB: swiotlb_", boot::failed),
    ("software IO TLB: mapped [mem ", boot::mapped),
    ("software IO TLB: area num ", boot::areas),
    ("software IO TLB: SWIOTLB bounce buffer size ", boot::resized),
    ("created restricted DMA pool at ", boot::restricted),
    ("ARCH_DMA_MINALIGN smaller than CTR_EL0.CWG (", boot::long_lines),
];

/// Explains every message of a log that is about bouncing; others are passed over. A log that has the kernel's first
/// lines is explained as that kernel's.
pub fn explain(log: &str) -> Vec<Explanation> {
    let mut context = Context::default();
    let mut found: Vec<Explanation> = Vec::new();
    for (index, text) in log.lines().enumerate() {
        context.learn(text);
        let Some((at, said)) = recognise(text, &context) else { continue };
        let device = line::device(&text[..at]);
        let alike =
            |one: &&mut Explanation| one.kind == said.kind && one.device.as_deref() == device && one.size == said.size;
        if let Some(known) = found.iter_mut().find(alike) {
            known.times += 1;
            continue;
        }
        found.push(Explanation {
            kind: said.kind,
            line: index + 1,
            times: 1,
            message: text[at..].trim_end().to_owned(),
            device: device.map(str::to_owned),
            size: said.size,
            means: said.means,
            helps: said.helps,
        });
    }
    found
}

/// Where a message begins in a line, and what it says.
fn recognise(text: &str, context: &Context) -> Option<(usize, Said)> {
    MESSAGES.iter().find_map(|(words, recogniser)| {
        let at = text.find(words)?;
        Some((at, recogniser(&text[at + words.len()..], context)?))
    })
}
