//! Whether a recording shows what it must: the product's `verify`, held against the kernel's own count, the workload's
//! own view and what the scenario expects. Pure.

use serde_json::Value;

use super::{mappings::Recorded, scenario::Expect, witness::Witness};

/// Unknown mappings that are tolerated: fewer than one in so many.
const UNKNOWN_ONE_IN: u64 = 1000;

/// What `bouncescope verify --json` says, as far as the lab looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verified {
    /// Exit code of the command.
    pub(super) exit_code: i32,
    /// Mappings in the capture.
    pub(super) mappings: u64,
    /// Mappings for which prediction and kernel agree.
    pub(super) agreements: u64,
    /// Those for which they do not.
    pub(super) disagreements: u64,
    /// Those for which the kernel's answer is not known, without the raced ones.
    pub(super) unknown: u64,
    /// Of these, slots that were taken without an event of the mapping.
    pub(super) without_event: u64,
    /// Those that overlap in time with what their fate depends on, so that the order is not known.
    pub(super) raced: u64,
    /// Bounces predicted, and seen.
    pub(super) bounces: (u64, u64),
    /// Most slots in use at once predicted, and the kernel's own high-water mark where it keeps one.
    pub(super) peak_slots: (u64, Option<u64>),
    /// The least and the most that the kernel's mark may be where searches and releases overlap in time.
    pub(super) peak_range: [u64; 2],
    /// Each restricted pool that was used: its name, the peak predicted, and its own mark where the kernel keeps one.
    pub(super) pools: Vec<(String, u64, Option<u64>)>,
    /// Totals that were not compared, in words.
    pub(super) not_compared: Vec<String>,
    /// Mappings refused for want of slots predicted, and seen.
    pub(super) failed: (u64, u64),
    /// `swiotlb_bounced` events in the capture.
    pub(super) bounced_recorded: u64,
    /// What the kernel skipped.
    pub(super) skipped: Skipped,
    /// Lists whose DMA segments and marks were compared.
    pub(super) lists: Lists,
    /// Calls of the pool's functions, and bytes of their buffers: predicted, and the kernel's.
    pub(super) pool_calls: Vec<(String, [u64; 2], [u64; 2])>,
    /// What `verify` itself found off besides single mappings, in words.
    pub(super) problems: Vec<String>,
}

impl Verified {
    /// From the JSON text, or which field is missing.
    pub(super) fn parse(exit_code: i32, json: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| format!("verify printed no JSON: {error}"))?;
        let number = |key: &str| value.get(key).and_then(Value::as_u64).ok_or_else(|| format!("verify tells no {key}"));
        let exact_peak = value.get("peak_is_exact").and_then(Value::as_bool) == Some(true);
        let raced = value["unknown_by_reason"]["raced"].as_u64().unwrap_or(0);
        Ok(Self {
            exit_code,
            mappings: number("mappings")?,
            agreements: number("agreements")?,
            disagreements: number("disagreements")?,
            unknown: number("unknown")?.saturating_sub(raced),
            without_event: value["unknown_by_reason"]["no_mapping_event"].as_u64().unwrap_or(0),
            raced,
            bounces: (number("bounces_predicted")?, number("bounces_kernel")?),
            peak_slots: (number("peak_slots_predicted")?, exact_peak.then(|| number("peak_slots_kernel")).transpose()?),
            peak_range: [0, 1].map(|side| value["peak_slots_range"][side].as_u64().unwrap_or(0)),
            pools: pools(value.get("pools")),
            not_compared: words(value.get("not_compared")),
            failed: (number("failed_predicted")?, number("failed_kernel")?),
            bounced_recorded: number("bounced_recorded")?,
            skipped: Skipped::parse(value.get("losses")),
            lists: Lists::parse(&value["lists"]),
            pool_calls: pool_calls(&value["pool_calls"]),
            problems: words(value.get("problems")),
        })
    }
}

