//! Rules judged on a small capture of a real kernel, as it is and with something taken from it: 300 mappings of one device,
//! 256 of which bounce in a pool of 256 slots, and 44 are refused.

use super::*;
use crate::outcome::{CallSiteRow, Tally};
use crate::{Replayed, Wanted, replay};
use bouncescope_capture::Reader;

const HOLD_300: &[u8] = include_bytes!("../../../../captures/6.12-full-hold-300.bounce");
/// 24 requests that are never given back, one every 100 ms, between others that are.
const LEAK: &[u8] = include_bytes!("../../../../tests/leak.bounce");

fn rules(text: &str) -> Rules {
    Rules::from_toml(text, |path| Err(format!("cannot read {path}"))).unwrap()
}

fn replayed(rules: &Rules) -> Replayed {
    replayed_of(HOLD_300, rules)
}

fn replayed_of(capture: &[u8], rules: &Rules) -> Replayed {
    let wanted = |start: &bouncescope_capture::stream::Start| Wanted {
        settings: rules.settings(&start.kernel, &Arc::default()),
        verdict: true,
        holders: true,
        ..Wanted::default()
    };
    let mut replayed = replay(&mut Reader::new(capture).unwrap(), wanted).unwrap();
    // Some probes' runs are skipped in every recording; what each test is to be without, it takes away itself.
    replayed.counters.lost.clear();
    replayed.verdict.not_compared.clear();
    replayed
}

/// `=` kept, `x` broken, `?` could not tell: one for each judgement on a capture that `change` has changed.
fn judged(rule: &str, change: impl FnOnce(&mut Replayed)) -> String {
    judged_by(&format!("tolerate-losses = 0\n[[rule]]\n{rule}"), change)
}

fn judged_by(text: &str, change: impl FnOnce(&mut Replayed)) -> String {
    judged_of(HOLD_300, text, change)
}

fn judged_of(capture: &[u8], text: &str, change: impl FnOnce(&mut Replayed)) -> String {
    let rules = rules(text);
    let mut replayed = replayed_of(capture, &rules);
    change(&mut replayed);
    let sign = |judgement: &Judgement| match &judgement.verdict {
        Verdict::Kept => '=',
        Verdict::Broken => 'x',
        Verdict::CannotTell(why) | Verdict::Unreadable(why) => {
            assert!(!why.is_empty());
            '?'
        }
    };
    judge(&rules, "hold-300", &replayed).iter().map(sign).collect()
}

#[test]
fn losses_of_a_thousandth_leave_nothing_in_doubt_unless_the_rules_say_otherwise() {
    let rule = "[[rule]]\nfigure = \"bounces\"\nmax = 256\n";
    let judged = |top: &str, lost: u64| {
        judged_by(&format!("{top}\n{rule}"), |replayed| {
            replayed.counters.seen.insert("map".into(), vec![9_000]);
            replayed.counters.lost.insert("ring_full.map".into(), vec![lost]);
        })
    };
    assert_eq!([judged("", 9), judged("", 10)], ["=", "?"]);
    assert_eq!([judged("tolerate-losses = 0", 1), judged("tolerate-losses = \"0.2 %\"", 18)], ["?", "="]);
    let unknown = |replayed: &mut Replayed| drop(replayed.counters.lost.insert("malformed".into(), vec![1]));
    assert_eq!(judged_by(rule, unknown), "?", "of how many is not known");
    for wrong in ["\"much\"", "-1", "101", "true"] {
        let error =
            Rules::from_toml(&format!("tolerate-losses = {wrong}\n{rule}"), |_| Err(String::new())).unwrap_err();
        assert!(error.message.contains("is not a share of records") && error.line == 1, "{error}");
    }
}

fn as_it_is(rule: &str) -> String {
    judged(rule, |_| {})
}

fn lose(name: &str) -> impl Fn(&mut Replayed) {
    move |replayed| {
        replayed.counters.lost.insert(name.into(), vec![1]);
    }
}

