//! The kernel's own truth tables: boots machines of every line size, has the lab's module map every length, list and number
//! of held mappings there, and holds each answer against the model that replay and `verify` predict with.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use workspace::jobs;

use self::{compare::Compared, scenario::Made, table::Table};
use super::{
    boot::{self, Boot},
    initramfs::{self, Contents},
    kernel::Kernel,
    machine::{Devices, Machine},
    modules::Module,
    run::Run,
    table::Row,
};

mod compare;
mod model;
#[cfg(test)]
mod sample;
pub(super) mod scenario;
mod table;

pub(super) use self::scenario::Scenario;

/// What the columns hold. `bounced` and `refused` are the kernel's; `merged` are lists from which fewer DMA segments came out than went in,
/// `lost` those that were mapped element by element behind an IOMMU because something in them was small.
pub(super) const HEADER: [&str; 12] = [
    "kernel",
    "scenario",
    "table",
    "line",
    "path",
    "entries",
    "bounced",
    "refused",
    "merged",
    "lost",
    "differences",
    "",
];
/// Differences that are shown.
const SHOWN: usize = 20;

/// A kernel, and what its guests need.
pub(super) struct Booted<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) modules: Vec<Module>,
    pub(super) test_module: Vec<u8>,
}

/// Makes every table of every kernel, a row each, whatever happens.
pub(super) fn all(run: &Run, kernels: &[Booted], scenarios: &[&Scenario]) -> Vec<Row> {
    let boots: Vec<_> = kernels.iter().flat_map(|kernel| scenarios.iter().map(move |one| (kernel, *one))).collect();
    let rows = jobs::all(&boots, run.jobs, |&(booted, scenario)| one(run, booted, scenario));
    rows.into_iter().flatten().collect()
}

fn one(run: &Run, booted: &Booted, scenario: &Scenario) -> Vec<Row> {
    let series = &booted.kernel.series;
    let dir = run.out.join(format!("{series}-{}", scenario.name));
    let mut boot = boot(run, booted, scenario, &dir)
        .unwrap_or_else(|error| Boot { troubles: vec![format!("{error:#}")], ..Boot::default() });
    boot.troubles.retain(|trouble| !scenario.explains(trouble));
    eprintln!("lab: {series} {}: {:.0} s", scenario.name, boot.seconds);
    let share = dir.join("share");
    scenario.tables.iter().map(|made| judge(booted.kernel, scenario, made, &share, &boot)).collect()
}

fn boot(run: &Run, booted: &Booted, scenario: &Scenario, dir: &Path) -> Result<Boot> {
    let test = Test {
        script: &scenario.script(),
        cpu: scenario.cpu,
        cpus: 2,
        counts_instructions: false,
        cache_line: scenario.line_in_tree.then_some(scenario.line),
        smmu: scenario.smmu,
        parameters: scenario.parameters(),
    };
    booted.boot(run, &test, dir, scenario.name)
}

/// A machine whose devices the lab's module drives.
pub(super) struct Test<'a> {
    /// Init's script.
    pub(super) script: &'a str,
    /// As in [`Machine`].
    pub(super) cpu: &'a str,
    /// As there.
    pub(super) cpus: u32,
    /// As there.
    pub(super) counts_instructions: bool,
    /// As there.
    pub(super) cache_line: Option<u32>,
    /// As there.
    pub(super) smmu: bool,
    /// As there.
    pub(super) parameters: &'a str,
}

impl Booted<'_> {
    /// Boots it in `dir`, which is made anew.
    pub(super) fn boot(&self, run: &Run, test: &Test, dir: &Path, name: &str) -> Result<Boot> {
        let _ = fs::remove_dir_all(dir);
        let (work, share) = (dir.join("machine"), dir.join("share"));
        fs::create_dir_all(&work)?;
        fs::create_dir_all(&share)?;
        let initramfs = work.join("initramfs.cpio");
        let contents = Contents {
            programs: &run.programs,
            modules: &self.modules,
            btf: None,
            later: &[],
            test_module: Some(&self.test_module),
            script: test.script,
        };
        fs::write(&initramfs, initramfs::build(&contents, self.kernel)?)?;
        let machine = Machine {
            cpu: test.cpu,
            restricted_pools: 0,
            counts_instructions: test.counts_instructions,
            cpus: test.cpus,
            tablets: 0,
            cache_line: test.cache_line,
            devices: Devices::Test,
            test_device: false,
            smmu: test.smmu,
            coherent: false,
            image: &self.kernel.image,
            parameters: test.parameters,
            initramfs: &initramfs,
            share: &share,
            work: &work,
        };
        boot::of(run, &machine, dir, &format!("{} {name}", self.kernel.series))
    }
}

