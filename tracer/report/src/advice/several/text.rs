//! The pool for several recordings, in words.

use super::share::needed_for;
use super::{PoolOfAll, Recording, Several};
use crate::answer::Verdict;
use crate::screen::{COLUMNS, counted, folded, line};
use crate::table::{Table, bytes, percent, slots};
use bouncescope_model::pool::SLOT;

/// Recordings that are shown one by one.
const SHOWN: usize = 12;
/// Recordings that differ more in length than by this factor are not alike.
const ALIKE: f64 = 2.0;

/// What is said first, and all of it.
pub fn text(several: &Several) -> (Verdict, String) {
    let recordings = &several.recordings;
    let seconds: f64 = recordings.iter().map(|recording| recording.seconds).sum();
    let mut text = format!(
        "{}, {seconds:.1} s in all, of {}\n\n",
        counted(recordings.len() as u64, "recording"),
        kernels(recordings)
    );
    let (verdict, words) = verdict(several);
    text += &line(verdict.word(), &words);
    if let Some(advised) = &several.advised {
        text += &line("  sure", &how_sure(several, advised));
    }
    text += &line("  peaks", &peaks(several));
    text += &each(recordings);
    text += &pools(several, seconds);
    (verdict, text + &folded(&footnotes(several)))
}

fn kernels(recordings: &[Recording]) -> String {
    let mut kernels: Vec<&str> = recordings.iter().map(|recording| recording.kernel.as_str()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    match kernels[..] {
        [] => "no kernel".to_owned(),
        [one] => one.to_owned(),
        ref several => format!("{} different kernels", several.len()),
    }
}

fn verdict(several: &Several) -> (Verdict, String) {
    let all = several.recordings.len() as u64;
    if let Some(recording) = several.recordings.iter().find(|recording| recording.cannot_tell.is_some()) {
        let why = recording.cannot_tell.as_deref().unwrap_or_default();
        return (Verdict::CannotTell, format!("{} does not tell which pool is enough: {why}.", recording.capture));
    }
    let Some(advised) = &several.advised else {
        let none = format!("No pool of up to 128 MiB holds all of them with {} % free.", several.headroom_percent);
        return (Verdict::Fails, none);
    };
    let free = advised.slots.saturating_sub(advised.peak_slots) * 100 / advised.slots.max(1);
    let (boot, at_most) = if several.has_open_peaks() {
        ("Provisional, since a peak may have been higher: boot", "at most ")
    } else {
        ("Boot", "")
    };
    let words = format!(
        "{boot} with {}: {} ({}). Under {} it holds {}, and {at_most}{free} % of it stay free ({} % asked for).",
        advised.parameter,
        slots(advised.slots),
        bytes(advised.slots * SLOT),
        several.policy,
        if all == 1 { "it".to_owned() } else { format!("all {all}") },
        several.headroom_percent,
    );
    (Verdict::Ok, words)
}

/// What the recordings say of others like them.
fn how_sure(several: &Several, advised: &PoolOfAll) -> String {
    if several.has_open_peaks() {
        return "Not known: records were lost, or the recorded pool was full, so that a recording may have needed more than was seen.".to_owned();
    }
    let all = several.recordings.len() as u64;
    let peak = several.recordings.iter().map(|recording| recording.peak_slots).max().unwrap_or_default();
    let at_most = advised.share_refused.at_most * 100.0;
    let mut words = format!(
        "If the next recording is like these, it exceeds {} with a probability of 1 in {} at most. With 95 % confidence, {} fails in no more \
         than {at_most:.0} % of such recordings.",
        slots(peak),
        all + 1,
        advised.parameter,
    );
    let needed = needed_for(0.05);
    if all < needed {
        words += &format!(" For 5 %, {needed} recordings are needed in which it does not fail.");
    }
    words
}

/// How the peak moved.
fn peaks(several: &Several) -> String {
    let mut peaks: Vec<u64> = several.recordings.iter().map(|recording| recording.peak_slots).collect();
    peaks.sort_unstable();
    let (Some(least), Some(most)) = (peaks.first(), peaks.last()) else { return "none".to_owned() };
    let mut words = format!("{least} to {}, half of them at least {}", slots(*most), peaks[peaks.len() / 2]);
    if several.peaks_rise {
        words += ". Each is fuller than the one before: they are not alike, and the next may need more";
    }
    words
}

fn each(recordings: &[Recording]) -> String {
    let mut table = Table::new(&["recording", "seconds", "peak slots", "refused then"]);
    for recording in recordings.iter().take(SHOWN) {
        let at_least = if recording.peak_is_at_least { ">= " } else { "" };
        table.row([
            recording.capture.clone(),
            format!("{:.1}", recording.seconds),
            format!("{at_least}{}", recording.peak_slots),
            recording.refused.to_string(),
        ]);
    }
    let more = match recordings.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("  … and {more} more: --json\n"),
    };
    format!("\n{}{more}", table.blocks(0, 1, COLUMNS))
}

