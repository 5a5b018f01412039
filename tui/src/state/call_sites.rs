//! The rows of the table of call sites: how much each allocates, what of it is unused today and won under other settings, and
//! whether its objects reach DMA.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use tracer::model::kmalloc::bytes_given;

use super::table::{Sorted, Table};
use crate::answer::Answer;
use crate::history::History;

/// What call sites are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Allocations.
    #[default]
    Rate,
    /// Bytes that live objects take.
    Live,
    /// Bytes given and not asked for.
    Waste,
    /// Bytes that live objects would take less.
    Won,
    /// Whether its objects reach DMA.
    Dma,
    /// Name.
    Name,
}

impl Sorted for Order {
    const ALL: &'static [Self] = &[Self::Rate, Self::Live, Self::Waste, Self::Won, Self::Dma, Self::Name];

    fn heading(self) -> &'static str {
        match self {
            Self::Rate => "kmalloc/s",
            Self::Live => "live",
            Self::Waste => "unused",
            Self::Won => "saved",
            Self::Dma => "DMA",
            Self::Name => "call site",
        }
    }
}

/// One call site.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// `function+0xoffset [module]`, or the address.
    pub name: String,
    /// Allocations a second.
    pub rate: f64,
    /// Bytes that its live objects take, estimated from the sample.
    pub live: u64,
    /// Bytes of those that nobody asked for.
    pub waste: u64,
    /// Bytes that they would take less under the chosen settings; negative where they would take more.
    pub won: i64,
    /// Objects of it were seen mapped.
    pub reaches_dma: bool,
}

/// The call sites that pass the filter, in order.
pub fn rows(answer: &Answer, history: &History, table: &Table<Order>) -> Vec<Row> {
    let replayed = &answer.replayed;
    let (counts, covered_ns) = history.sites.between(answer.question.from_ns, answer.question.to_ns);
    let seconds = covered_ns.max(1) as f64 / 1e9;
    let mut sites: BTreeMap<u64, Row> = BTreeMap::new();
    // Summed as whole numbers: those come out the same in any order.
    let mut totals: BTreeMap<u64, u64> = BTreeMap::new();
    for ((call_site, _, _), count) in counts {
        *totals.entry(call_site).or_default() += count;
    }
    for (call_site, count) in totals {
        sites.entry(call_site).or_default().rate = count as f64 / seconds;
    }
    let sample = replayed.start.allocation_sample.max(1);
    let settings = replayed.settings.first();
    for objects in &replayed.live_objects {
        let row = sites.entry(objects.call_site).or_default();
        let count = objects.count.saturating_mul(sample);
        row.live += objects.given.saturating_mul(count);
        row.waste += objects.given.saturating_sub(objects.requested).saturating_mul(count);
        if let Some(settings) = settings {
            let minalign = settings.caches(objects.call_site).minalign;
            let given = bytes_given(objects.requested, minalign, settings.page_size);
            row.won += (objects.given as i64 - given as i64).saturating_mul(count as i64);
        }
    }
    let mapped: HashSet<u64> = replayed.mapped_sites.iter().copied().collect();
    let mut rows: Vec<Row> = sites
        .into_iter()
        .map(|(address, row)| Row { name: name(address, history), reaches_dma: mapped.contains(&address), ..row })
        .filter(|row| table.lets_pass(&row.name))
        .collect();
    rows.sort_by(|a, b| {
        let order = order(table.order, a, b).then_with(|| a.name.cmp(&b.name));
        if table.ascending { order.reverse() } else { order }
    });
    rows
}

fn name(address: u64, history: &History) -> String {
    match history.symbols.get(&address) {
        Some(symbol) if symbol.module.is_empty() => symbol.name.clone(),
        Some(symbol) => format!("{} [{}]", symbol.name, symbol.module),
        None => format!("{address:#x}"),
    }
}

/// Largest first, names from A.
fn order(by: Order, a: &Row, b: &Row) -> Ordering {
    let rate = || b.rate.total_cmp(&a.rate);
    match by {
        Order::Rate => rate(),
        Order::Live => b.live.cmp(&a.live),
        Order::Waste => b.waste.cmp(&a.waste),
        Order::Won => b.won.cmp(&a.won),
        Order::Dma => b.reaches_dma.cmp(&a.reaches_dma).then_with(rate),
        Order::Name => Ordering::Equal,
    }
}
