//! Everything that commands do with a stream: replay under all policies, advice, pages, exports, rules.

use std::sync::{Arc, LazyLock};

use tracer::check::{Rules, judge};
use tracer::doctor::{Examined, Page};
use tracer::exchange::export::{follow::follow, perfetto::Perfetto};
use tracer::model::policy::{Caches, Override, Policy, PoolChoice, builtins};
use tracer::replay::settings::{Settings, WhatIf};
use tracer::replay::{Wanted, proposals, replay};
use tracer::report::machine::{Doctor, Document as _, Replay, Stats, Verify};
use tracer::report::page::{self, Subject, plan::Plan};
use tracer::report::{self, html, markdown};
use tracer::stream::Item;

use crate::items::Items;

static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| builtins().collect());

/// A rule for each figure would be slow; these take different ways through the judge.
static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let text = r#"
        [[rule]]
        device = "*"
        figure = "bounces-per-second"
        max = 0
        [[rule]]
        figure = "peak-percent"
        max = "50 %"
        what-if = { policy = "mainline", swiotlb = "4M", cache-line-size = 128 }
    "#;
    Rules::from_toml(text, |_| Err("no files".to_owned())).expect("the rules are good")
});

/// Does it all. Only what panics is a finding.
pub fn with(items: &[Item]) {
    let source = || Items::from(items.to_vec());
    let untrusted = Override { name: "*".into(), coherent: Some(false), untrusted: Some(true), own_pool: None };
    let what_if = WhatIf {
        cache_line_size: Some(128),
        pool: Some(PoolChoice::Slots(128)),
        devices: vec![untrusted],
        ..WhatIf::default()
    };
    let mut packed = Arc::default();
    let replayed = replay(&mut source(), |start| {
        let settings = |what_if: &WhatIf| -> Vec<Settings> {
            POLICIES.iter().map(|policy| Settings::what_if(&start.kernel, policy, what_if)).collect()
        };
        let mut settings = [settings(&WhatIf::default()), settings(&what_if)].concat();
        settings.extend(RULES.settings(&start.kernel, &Arc::default()));
        Wanted { settings, verdict: true, statistics: true, overlaps: true, occupancy: true, holders: true }
    });
    if let Ok(replayed) = replayed {
        let proposals = proposals::packed(&replayed, proposals::SMALLEST);
        report::packed::text(&proposals, &replayed);
        packed = Arc::new(proposals.sites.into_iter().map(|site| site.address).collect());
        report::replay::text(&replayed, None);
        Replay::new(&replayed, None).to_json();
        report::csv::text(&replayed);
        report::stats::text(&replayed);
        Stats::new(&replayed).to_json();
        report::verify::text(&replayed);
        Verify::new(&replayed).to_json();
        report::junit::xml(&judge(&RULES, "fuzz.bounce", &replayed));
    }
    whole_page(items, packed);
    let mainline = |start: &tracer::stream::Start| vec![Settings::what_if(&start.kernel, &POLICIES[0], &what_if)];
    let mut timeline = Perfetto::new(Vec::new());
    if follow(&mut source(), mainline, &mut timeline).is_ok() {
        timeline.finish().expect("memory can be written");
    }
    let Ok(examined) = Examined::of(&mut source());
    let page = Page::new(examined, None);
    report::doctor::text(&page);
    Doctor::new(&page).to_json();
}

fn whole_page(items: &[Item], packed_sites: Arc<std::collections::HashSet<u64>>) {
    let policies: Vec<Policy> = POLICIES.iter().filter(|policy| policy.caches == Caches::Packed).cloned().collect();
    let what_if = WhatIf { packed_sites, ..WhatIf::default() };
    let mut plan = Plan::default();
    let replayed = replay(&mut Items::from(items.to_vec()), |start| {
        plan = Plan::new(&start.kernel, &policies, &what_if);
        plan.wanted()
    });
    let Ok(replayed) = replayed else { return };
    let subject = Subject { name: "fuzz".to_owned(), results: plan.results(replayed) };
    let document = page::document(&subject);
    html::page(&document, None);
    markdown::text(&document);
    report::metrics::text(&subject.results, "fuzz");
    page::comparison(&subject, &subject);
}