/// One table's row.
fn judge(kernel: &Kernel, scenario: &Scenario, made: &Made, share: &Path, boot: &Boot) -> Row {
    let series = &kernel.series;
    let mut problems = boot.troubles.clone();
    let mut compared = None;
    if boot.done.iter().any(|name| name == made.name) {
        let file = share.join(format!("{}.truth", made.name));
        let text = fs::read_to_string(&file).with_context(|| format!("the guest left no {}", file.display()));
        match text
            .map_err(|error| format!("{error:#}"))
            .and_then(|text| verdict(scenario, made, kernel.version(), &text))
        {
            Ok((told, more)) => {
                eprintln!(
                    "lab: {series} {} {}: entries {}, differences {}",
                    scenario.name,
                    made.name,
                    told.entries,
                    told.differences.len()
                );
                problems.extend(more);
                compared = Some(told);
            }
            Err(error) => problems.push(error),
        }
    } else {
        problems.push("was not made".into());
    }
    let number =
        |tell: fn(&Compared) -> u64| compared.as_ref().map_or_else(|| "-".to_owned(), |one| tell(one).to_string());
    let cells = vec![
        series.clone(),
        scenario.name.to_owned(),
        made.name.to_owned(),
        scenario.line.to_string(),
        if made.iommu { "SMMU" } else { "direct" }.to_owned(),
        number(|one| one.entries),
        number(|one| one.bounced),
        number(|one| one.refused),
        number(|one| one.merged),
        number(|one| one.lost),
        number(|one| one.differences.len() as u64),
    ];
    Row { cells, problems }
}

/// A table compared, and what is off besides it not being a table at all.
fn verdict(
    scenario: &Scenario,
    made: &Made,
    version: (u32, u32),
    text: &str,
) -> Result<(Compared, Vec<String>), String> {
    let table = Table::parse(text).map_err(|error| format!("the table {error}"))?;
    let mut problems = table.gaps();
    let level = table.number("level_of_coherence").map_err(|error| format!("the table {error}"))?;
    let coherent = made.coherence.is_coherent(version, level);
    let mut is = |fact: &str, wanted: u64| match table.number::<u64>(fact) {
        Ok(value) if value == wanted => {}
        Ok(value) => problems.push(format!("{fact} is {value}, this scenario is for {wanted}")),
        Err(error) => problems.push(format!("the table {error}")),
    };
    is("cache_alignment", u64::from(scenario.line));
    is("coherent", u64::from(coherent));
    is("granule", if made.iommu { 4096 } else { 0 });
    is("kmalloc_8", scenario.smallest_object());
    is("bounce_unaligned", 1);
    if scenario.pool && table.holds.iter().any(|hold| hold.used.contains(&-1)) {
        problems.push("the kernel does not say how many slots are in use".into());
    }
    let compared = Compared::new(&table).map_err(|error| format!("the table {error}"))?;
    for (what, count, wanted) in
        [("bounces", compared.bounced, scenario.pool), ("refusals", compared.refused, !scenario.pool)]
    {
        if (count > 0) != (wanted && !coherent) {
            problems.push(format!("{count} {what}, which is not what this table is for"));
        }
    }
    if (compared.merged > 0) != made.iommu {
        problems.push(format!("{} lists concatenated, which is not what this table is for", compared.merged));
    }
    problems.extend(compared.differences.iter().take(SHOWN).cloned());
    if let Some(more) = compared.differences.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        problems.push(format!("and {more} more differences"));
    }
    Ok((compared, problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        verdict(&scenario::ALL[0], &scenario::ALL[0].tables[0], (6, 12), text).unwrap().1
    }

    #[test]
    fn a_whole_table_without_differences_is_no_problem() {
        assert_eq!(problems(&sample::text(None)), Vec::<String>::new());
        let (compared, problems) =
            verdict(&scenario::ALL[1], &scenario::ALL[1].tables[0], (6, 12), &sample::text(Some(4096))).unwrap();
        assert_eq!((problems, compared.differences.len()), (Vec::new(), 0));
    }

    #[test]
    fn a_kernel_other_than_the_scenario_s_is_a_problem_even_when_the_model_knows_it() {
        let text = sample::text(None).replace("fact kmalloc_8 8", "fact kmalloc_8 9");
        assert!(problems(&text)[0].starts_with("kmalloc_8 is 9"));
        // Direct where an SMMU was asked for: granule, and no list concatenated.
        let (_, problems) =
            verdict(&scenario::ALL[1], &scenario::ALL[1].tables[0], (6, 12), &sample::text(None)).unwrap();
        assert_eq!(problems.len(), 2);
    }

    #[test]
    fn a_pool_that_does_not_count_is_a_problem() {
        let text = sample::text(None).replace("hold 8 2 700 512 512 0 512 0", "hold 8 2 700 512 512 0 -1 0");
        assert_eq!(problems(&text), ["the kernel does not say how many slots are in use"]);
    }

    #[test]
    fn at_most_twenty_differences_are_shown_and_the_rest_counted() {
        let problems = problems(&sample::text(None).replace(" bounced\n", " direct\n"));
        assert_eq!(problems.len(), SHOWN + 1);
        assert!(problems[SHOWN].starts_with("and "));
    }

    #[test]
    fn a_device_that_is_coherent_where_it_must_not_be_is_a_problem() {
        let text = sample::text(None).replace("fact level_of_coherence 2", "fact level_of_coherence 0");
        assert_eq!(problems(&text).len(), 0);
        let pci = &scenario::ALL[0].tables[2];
        let (_, problems) = verdict(&scenario::ALL[0], pci, (7, 3), &text).unwrap();
        assert!(problems[0].starts_with("coherent is 0"), "{problems:?}");
    }

    #[test]
    fn a_table_without_its_end_is_an_error() {
        let text = sample::text(None);
        assert!(verdict(&scenario::ALL[0], &scenario::ALL[0].tables[0], (6, 12), &text[..text.len() / 2]).is_err());
    }
}