/// As if allocations had been recorded, and one call site's objects were mapped, with hazards.
fn knows_call_sites(replayed: &mut Replayed) {
    replayed.origins_known = true;
    let row = |call_site: &str, bounces, hazards_foreign| CallSiteRow {
        call_site: call_site.to_owned(),
        module: String::new(),
        tally: Tally { buffers: 10, bounces, hazards_foreign, hazards_unknown: 3, hazards_own: 1, ..Tally::default() },
    };
    replayed.observed_rows.by_call_site =
        vec![row("usb_get+0x1c", 4, 2), row("usb_get+0x40", 1, 0), row("other+0x8", 9, 0)];
    for outcome in &mut replayed.outcomes {
        (outcome.total.hazards_foreign, outcome.total.hazards_unknown, outcome.total.hazards_own) = (2, 3, 1);
        outcome.rows.by_call_site.clone_from(&replayed.observed_rows.by_call_site);
    }
}

#[test]
fn figures_of_the_real_run_are_what_the_kernel_did() {
    for rule in [
        "figure = \"mappings\"\nmin = 300\nmax = 300",
        "figure = \"bounces\"\nmin = 256\nmax = 256",
        "figure = \"failed\"\nmin = 44\nmax = 44",
        "figure = \"peak-slots\"\nmin = 256\nmax = 256",
        "figure = \"peak-percent\"\nmin = 100\nmax = \"100 %\"",
        "figure = \"bounces-per-second\"\nmin = 62\nmax = 63",
        "figure = \"losses\"\nmax = 0",
        "figure = \"disagreements\"\nmax = 0",
        "figure = \"unknown\"\nmax = 0",
        "figure = \"lists-losing-concatenation\"\nmax = 0",
        "driver = \"xhci_hcd\"\nfigure = \"bounces\"\nmin = 256\nmax = 256",
    ] {
        assert_eq!(as_it_is(rule), "=", "{rule}");
    }
    assert_eq!(as_it_is("figure = \"failed\"\nmax = 43"), "x");
    assert_eq!(as_it_is("figure = \"bounces\"\nmin = 257"), "x");
}

const LONG_RUN: [&str; 5] = [
    "figure = \"held-seconds\"\nmax = \"4 s\"",
    "figure = \"leaking-slots\"\nmax = 0",
    "figure = \"floor-slots\"\nmax = 20",
    "figure = \"floor-rise\"\nmax = 10",
    "figure = \"seconds-above-80-percent\"\nmax = 1",
];

#[test]
fn a_leak_breaks_rules_that_as_many_slots_held_and_returned_keep() {
    let judged = |capture: &[u8]| LONG_RUN.map(|rule| judged_of(capture, &format!("[[rule]]\n{rule}"), |_| {}));
    assert_eq!(judged(LEAK), ["x", "x", "x", "x", "="]);
    assert_eq!(judged(HOLD_300), ["=", "=", "=", "=", "x"], "the pool was full for a while");
    let roomy = "[[rule]]\nwhat-if = { swiotlb = \"4M\" }\nfigure = \"seconds-above-80-percent\"\nmax = 0";
    assert_eq!(judged_of(HOLD_300, roomy, |_| {}), "=", "a larger pool would not have been");
}

#[test]
fn a_pool_that_has_grown_is_never_fuller_than_full() {
    let rules = rules("[[rule]]\nwhat-if = { swiotlb = \"dynamic\" }\nfigure = \"peak-percent\"\nmax = 100");
    let mut replayed = replayed_of(HOLD_300, &rules);
    let outcome = &mut replayed.outcomes[0];
    (outcome.total_slots, outcome.pool_slots_at_peak, outcome.peak_slots) = (256, 400, 300);
    (outcome.peak_slots_range, outcome.at_most) = ([300, 900], None);
    let judgement = &judge(&rules, "hold-300", &replayed)[0];
    let measured = judgement.figure.as_ref().unwrap();
    assert_eq!((measured.value, measured.low, measured.high), (75.0, 75.0, 100.0));
}