/// What it says of lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lists {
    /// Compared.
    pub(super) compared: u64,
    /// Of these, those of segments of different lengths.
    pub(super) mixed: u64,
    /// Compared, behind an IOMMU.
    pub(super) behind_iommu: u64,
    /// Not compared.
    pub(super) unknown: u64,
    /// Otherwise than predicted.
    pub(super) disagreements: u64,
    /// DMA segments predicted, and made.
    pub(super) dma_segments: (u64, u64),
    /// Lists predicted to be marked, and marked.
    pub(super) marked: (u64, u64),
    /// Lists with the mark of an earlier mapping.
    pub(super) stale: u64,
}

impl Lists {
    fn parse(lists: &Value) -> Self {
        let number = |key: &str| lists[key].as_u64().unwrap_or(0);
        let stale = lists["stale_marks"].as_array().into_iter().flatten();
        Self {
            compared: number("compared"),
            mixed: number("of_mixed_lengths"),
            behind_iommu: number("behind_iommu"),
            unknown: number("unknown"),
            disagreements: number("disagreements"),
            dma_segments: (number("dma_segments_predicted"), number("dma_segments_kernel")),
            marked: (number("marked_predicted"), number("marked_kernel")),
            stale: stale.filter_map(|one| one["lists"].as_u64()).sum(),
        }
    }
}

fn pool_calls(calls: &Value) -> Vec<(String, [u64; 2], [u64; 2])> {
    let row = |call: &Value| {
        let pair = |predicted: &str, kernel: &str| Some([call[predicted].as_u64()?, call[kernel].as_u64()?]);
        let counts = pair("predicted", "kernel")?;
        Some((call["function"].as_str()?.to_owned(), counts, pair("bytes_predicted", "bytes_kernel")?))
    };
    calls.as_array().into_iter().flatten().filter_map(row).collect()
}

/// Runs of programs that the kernel skipped, and counted as skipped (`missed.…`). What is missing from a capture may be no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skipped {
    /// Of those that see mappings; a mapping is gone with its entry or its return.
    pub(super) mappings: u64,
    /// Of those that see slots being taken or given back.
    pub(super) slots: u64,
    /// Of the one that sees bounces.
    pub(super) bounced: u64,
    /// Of those that count the calls of the pool's functions.
    pub(super) pool: u64,
}

impl Skipped {
    fn parse(losses: Option<&Value>) -> Self {
        let losses = losses.and_then(Value::as_object).into_iter().flatten();
        let missed = losses.filter_map(|(name, count)| Some((name.strip_prefix("missed.")?, count.as_u64()?)));
        let mut skipped = Self::default();
        for (program, count) in missed {
            if program.starts_with("map_") || program.starts_with("dma_map") {
                skipped.mappings += count;
            } else if program.starts_with("slot_") {
                skipped.slots += count;
            } else if program.starts_with("pool_") {
                skipped.pool += count;
            } else if program == "swiotlb_bounced" {
                skipped.bounced += count;
            }
        }
        skipped
    }
}

fn pools(list: Option<&Value>) -> Vec<(String, u64, Option<u64>)> {
    let pool = |pool: &Value| {
        let exact = pool["peak_is_exact"] == true;
        let kernel = pool["peak_slots_kernel"].as_u64().filter(|_| exact);
        Some((pool["name"].as_str()?.to_owned(), pool["peak_slots_predicted"].as_u64()?, kernel))
    };
    list.and_then(Value::as_array).into_iter().flatten().filter_map(pool).collect()
}

