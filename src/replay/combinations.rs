//! What is to be simulated: the cross product of policies and swept values.

use std::{collections::HashSet, fs, path::Path, sync::Arc};

use anyhow::{Context, Result, bail};
use tracer::{
    facts::KernelFacts,
    model::policy::{Lists, Policy, PoolChoice, WhenFull, builtin, builtins, from_toml},
    replay::settings::{Settings, WhatIf},
};

/// More than these are a mistake.
const MOST: usize = 1024;

/// One swept value of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    CacheLineSize(u32),
    Minalign(u32),
    Pool(PoolChoice),
    Lists(Lists),
    WhenFull(WhenFull),
}

const KEYS: &str = "cache-line-size, minalign, swiotlb, lists, when-full";

/// `cache-line-size=16..256`, `swiotlb=512K,1M,none` and so on; `A..B` are the powers of two from A to B.
pub(crate) fn parse_sweep(text: &str) -> Result<Vec<Value>, String> {
    let (key, values) = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE,…; keys: {KEYS}"))?;
    let value: fn(&str) -> Result<Value, String> = match key {
        "cache-line-size" => |text| parse_alignment(text).map(Value::CacheLineSize),
        "minalign" => |text| parse_alignment(text).map(Value::Minalign),
        "swiotlb" => |text| text.parse().map(Value::Pool),
        "lists" => |text| parse_lists(text).map(Value::Lists),
        "when-full" => |text| parse_when_full(text).map(Value::WhenFull),
        _ => return Err(format!("'{key}' cannot be swept; keys: {KEYS}")),
    };
    let mut swept = Vec::new();
    for part in values.split(',') {
        match part.split_once("..").filter(|_| matches!(key, "cache-line-size" | "minalign")) {
            Some((from, to)) => {
                let (from, to) = (parse_alignment(from)?, parse_alignment(to)?);
                if from > to {
                    return Err(format!("'{part}' goes from the larger to the smaller"));
                }
                let powers = std::iter::successors(Some(from), |bytes| bytes.checked_mul(2));
                swept.extend(powers.take_while(|bytes| *bytes <= to).map(|bytes| match key {
                    "minalign" => Value::Minalign(bytes),
                    _ => Value::CacheLineSize(bytes),
                }));
            }
            None => swept.push(value(part)?),
        }
    }
    Ok(swept)
}

/// A power of two that a line or an object can be aligned to, bytes.
pub(crate) fn parse_alignment(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| format!("'{text}' is not a number of bytes"))?;
    if !bytes.is_power_of_two() || !(8..=4096).contains(&bytes) {
        return Err(format!("'{text}' is not a power of two from 8 to 4096"));
    }
    Ok(bytes)
}

pub(crate) fn parse_lists(text: &str) -> Result<Lists, String> {
    match text {
        "whole-list" => Ok(Lists::WholeList),
        "whole-list-bounce" => Ok(Lists::WholeListBounce),
        "flagged" => Ok(Lists::Flagged),
        _ => Err(format!("'{text}' is none of: whole-list, whole-list-bounce, flagged")),
    }
}

pub(crate) fn parse_when_full(text: &str) -> Result<WhenFull, String> {
    match text {
        "fail" => Ok(WhenFull::Fail),
        "fallback" => Ok(WhenFull::Fallback),
        _ => Err(format!("'{text}' is none of: fail, fallback")),
    }
}

/// The policies of these names: each a name, `all`, or a file. Of several with one name those of files say so.
pub(crate) fn policies(names: &[String]) -> Result<Vec<Policy>> {
    let mut all: Vec<(Policy, Option<&str>)> = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => all.extend(builtins().map(|policy| (policy, None))),
            name => all.push((policy(name)?, builtin(name).is_none().then_some(name))),
        }
    }
    let is_alone = |policy: &Policy| all.iter().all(|(other, _)| other.name != policy.name || other == policy);
    let named = |(policy, file): &(Policy, Option<&str>)| match file {
        Some(file) if !is_alone(policy) => Policy { name: format!("{} ({file})", policy.name), ..policy.clone() },
        _ => policy.clone(),
    };
    Ok(all.iter().map(named).collect())
}

