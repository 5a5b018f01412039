//! `bouncescope packed`: also a list for `--packed-sites`, so that everything but call sites is a comment.

use super::losses;
use super::table::{Table, bytes};
use bouncescope_replay::Replayed;
use bouncescope_replay::proposals::Proposals;

/// For people, and to be fed back.
pub fn text(proposals: &Proposals, replayed: &Replayed) -> String {
    let total: u64 = proposals.sites.iter().map(|site| site.bytes_won).sum();
    let recorded = match replayed.start.allocation_sample {
        0 => "no allocation was recorded".to_owned(),
        1 => "every allocation was recorded".to_owned(),
        sample => format!("one allocation in {sample} was recorded"),
    };
    let mut text = format!(
        "# {} call sites of kmalloc whose objects were never seen mapped for DMA; {} were, and are left out\n\
         # based on {} mapped buffers; the object was known for {} of them; {recorded}\n",
        proposals.sites.len(),
        proposals.mapped_sites,
        proposals.buffers,
        proposals.buffers_with_origin,
    );
    if !replayed.origins_known {
        text += "# WARNING: this capture cannot tell whose objects were mapped (no allocations, or no linear map in it): \
                 any of these may reach DMA\n";
    }
    text += &format!(
        "# objects that were live at the end would take {} less, compared with caches from {} B\n",
        bytes(total),
        replayed.start.kernel.dma_minalign
    );
    if let Some(missing) = losses::missing(replayed) {
        text +=
            &format!("# WARNING: only as far as recorded: {missing}; any of these may reach DMA in what is missing\n");
    }
    if !replayed.counters.lost.is_empty() {
        let lost = losses::text(&replayed.counters, replayed.end.as_ref(), &replayed.gaps);
        for line in lost.lines() {
            text += &format!("# {line}\n");
        }
    }
    let mut table = Table::new(&["# call site", "", "bytes saved", "live objects", "allocations", "module"]);
    for site in &proposals.sites {
        table.row([
            site.call_site.clone(),
            "#".into(),
            site.bytes_won.to_string(),
            site.live_objects.to_string(),
            site.allocations.to_string(),
            site.module.clone(),
        ]);
    }
    text + &table.text(0)
}