#[test]
fn who_holds_slots_is_in_doubt_where_releases_were_lost() {
    for rule in LONG_RUN {
        assert_eq!(judged(rule, lose("ring_full.slot_unmap")), "?", "{rule}");
        assert_eq!(judged(rule, |replayed| replayed.held = None), "?", "{rule}");
    }
    // How large a pool is that grows matters only to how full it is.
    let grows = |replayed: &mut Replayed| replayed.start.kernel.pool.dynamic = true;
    assert_eq!(LONG_RUN.map(|rule| judged(rule, grows)), ["=", "=", "=", "=", "?"]);
}

#[test]
fn a_what_if_is_judged_by_its_own_outcome() {
    let legacy = "what-if = { policy = \"legacy\" }\n";
    assert_eq!(as_it_is(&format!("{legacy}figure = \"bounces\"\nmax = 0")), "=");
    assert_eq!(as_it_is(&format!("{legacy}device = \"0000:00:04.0\"\nfigure = \"bounces\"\nmax = 0")), "=");
    assert_eq!(as_it_is(&format!("{legacy}figure = \"pool-cpu-percent\"\nmax = 0")), "=", "nothing bounces");
    let small = "what-if = { swiotlb = 128 }\n";
    assert_eq!(as_it_is(&format!("{small}figure = \"failed\"\nmax = 0")), "x");
}

#[test]
fn runs_that_several_rules_need_are_simulated_once() {
    let what_if = "[[rule]]\nwhat-if = { policy = \"legacy\" }\nfigure = \"bounces\"\nmax = 0\n";
    let own = "[[rule]]\nfigure = \"hazards-foreign\"\nmax = 0\n";
    let real = "[[rule]]\nfigure = \"failed\"\nmax = 0\n";
    let rules = rules(&format!("{what_if}{own}{real}{what_if}{own}"));
    let names: Vec<_> = replayed(&rules).outcomes.into_iter().map(|outcome| outcome.name).collect();
    assert_eq!(names, ["legacy", "captured"]);
}

#[test]
fn what_was_lost_takes_a_kept_rule_but_no_broken_one() {
    for what in ["ring_full.map", "missed.dma_map_sg", "malformed", "something_new"] {
        assert_eq!(judged("figure = \"failed\"\nmax = 44", lose(what)), "?", "{what}");
        assert_eq!(judged("figure = \"failed\"\nmax = 43", lose(what)), "x", "{what}");
        assert_eq!(judged("figure = \"bounces\"\nmin = 256", lose(what)), "=", "{what}");
        assert_eq!(judged("figure = \"bounces\"\nmin = 257", lose(what)), "?", "{what}");
    }
}

#[test]
fn losses_take_only_from_what_rests_on_them() {
    assert_eq!(judged("figure = \"bounces\"\nmax = 256", lose("missed.kfree")), "=");
    assert_eq!(judged("figure = \"bounces\"\nmax = 256", lose("missed.slot_unmap")), "=");
    assert_eq!(judged("figure = \"losses\"\nmax = 0", lose("missed.kfree")), "x");
    let simulated = "what-if = { swiotlb = \"4M\" }\nfigure = \"peak-slots\"\nmax = 300";
    assert_eq!(judged(simulated, lose("missed.slot_unmap")), "?");
    let empty = "what-if = { policy = \"legacy\" }\nfigure = \"peak-slots\"\nmax = 300";
    assert_eq!(judged(empty, lose("missed.slot_unmap")), "=", "nothing went to the pool");
    assert_eq!(judged("figure = \"peak-slots\"\nmax = 256", lose("missed.slot_unmap")), "=", "the kernel's own mark");
    assert_eq!(judged("figure = \"failed\"\nmax = 44", lose("missed.map_sg_return")), "?");
}