fn words(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What is off about the product's answer, and about what was `recorded` while the kernel counted, a line each; empty when nothing
/// is.
pub(super) fn product_side(expect: Expect, verified: &Verified, recorded: &Recorded, witness: &Witness) -> Vec<String> {
    let &Verified { agreements, disagreements, unknown, raced, bounces, peak_slots, failed, skipped, .. } = verified;
    let mappings = recorded.mappings;
    let refused = witness.number("refused").unwrap_or(0.0) as u64;
    let mut problems: Vec<_> = verified.problems.iter().map(|problem| format!("verify: {problem}")).collect();
    let mut check = |right: bool, problem: String| {
        if !right {
            problems.push(problem);
        }
    };
    let lists = lists_off(&verified.lists);
    check(lists.is_none(), lists.unwrap_or_default());
    check(verified.exit_code == 0, format!("verify exits with {}", verified.exit_code));
    let counted = witness.maps + witness.lists;
    // Tracefs knows nothing of lists that were refused, nor of slots taken without a mapping event.
    let whole = if refused == 0 && unknown == 0 { mappings == counted } else { mappings >= counted };
    let whole = whole || mappings < counted && counted - mappings <= skipped.mappings;
    check(whole, format!("the capture has {mappings} mappings, tracefs counted {counted}"));
    let (verdicts, whole) = (agreements + disagreements + unknown + raced, verified.mappings);
    check(verdicts == whole, format!("verify has {verdicts} verdicts on {whole} mappings"));
    let dealt_with = whole.saturating_sub(verified.without_event);
    check(dealt_with >= mappings, format!("verify dealt with {dealt_with} mappings of {mappings} in the capture"));
    check(disagreements == 0, format!("{disagreements} disagreements"));
    check(unknown * UNKNOWN_ONE_IN <= agreements + unknown, format!("{unknown} of {mappings} unknown"));
    if let Some(links) = recorded.links {
        check(links >= expect.links, format!("{links} buffers linked, at least {} were to be", expect.links));
    }
    check(agreements > 0, "nothing agrees: no mapping was compared".into());
    let most_raced = whole * expect.raced_percent / 100;
    check(raced <= most_raced, format!("{raced} of {whole} raced, at most {most_raced} may"));
    let open = unknown.saturating_sub(verified.without_event) + raced;
    check(bounces.0.abs_diff(bounces.1) <= open, format!("{} bounces predicted, {} seen", bounces.0, bounces.1));
    check(
        recorded.without_caller == 0,
        format!("{} lists without the function that mapped them", recorded.without_caller),
    );
    let missing = witness.bounced.checked_sub(recorded.bounced);
    check(
        missing.is_some_and(|missing| missing <= skipped.bounced),
        format!("the capture has {} swiotlb_bounced events, tracefs counted {}", recorded.bounced, witness.bounced),
    );
    // Slots that were in use before are part of both.
    if let Some(kernel) = peak_slots.1 {
        let [least, most] = verified.peak_range;
        // The kernel's mark is off by releases under way (`mark_at_most` of an outcome).
        let within = expect.raced_percent > 0 && (least..=most).contains(&kernel);
        check(
            within || peak_slots.0.abs_diff(kernel) <= skipped.slots,
            format!("peak of {} slots predicted, {kernel} counted", peak_slots.0),
        );
    } else {
        // Before 6.4 a kernel keeps none.
        let keeps_peak = witness.facts.contains_key("hiwater");
        // Of several pools each keeps its own.
        let is_of_pools = !verified.pools.is_empty();
        check(!expect.bounces || !keeps_peak || is_of_pools, "the kernel counted no peak".into());
    }
    check(
        failed.1 == refused && failed.0.abs_diff(refused) <= raced,
        format!("{} refusals predicted, {} seen, {refused} felt by the workload", failed.0, failed.1),
    );
    problems
}

/// What is off about lists in any recording.
fn lists_off(lists: &Lists) -> Option<String> {
    (lists.disagreements > 0)
        .then(|| format!("{} lists in other DMA segments, or marked otherwise", lists.disagreements))
}

/// What is off about a recording of mixed lists, a line each: all of them are to be compared, and the calls of the pool's functions are to be
/// as many, of as many bytes, as the kernel counted.
pub(super) fn lists_side(verified: &Verified, registers: u64, smmu: bool) -> Vec<String> {
    /// Lists, those of them of mixed lengths, and those with the mark of an earlier mapping that the module maps.
    const WANTED: (u64, u64, u64) = (1000, 500, 5);
    /// As the workload asks of it.
    const REGISTERS: u64 = 300;
    let Verified { lists, pool_calls, skipped, .. } = verified;
    let mut problems = Vec::new();
    let mut check = |right: bool, problem: String| {
        if !right {
            problems.push(problem);
        }
    };
    check(registers == REGISTERS, format!("device registers were mapped {REGISTERS} times, recorded {registers}"));
    check(lists.unknown == 0, format!("{} lists not compared", lists.unknown));
    let (compared, mixed, stale) = (lists.compared, lists.mixed, lists.stale);
    check(compared >= WANTED.0 && mixed >= WANTED.1, format!("{compared} lists compared, {mixed} of mixed lengths"));
    check(lists.dma_segments.0 == lists.dma_segments.1, format!("{:?} DMA segments", lists.dma_segments));
    check(lists.marked.0 == lists.marked.1, format!("{:?} lists marked", lists.marked));
    check(smmu == (lists.marked.1 > 0), format!("{} lists marked", lists.marked.1));
    let wanted = if smmu { WANTED.2 } else { 0 };
    check(stale == wanted, format!("{stale} stale marks found, {wanted} made"));
    check(!pool_calls.is_empty(), "the calls of the pool's functions were not counted".into());
    for (function, calls, bytes) in pool_calls {
        let differs = calls[0].abs_diff(calls[1]) > skipped.pool + skipped.slots;
        let differs = differs || skipped.pool + skipped.slots == 0 && bytes[0] != bytes[1];
        check(
            !differs,
            format!("{function}: {} calls, {} bytes predicted; {}, {}", calls[0], bytes[0], calls[1], bytes[1]),
        );
    }
    problems
}

/// What is off without any regard to the product: whether the kernel did what the scenario is there for.
pub(super) fn kernel_side(expect: Expect, witness: &Witness) -> Vec<String> {
    let mut problems = Vec::new();
    let mut check = |right: bool, problem: String| {
        if !right {
            problems.push(problem);
        }
    };
    let number = |key: &str| witness.number(key);
    check(number("exit") == Some(0.0), format!("recorder or workload exits with {:?}", witness.facts.get("exit")));
    check(witness.facts.get("quiet").is_some_and(|quiet| quiet == "true"), "devices were not idle at the start".into());
    let mappings = witness.maps + witness.lists;
    check(mappings >= expect.mappings, format!("the kernel mapped {mappings} times, expected {}", expect.mappings));
    check(
        (witness.bounced > 0) == expect.bounces,
        format!("the kernel bounced {} times, which is not what this scenario is for", witness.bounced),
    );
    check(
        !expect.every_length || witness.unmapped_lengths == 0,
        format!("{} of 512 lengths × 2 directions were never mapped", witness.unmapped_lengths),
    );
    if let Some(hiwater) = number("hiwater") {
        check(hiwater >= expect.peak_slots as f64, format!("peak of {hiwater} slots, expected {}", expect.peak_slots));
    }
    let refused = number("refused").unwrap_or(0.0);
    let wanted = expect.refused as f64;
    check(
        if expect.refused == 0 { refused == 0.0 } else { refused >= wanted },
        format!("{refused} requests refused, expected {wanted}"),
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECT: Expect = Expect {
        mappings: 100,
        every_length: true,
        bounces: true,
        peak_slots: 100,
        refused: 44,
        links: 0,
        raced_percent: 0,
    };

    fn verified() -> Verified {
        Verified {
            exit_code: 0,
            mappings: 300,
            agreements: 300,
            disagreements: 0,
            unknown: 0,
            without_event: 0,
            raced: 0,
            bounces: (256, 256),
            peak_slots: (256, Some(256)),
            peak_range: [256, 256],
            pools: Vec::new(),
            not_compared: Vec::new(),
            failed: (44, 44),
            bounced_recorded: 300,
            skipped: Skipped::default(),
            lists: Lists::default(),
            pool_calls: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn witness() -> Witness {
        let facts = [("exit", "0"), ("quiet", "true"), ("refused", "44"), ("hiwater", "256")];
        let facts = facts.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Witness { bounced: 300, maps: 300, facts, ..Witness::default() }
    }

    fn recorded() -> Recorded {
        Recorded { mappings: 300, bounced: 300, ..Recorded::default() }
    }

    fn problems(expect: Expect, verified: &Verified, witness: &Witness) -> Vec<String> {
        [kernel_side(expect, witness), product_side(expect, verified, &recorded(), witness)].concat()
    }

    #[test]
    fn no_more_may_be_missing_than_was_counted_as_skipped() {
        let losses = serde_json::json!({ "missed.map_return": 1, "missed.dma_map_sg": 1, "missed.slot_unmap": 1,
            "missed.swiotlb_bounced": 1, "missed.kfree": 9 });
        let skipped = Skipped::parse(Some(&losses));
        assert_eq!(skipped, Skipped { mappings: 2, slots: 1, bounced: 1, pool: 0 });
        let judged = |mappings, bounced, peak| {
            [skipped, Skipped::default()].map(|skipped| {
                let verified = Verified { peak_slots: (peak, Some(256)), skipped, ..verified() };
                let recorded = Recorded { mappings, bounced, ..recorded() };
                product_side(EXPECT, &verified, &recorded, &witness()).is_empty()
            })
        };
        assert_eq!(judged(300, 300, 256), [true, true]);
        assert_eq!(judged(300, 300, 257), [true, false]);
        assert_eq!(judged(300, 300, 258), [false, false]);
        assert_eq!(judged(298, 300, 256), [true, false]);
        assert_eq!(judged(297, 300, 256), [false, false]);
        assert_eq!(judged(300, 299, 256), [true, false]);
        assert_eq!(judged(300, 298, 256), [false, false]);
        // And nothing may be there that the kernel did not count.
        assert_eq!(judged(300, 301, 256), [false, false]);
    }

    #[test]
    fn a_list_that_nobody_is_said_to_have_mapped_is_a_problem() {
        let recorded = Recorded { without_caller: 1, ..recorded() };
        assert_eq!(product_side(EXPECT, &verified(), &recorded, &witness()).len(), 1);
    }

    #[test]
    fn agreement_on_everything_is_no_problem() {
        assert_eq!(problems(EXPECT, &verified(), &witness()), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_one_problem() {
        let wrong = [
            Verified { exit_code: 1, ..verified() },
            Verified { disagreements: 1, agreements: 299, ..verified() },
            Verified { unknown: 1, without_event: 1, mappings: 301, ..verified() },
            Verified { agreements: 299, ..verified() },
            Verified { mappings: 299, agreements: 299, ..verified() },
            Verified { bounces: (255, 256), ..verified() },
            Verified { peak_slots: (255, Some(256)), ..verified() },
            Verified { peak_slots: (256, None), ..verified() },
            Verified { failed: (43, 44), ..verified() },
            Verified { problems: vec!["lost".into()], ..verified() },
        ];
        for verified in wrong {
            assert_eq!(problems(EXPECT, &verified, &witness()).len(), 1, "{verified:?}");
        }
        for recorded in [Recorded { mappings: 299, ..recorded() }, Recorded { bounced: 299, ..recorded() }] {
            assert_eq!(product_side(EXPECT, &verified(), &recorded, &witness()).len(), 1, "{recorded:?}");
        }
        let wrong = [
            Witness { maps: 99, ..witness() },
            Witness { unmapped_lengths: 1, ..witness() },
            Witness { facts: witness().facts.into_iter().filter(|(key, _)| key != "quiet").collect(), ..witness() },
        ];
        for witness in wrong {
            assert_eq!(problems(EXPECT, &verified(), &witness).len(), 1, "{witness:?}");
        }
    }

    #[test]
    fn bounces_without_an_event_of_the_mapping_are_a_problem_from_a_few_on() {
        let judged = |unknown| {
            let verified = Verified { unknown, without_event: unknown, mappings: 300 + unknown, ..verified() };
            problems(EXPECT, &verified, &witness()).len()
        };
        assert_eq!([judged(0), judged(9)], [0, 1]);
    }

    #[test]
    fn linked_buffers_are_wanted_only_of_a_kernel_that_links() {
        let expect = Expect { links: 10, ..EXPECT };
        let judged = |links| {
            let recorded = Recorded { links, ..recorded() };
            product_side(expect, &verified(), &recorded, &witness()).len()
        };
        assert_eq!([None, Some(10), Some(9)].map(judged), [0, 0, 1]);
    }

    #[test]
    fn raced_mappings_may_be_few_where_that_is_expected() {
        let expect = Expect { raced_percent: 2, ..EXPECT };
        let judged = |raced, failed| {
            let verified = Verified { raced, agreements: 300 - raced, failed: (failed, 44), ..verified() };
            [EXPECT, expect].map(|expect| problems(expect, &verified, &witness()).len())
        };
        assert_eq!(judged(6, 44), [1, 0]);
        assert_eq!(judged(6, 50), [1, 0]);
        assert_eq!(judged(6, 51), [2, 1]);
        assert_eq!(judged(7, 44), [1, 1]);
    }

    #[test]
    fn a_mark_that_counts_releases_under_way_is_within_the_range_where_searches_overlap() {
        let expect = Expect { raced_percent: 2, ..EXPECT };
        let judged = |kernel| {
            let verified = Verified { peak_slots: (256, Some(kernel)), peak_range: [255, 257], ..verified() };
            [EXPECT, expect].map(|expect| problems(expect, &verified, &witness()).len())
        };
        assert_eq!([255, 256, 257, 258].map(judged), [[1, 0], [0, 0], [1, 0], [1, 1]]);
    }

    #[test]
    fn a_bounce_where_none_may_be_is_a_problem() {
        let expect = Expect { bounces: false, peak_slots: 0, refused: 0, ..EXPECT };
        let silent = Witness {
            bounced: 0,
            facts: [("exit".into(), "0".into()), ("quiet".into(), "true".into())].into(),
            ..witness()
        };
        assert_eq!(kernel_side(expect, &silent), Vec::<String>::new());
        assert_eq!(kernel_side(expect, &Witness { bounced: 1, ..silent }).len(), 1);
    }

    #[test]
    fn verify_s_json_is_read_and_a_missing_field_is_named() {
        let json = r#"{"mappings":5,"agreements":4,"disagreements":1,"unknown":0,"bounces_predicted":2,"bounces_kernel":1,
            "peak_slots_predicted":7,"peak_slots_kernel":null,"peak_is_exact":false,"failed_predicted":0,"failed_kernel":3,
            "bounced_recorded":1,"problems":["a"]}"#;
        let verified = Verified::parse(1, json).unwrap();
        assert_eq!((verified.bounces, verified.peak_slots, verified.failed), ((2, 1), (7, None), (0, 3)));
        assert_eq!(verified.problems, ["a"]);
        assert!(Verified::parse(0, &json.replace("unknown", "other")).unwrap_err().contains("unknown"));
        assert!(Verified::parse(0, "").is_err());
    }

    #[test]
    fn lists_must_be_many_and_mixed_and_come_out_as_predicted() {
        let json = serde_json::json!({
            "lists": { "compared": 1200, "of_mixed_lengths": 700, "behind_iommu": 1200, "unknown": 0, "disagreements": 0,
                "dma_segments_predicted": 5000, "dma_segments_kernel": 5000, "marked_predicted": 300, "marked_kernel": 300,
                "stale_marks": [{ "lists": 3 }, { "lists": 2 }] },
            "pool_calls": [{ "function": "sync_for_cpu", "predicted": 40, "kernel": 40, "bytes_predicted": 900, "bytes_kernel": 900 }],
        });
        let lists = Lists::parse(&json["lists"]);
        let right = Verified { lists, pool_calls: pool_calls(&json["pool_calls"]), ..verified() };
        assert_eq!(lists_side(&right, 300, true), Vec::<String>::new());
        assert_eq!(lists_side(&right, 300, false).len(), 2, "marks, and stale ones, where there is no IOMMU");
        let with = |change: fn(&mut Verified)| {
            let mut wrong = right.clone();
            change(&mut wrong);
            lists_side(&wrong, 300, true).len()
        };
        assert_eq!(with(|wrong| wrong.lists.mixed = 499), 1);
        assert_eq!(with(|wrong| wrong.lists.dma_segments.1 -= 1), 1);
        assert_eq!(with(|wrong| wrong.lists.marked.0 += 1), 1);
        assert_eq!(with(|wrong| wrong.lists.stale = 4), 1);
        assert_eq!(with(|wrong| wrong.pool_calls[0].1[1] += 1), 1);
        assert_eq!(with(|wrong| wrong.pool_calls[0].2[0] -= 8), 1);
        assert_eq!(with(|wrong| wrong.pool_calls.clear()), 1);
        assert_eq!(with(|wrong| (wrong.pool_calls[0].1[1], wrong.skipped.pool) = (39, 1)), 0);
        assert!(lists_off(&lists).is_none() && lists_off(&Lists { disagreements: 1, ..lists }).is_some());
    }
}