/// A policy by its name, or from a file.
pub(crate) fn policy(name: &str) -> Result<Policy> {
    if let Some(policy) = builtin(name) {
        return Ok(policy);
    }
    let path = Path::new(name);
    if path.extension().is_none() && !path.exists() {
        let known: Vec<String> = builtins().map(|policy| policy.name).collect();
        bail!("no policy {name}; there are {}, and files such as mine.toml", known.join(", "));
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    from_toml(&text).with_context(|| name.to_owned())
}

/// A simulated kernel, and what it was made of.
#[derive(Clone, Debug)]
pub(crate) struct Combination {
    pub(crate) policy: Policy,
    pub(crate) what_if: WhatIf,
    pub(crate) settings: Settings,
}

/// Every combination, in the order of the policies and then of the values, named by what varies. Those that come to the same
/// kernel are there once.
pub(crate) fn combinations(
    kernel: &KernelFacts,
    policies: &[Policy],
    what_if: &WhatIf,
    sweeps: &[Vec<Value>],
    packed_sites: &Arc<HashSet<u64>>,
) -> Result<Vec<Combination>> {
    let count = sweeps.iter().try_fold(policies.len(), |count, values| count.checked_mul(values.len()));
    if count.is_none_or(|count| count > MOST) {
        bail!("these are more than {MOST} combinations: sweep less at once");
    }
    let mut crossed: Vec<(Policy, WhatIf, String)> = policies
        .iter()
        .map(|policy| {
            let what_if = WhatIf { packed_sites: Arc::clone(packed_sites), ..what_if.clone() };
            (policy.clone(), what_if, policy.name.clone())
        })
        .collect();
    for values in sweeps {
        let with = |(policy, what_if, name): &(Policy, WhatIf, String)| {
            let one = |value| {
                let (policy, what_if) = with_value(policy.clone(), what_if.clone(), value);
                let name = if values.len() > 1 { format!("{name} {}", label(value)) } else { name.clone() };
                (policy, what_if, name)
            };
            values.iter().map(one).collect::<Vec<_>>()
        };
        crossed = crossed.iter().flat_map(with).collect();
    }
    let mut combinations: Vec<Combination> = Vec::new();
    for (policy, what_if, name) in crossed {
        let settings = Settings { name, ..Settings::what_if(kernel, &policy, &what_if) };
        let is_same =
            |other: &Combination| Settings { name: settings.name.clone(), ..other.settings.clone() } == settings;
        if !combinations.iter().any(is_same) {
            combinations.push(Combination { policy, what_if, settings });
        }
    }
    Ok(combinations)
}

/// A swept value, as part of a name.
fn label(value: &Value) -> String {
    let word = |choice: serde_json::Value| choice.as_str().unwrap_or_default().to_owned();
    match value {
        Value::CacheLineSize(bytes) => format!("line {bytes}"),
        Value::Minalign(bytes) => format!("minalign {bytes}"),
        Value::Pool(PoolChoice::None) => "no pool".to_owned(),
        Value::Pool(pool @ (PoolChoice::Captured | PoolChoice::Default)) => format!("{pool} pool"),
        Value::Pool(pool) => pool.to_string(),
        Value::Lists(lists) => word(serde_json::json!(lists)),
        Value::WhenFull(when_full) => word(serde_json::json!(when_full)),
    }
}

fn with_value(mut policy: Policy, mut what_if: WhatIf, value: &Value) -> (Policy, WhatIf) {
    match *value {
        Value::CacheLineSize(bytes) => what_if.cache_line_size = Some(bytes),
        Value::Minalign(bytes) => what_if.minalign = Some(bytes),
        Value::Pool(pool) => what_if.pool = Some(pool),
        Value::Lists(lists) => policy.lists = lists,
        Value::WhenFull(when_full) => policy.when_full = when_full,
    }
    (policy, what_if)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_powers_of_two_and_lists_are_as_given() {
        let lines = [16, 32, 64].map(Value::CacheLineSize).to_vec();
        assert_eq!(parse_sweep("cache-line-size=16..64"), Ok(lines));
        let pools = vec![Value::Pool(PoolChoice::None), Value::Pool(PoolChoice::Slots(512))];
        assert_eq!(parse_sweep("swiotlb=none,1M"), Ok(pools));
        assert_eq!(parse_sweep("minalign=8,128"), Ok([8, 128].map(Value::Minalign).to_vec()));
    }

    #[test]
    fn nonsense_names_what_there_is() {
        let wrong = |text| parse_sweep(text).unwrap_err();
        assert!(wrong("colour=3").contains("when-full"));
        assert!(wrong("minalign").contains("KEY=VALUE"));
        assert!(wrong("minalign=48").contains("power of two"));
        assert!(wrong("minalign=64..8").contains("larger"));
        assert!(wrong("lists=some").contains("flagged"));
        assert!(policy("nonsense").unwrap_err().to_string().contains("always-small"));
    }

    #[test]
    fn every_combination_is_there_once() {
        let kernel = KernelFacts { cache_line_size: 64, dma_minalign: 128, ..KernelFacts::default() };
        let policies = [builtin("mainline").unwrap(), builtin("legacy").unwrap()];
        let sweeps = [parse_sweep("cache-line-size=64,128").unwrap(), parse_sweep("swiotlb=1M,2M,4M").unwrap()];
        let all = combinations(&kernel, &policies, &WhatIf::default(), &sweeps, &Arc::default()).unwrap();
        assert_eq!(all.len(), 12);
        let last = &all[5].settings;
        assert_eq!((last.decider.cache_line_size, last.slots, last.name.as_str()), (128, 2048, "mainline line 128 4M"));
        assert_eq!(last.policy, "mainline");
        let many = vec![parse_sweep("cache-line-size=8..4096").unwrap(); 4];
        assert!(combinations(&kernel, &policies, &WhatIf::default(), &many, &Arc::default()).is_err());
    }

    #[test]
    fn what_comes_to_the_same_kernel_is_there_once() {
        let kernel = KernelFacts { possible_cpus: 8, ..KernelFacts::default() };
        let policies = policies(&["mainline".to_owned(), "mainline".to_owned()]).unwrap();
        let sweeps = [parse_sweep("swiotlb=512K,1M,4M").unwrap()];
        let all = combinations(&kernel, &policies, &WhatIf::default(), &sweeps, &Arc::default()).unwrap();
        let names: Vec<&str> = all.iter().map(|combination| combination.settings.name.as_str()).collect();
        assert_eq!(names, ["mainline 512K", "mainline 4M"], "with 8 CPUs both of the smaller are 2 MiB");
    }
}