#[test]
fn a_capture_that_is_cut_or_damaged_keeps_no_upper_limit() {
    let cut = |replayed: &mut Replayed| (replayed.end, replayed.gaps.no_end) = (None, true);
    for figure in ["bounces-per-second", "bounces", "failed", "peak-slots", "disagreements"] {
        assert_eq!(judged(&format!("figure = \"{figure}\"\nmax = 1000"), cut), "?", "{figure}");
    }
    assert_eq!(judged("figure = \"bounces-per-second\"\nmax = 1", cut), "x");
    let damaged = |replayed: &mut Replayed| replayed.gaps.damaged_frames = 1;
    assert_eq!(judged("figure = \"losses\"\nmax = 0", damaged), "x");
    assert_eq!(judged("figure = \"bounces\"\nmax = 256", damaged), "?");
}

#[test]
fn what_is_not_known_of_buffers_is_added_to_the_most_that_may_bounce() {
    let unknown = |replayed: &mut Replayed| replayed.observed.unknown = 4;
    assert_eq!(judged("figure = \"bounces\"\nmax = 259", unknown), "?");
    assert_eq!(judged("figure = \"bounces\"\nmax = 260", unknown), "=");
    assert_eq!(judged("figure = \"bytes-copied\"\nmax = \"1G\"", unknown), "?");
}

#[test]
fn a_recording_without_mapping_events_keeps_no_upper_limit() {
    let unhooked = |replayed: &mut Replayed| replayed.start.hooks.iter_mut().for_each(|hook| hook.attached = false);
    assert_eq!(judged("figure = \"mappings\"\nmax = 300", unhooked), "?");
    assert_eq!(judged("device = \"x\"\nif-absent = \"pass\"\nfigure = \"bounces\"\nmax = 0", unhooked), "?");
}

#[test]
fn a_model_that_disagrees_with_the_kernel_cannot_say_what_would_be_kept() {
    let rule = "what-if = { policy = \"legacy\" }\nfigure = \"bounces\"\nmax = 0";
    assert_eq!(judged(rule, |replayed| replayed.verdict.disagreements = 1), "?");
}

#[test]
fn totals_that_do_not_agree_leave_even_the_real_run_in_doubt() {
    let miscounted = |replayed: &mut Replayed| replayed.verdict.problems.push("map: 3 seen, 2 recorded".to_owned());
    assert_eq!(judged("figure = \"bounces\"\nmax = 256", miscounted), "?");
    assert_eq!(judged("figure = \"disagreements\"\nmax = 0", miscounted), "x");
}

#[test]
fn a_peak_that_is_not_exact_may_have_been_higher() {
    let sampled = |replayed: &mut Replayed| replayed.verdict.peak_is_exact = false;
    assert_eq!(judged("figure = \"peak-slots\"\nmax = 256", sampled), "?");
    assert_eq!(judged("figure = \"peak-slots\"\nmax = 255", sampled), "x");
    assert_eq!(judged("figure = \"peak-slots\"\nmax = 256", |replayed| replayed.verdict.peak_slots_kernel = None), "?");
    assert_eq!(judged("figure = \"peak-percent\"\nmax = 100", |replayed| replayed.start.kernel.pool.slots = 0), "?");
}

#[test]
fn nobody_of_the_name_is_an_open_question_unless_that_passes() {
    assert_eq!(as_it_is("device = \"usb*\"\nfigure = \"bounces\"\nmax = 0"), "?");
    assert_eq!(as_it_is("device = \"usb*\"\nfigure = \"bounces\"\nmax = 0\nif-absent = \"pass\""), "=");
}

#[test]
fn hazards_and_call_sites_need_allocations() {
    let no_allocations = |replayed: &mut Replayed| replayed.origins_known = false;
    assert_eq!(judged("figure = \"hazards-foreign\"\nmax = 0", no_allocations), "?");
    let call_sites = "call-site = \"*\"\nfigure = \"bounces\"\nmax = 0\nif-absent = \"pass\"";
    assert_eq!(judged(call_sites, no_allocations), "?");
    assert_eq!(judged("figure = \"hazards-foreign\"\nmax = 2", knows_call_sites), "=");
    assert_eq!(judged("figure = \"hazards-foreign\"\nmax = 1", knows_call_sites), "x");
}

