//! What the product's model says of a truth table's entries, for the kernel and the device that the table is of. It never
//! looks at what the kernel did.

use tracer::{
    facts::SlotRule,
    model::{
        concatenation::{SegmentLimits, dma_segments},
        kmalloc::bytes_given,
        mapping::{Buffer, DeviceTraits, Fate, Machine, list_loses_concatenation, segment, single},
        policy::Lists,
        pool::{Pool, PoolConfig, Request},
        rule::ResolvedRule,
    },
};
use tracer_ebpf::decide::Decider;

use super::table::{Did, Hold, List, Single, Table};

/// The model under one table's facts.
pub(super) struct Model {
    pub(super) machine: Machine,
    pub(super) device: DeviceTraits,
    pool: PoolConfig,
    page_size: u64,
}

impl Model {
    /// Takes from the facts what a recording takes from the running kernel.
    pub(super) fn of(table: &Table) -> Result<Self, String> {
        let granule: u64 = table.number("granule")?;
        // Without a pool there is no file that says so.
        let slots = table.number::<i64>("pool_slots")?.max(0) as u64;
        let decider = Decider {
            bounce_unaligned: table.number("bounce_unaligned")?,
            cache_line_size: table.number("cache_alignment")?,
            // The smallest object that there is.
            minalign: table.number("kmalloc_8")?,
            dma_minalign: table.number("dma_minalign")?,
        };
        let page_size = table.number("page_size")?;
        Ok(Self {
            machine: Machine {
                decider,
                rule: ResolvedRule::KMALLOC,
                lists: Lists::WholeList,
                pool_active: slots > 0,
                force: false,
                refuses_registers: true,
                falls_back: false,
            },
            device: DeviceTraits {
                coherent: table.number::<u8>("coherent")? != 0,
                dma_mask: table.number("dma_mask")?,
                bus_dma_limit: table.number("bus_dma_limit")?,
                min_align_mask: table.number("min_align_mask")?,
                segments: SegmentLimits {
                    max_size: table.number("max_segment")?,
                    boundary_mask: table.number("segment_boundary")?,
                },
                iommu_granule: (granule != 0).then_some(granule),
                untrusted: false,
                force_bounce: false,
            },
            pool: PoolConfig {
                slots,
                areas: table.number::<u32>("possible_cpus")?.next_power_of_two(),
                // 6.10 on, as all kernels that the lab boots.
                slot_rule: SlotRule::PoolAligned,
                page_size,
            },
            page_size,
        })
    }

    /// What becomes of a buffer mapped by itself while the pool has room.
    pub(super) fn fate(&self, phys: u64, size: u64, direction: u8) -> Did {
        did(self.decision(phys, size, direction))
    }

    fn decision(&self, phys: u64, size: u64, direction: u8) -> Fate {
        // The lab's machines have no offset between bus and memory; behind an IOMMU the address is not looked at.
        single(&self.machine, &self.device, &buffer(phys, size, direction))
    }

    /// What becomes of each segment of a list: all are refused when one is.
    pub(super) fn fates(&self, list: &List) -> Vec<Did> {
        let lost = self.loses_concatenation(list);
        let fate = |buffer: &Buffer| did(segment(&self.machine, &self.device, buffer, lost));
        let fates: Vec<_> = buffers(list).map(|buffer| fate(&buffer)).collect();
        if fates.contains(&Did::Refused) { vec![Did::Refused; fates.len()] } else { fates }
    }

    /// Bytes that kmalloc gives for a single's object.
    pub(super) fn given(&self, one: &Single) -> u64 {
        bytes_given(one.object, self.machine.decider.minalign, self.page_size)
    }

    /// Whether a list is mapped element by element, behind an IOMMU.
    pub(super) fn loses_concatenation(&self, list: &List) -> bool {
        list_loses_concatenation(&self.machine, &self.device, buffers(list))
    }

    /// DMA segments that come out of a list; 0 when it is refused.
    pub(super) fn ents(&self, list: &List) -> u64 {
        if self.fates(list).contains(&Did::Refused) {
            return 0;
        }
        match self.device.iommu_granule {
            Some(granule) if !self.loses_concatenation(list) => {
                let segments = list.segments.iter().map(|segment| (segment.from, segment.len));
                dma_segments(segments, granule, self.device.segments)
            }
            _ => list.segments.len() as u64,
        }
    }

    /// How many of the mappings asked for are mapped, how many of these bounce, and how many slots they take.
    pub(super) fn held(&self, hold: &Hold) -> (u64, u64, u64) {
        // kmalloc's objects lie somewhere in a page: where exactly matters to nothing here.
        let phys = self.page_size + 8;
        let align_mask = match self.decision(phys, hold.len, hold.direction) {
            Fate::Direct => return (hold.asked, 0, 0),
            Fate::Refused { .. } => return (0, 0, 0),
            Fate::Bounce { align_mask, .. } => align_mask,
        };
        let mut pool = Pool::new(self.pool);
        pool.occupy_foreign(hold.used[0].max(0) as u64);
        let before = pool.used_slots();
        let min_align_mask = self.device.min_align_mask;
        let request = Request { cpu: 0, phys, size: hold.len, align_mask, min_align_mask, is_memory: false };
        let found = (0..hold.asked).filter(|_| pool.map(&request).is_ok()).count() as u64;
        (found, found, pool.used_slots() - before)
    }
}

fn did(fate: Fate) -> Did {
    match fate {
        Fate::Direct => Did::Direct,
        Fate::Bounce { .. } => Did::Bounced,
        Fate::Refused { .. } => Did::Refused,
    }
}

fn buffers(list: &List) -> impl Iterator<Item = Buffer> {
    list.segments.iter().map(|segment| buffer(segment.from, segment.len, list.direction))
}

fn buffer(phys: u64, size: u64, direction: u8) -> Buffer {
    Buffer { phys, dma_addr: Some(phys), size, direction, attrs: 0, shared: false }
}