fn pools(several: &Several, seconds: f64) -> String {
    let all = several.recordings.len();
    let at_most = |least: u64, most: u64| if least < most { format!("<= {most}") } else { most.to_string() };
    let mut table = Table::new(&["pool", "refuses in", "mappings", "above 80 %", "expected in"]);
    for pool in &several.pools {
        let (least, most) = (pool.share_refused.at_least * 100.0, pool.share_refused.at_most * 100.0);
        let above = pool.seconds_above_80_percent;
        table.row([
            if pool.grows {
                format!("growing from {}", pool.parameter)
            } else {
                format!("{} ({})", pool.parameter, bytes(pool.slots * SLOT))
            },
            format!("{} of {all}", at_most(pool.refused_in_at_least, pool.refused_in)),
            at_most(pool.refused_at_least, pool.refused),
            format!("{above:.1} s ({} %)", percent((above * 1e3) as u64, (seconds * 1e3) as u64)),
            match several.has_open_peaks() {
                true if least < 0.5 => "?".to_owned(),
                true => format!(">= {least:.0} %"),
                false => format!("{least:.0} to {most:.0} %"),
            },
        ]);
    }
    format!("\n{}", table.blocks(0, 1, COLUMNS))
}

fn footnotes(several: &Several) -> String {
    let recordings = &several.recordings;
    let mut text = String::new();
    if let Some(growing) = several.pools.iter().find(|pool| pool.grows) {
        text += &format!(
            "growing: a kernel with CONFIG_SWIOTLB_DYNAMIC, which adds {} in all\n",
            counted(growing.pools_added, "pool")
        );
    }
    let lengths = recordings.iter().map(|recording| recording.seconds);
    let (shortest, longest) = (lengths.clone().fold(f64::MAX, f64::min), lengths.fold(0.0, f64::max));
    if longest > shortest * ALIKE {
        text += &format!(
            "the recordings are {shortest:.1} to {longest:.1} s long: a longer one has more chances to fill a pool, so the shares are of such a mixture\n"
        );
    }
    let differ = |pool: &PoolOfAll| pool.refused_at_least < pool.refused;
    if several.pools.iter().any(differ) {
        text += "<= some only if mappings that the recorded kernel refused last as long as others, or pools are added late\n";
    }
    if several.has_open_peaks() {
        text += ">= records were lost, or the recorded pool was full: the peak may have been higher\n";
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{recording, several};
    use super::*;

    /// In one line.
    fn said(several: &Several) -> String {
        text(several).1.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn how_sure_it_is_is_said_only_where_every_peak_is_known() {
        let mut all = vec![recording("a", [0, 0], 100), recording("b", [0, 0], 200)];
        let known = said(&several(all.clone()));
        assert!(known.contains("a probability of 1 in 3 at most. With 95 % confidence"), "{known}");
        assert!(known.contains("0 to 78 %"), "{known}");
        all[1].peak_is_at_least = true;
        let open = said(&several(all));
        assert!(open.contains("sure Not known: records were lost, or the recorded pool was full"), "{open}");
        for figure in ["probability", "confidence", "78 %"] {
            assert!(!open.contains(figure), "{figure} in {open}");
        }
    }

    #[test]
    fn refusals_that_are_only_possible_are_marked() {
        let text = said(&several(vec![recording("a", [3, 3], 260), recording("b", [0, 5], 260)]));
        assert!(text.contains("<= 2 of 2 <= 8 1.0 s"), "{text}");
        let text = said(&several(vec![recording("a", [3, 3], 260), recording("b", [0, 0], 260)]));
        assert!(text.contains("1 of 2 3 1.0 s") && !text.contains("<="), "{text}");
    }
}