#[test]
fn every_match_is_judged_by_itself_or_their_sum() {
    let rule = |more: &str| format!("call-site = \"usb_get\"\nfigure = \"bounces\"\nmax = 4\n{more}");
    assert_eq!(judged(&rule(""), knows_call_sites), "==");
    assert_eq!(judged(&rule("each = false"), knows_call_sites), "x");
    assert_eq!(judged("call-site = \"*+0x8\"\nfigure = \"bounces\"\nmax = 8", knows_call_sites), "x");
}

#[test]
fn allocations_that_were_not_recorded_may_hide_a_hazard_and_lost_frees_invent_one() {
    let rule = |max: u32| format!("figure = \"hazards-foreign\"\nmax = {max}");
    let sampled = |replayed: &mut Replayed| {
        knows_call_sites(replayed);
        replayed.start.allocation_sample = 64;
    };
    assert_eq!([1, 4, 5].map(|max| judged(&rule(max), sampled)), ["x", "?", "="], "2 certain and 3 possible");
    let frees_lost = |replayed: &mut Replayed| {
        knows_call_sites(replayed);
        lose("missed.kfree")(replayed);
    };
    assert_eq!([1, 2].map(|max| judged(&rule(max), frees_lost)), ["?", "="]);
    let own = |max: u32| format!("figure = \"hazards-own\"\nmax = {max}");
    assert_eq!(
        [0, 1, 3].map(|max| judged(&own(max), frees_lost)),
        ["x", "?", "="],
        "of the 2 some may be of this class"
    );
    let no_foreign = |replayed: &mut Replayed| {
        frees_lost(replayed);
        replayed.outcomes.iter_mut().for_each(|outcome| outcome.total.hazards_foreign = 0);
    };
    for figure in ["hazards-foreign", "hazards-unknown", "hazards-own"] {
        assert_eq!(
            judged(&format!("figure = \"{figure}\"\nmax = 3"), no_foreign),
            "=",
            "{figure} does not rest on frees"
        );
    }
}

#[test]
fn of_what_was_not_streamed_no_figure_is_told_as_if_it_were_nothing() {
    let small = |replayed: &mut Replayed| replayed.start.streamed = tracer_ebpf::streamed::Streamed::Small;
    let of = |figure: &str, policy: &str, max: u32| {
        judged(&format!("what-if = {{ policy = \"{policy}\" }}\nfigure = \"{figure}\"\nmax = {max}"), small)
    };
    assert_eq!(of("bounces", "mainline", 300), "=");
    assert_eq!(of("mappings", "mainline", 300), "?", "there may have been more");
    assert_eq!(of("hazards-unknown", "mainline", 300), "?", "of longer buffers");
}

#[test]
fn buffers_of_unknown_origin_may_be_any_call_sites() {
    let some_unknown = |replayed: &mut Replayed| {
        knows_call_sites(replayed);
        replayed.observed_rows.by_call_site[2].call_site.clear();
    };
    let rule = |max: u32| format!("call-site = \"usb_get+0x40\"\nfigure = \"bounces\"\nmax = {max}");
    assert_eq!([0, 9, 10].map(|max| judged(&rule(max), some_unknown)), ["x", "?", "="]);
    let absent = "call-site = \"gone\"\nfigure = \"bounces\"\nmax = 0\nif-absent = \"pass\"";
    assert_eq!((judged(absent, some_unknown), judged(absent, knows_call_sites)), ("?".into(), "=".into()));
}

#[test]
fn of_a_capture_that_cannot_be_read_no_rule_can_tell() {
    let rules = rules("[[rule]]\nfigure = \"failed\"\nmax = 0\n[[rule]]\nfigure = \"losses\"\nmax = 0\n");
    let judgements = unreadable(&rules, "gone", "no such file");
    assert_eq!(judgements.len(), 2);
    assert!(judgements.iter().all(|one| one.verdict == Verdict::Unreadable("no such file".into())));
}
