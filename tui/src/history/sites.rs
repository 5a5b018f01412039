//! Allocations by call site over time, from the totals that come every half second.

use std::collections::{HashMap, VecDeque};

use tracer::facts::SiteCount;

use super::Keep;

/// Pieces of time kept: ten minutes of a live stream.
const KEPT: usize = 1200;

/// Call site, bytes asked for, bytes given.
pub type Site = (u64, u32, u32);

/// Allocations by call site, piece of time by piece of time.
#[derive(Clone, Debug, Default)]
pub struct Sites {
    totals: HashMap<Site, u64>,
    pieces: VecDeque<Piece>,
}

/// What was allocated between two moments, ns.
#[derive(Clone, Debug)]
struct Piece {
    from_ns: u64,
    to_ns: u64,
    counts: HashMap<Site, u64>,
}

impl Sites {
    /// Takes in totals at a moment; how many allocations there were since `from_ns`.
    pub(super) fn take(&mut self, sites: &[SiteCount], from_ns: u64, to_ns: u64, keep: Keep) -> u64 {
        let mut counts = HashMap::with_capacity(sites.len());
        for site in sites {
            let key = (site.call_site, site.bytes_req, site.bytes_alloc);
            let before = self.totals.insert(key, site.count).unwrap_or(0);
            counts.insert(key, site.count.saturating_sub(before));
        }
        let all = counts.values().sum();
        match self.pieces.back_mut().filter(|last| last.to_ns >= to_ns) {
            // A list too long for one frame comes in several.
            Some(last) => last.add(counts),
            None => self.pieces.push_back(Piece { from_ns, to_ns, counts }),
        }
        if self.pieces.len() > KEPT {
            match keep {
                Keep::Recent => drop(self.pieces.pop_front()),
                Keep::Whole => self.halve(),
            }
        }
        all
    }

    /// How often something was allocated since the beginning.
    pub fn total(&self, site: Site) -> u64 {
        self.totals.get(&site).copied().unwrap_or(0)
    }

    /// Makes one piece of each two.
    fn halve(&mut self) {
        let mut pieces = std::mem::take(&mut self.pieces).into_iter();
        while let Some(mut piece) = pieces.next() {
            if let Some(next) = pieces.next() {
                piece.to_ns = next.to_ns;
                piece.add(next.counts);
            }
            self.pieces.push_back(piece);
        }
    }

    /// Allocations in the pieces that touch this time, and the time that those cover, ns.
    pub fn between(&self, from_ns: u64, to_ns: u64) -> (HashMap<Site, u64>, u64) {
        let mut counts: HashMap<Site, u64> = HashMap::new();
        let mut covered = 0;
        for piece in self.pieces.iter().filter(|piece| piece.to_ns > from_ns && piece.from_ns < to_ns) {
            covered += piece.to_ns.saturating_sub(piece.from_ns);
            for (site, count) in &piece.counts {
                *counts.entry(*site).or_default() += count;
            }
        }
        (counts, covered)
    }
}

impl Piece {
    fn add(&mut self, counts: HashMap<Site, u64>) {
        for (site, count) in counts {
            *self.counts.entry(site).or_default() += count;
        }
    }
}
