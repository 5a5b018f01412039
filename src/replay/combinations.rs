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

/// The settings of every combination, in the order of the policies and then of the values.
pub(crate) fn settings(
    kernel: &KernelFacts,
    policies: &[Policy],
    what_if: &WhatIf,
    sweeps: &[Vec<Value>],
    packed_sites: &Arc<HashSet<u64>>,
) -> Result<Vec<Settings>> {
    let count = sweeps.iter().try_fold(policies.len(), |count, values| count.checked_mul(values.len()));
    if count.is_none_or(|count| count > MOST) {
        bail!("these are more than {MOST} combinations: sweep less at once");
    }
    let mut combinations: Vec<(Policy, WhatIf)> = policies
        .iter()
        .map(|policy| (policy.clone(), WhatIf { packed_sites: Arc::clone(packed_sites), ..what_if.clone() }))
        .collect();
    for values in sweeps {
        let with = |(policy, what_if): &(Policy, WhatIf)| {
            let (policy, what_if) = (policy.clone(), what_if.clone());
            values.iter().map(move |value| with_value(policy.clone(), what_if.clone(), value)).collect::<Vec<_>>()
        };
        combinations = combinations.iter().flat_map(with).collect();
    }
    Ok(combinations.iter().map(|(policy, what_if)| Settings::what_if(kernel, policy, what_if)).collect())
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
        let all = settings(&kernel, &policies, &WhatIf::default(), &sweeps, &Arc::default()).unwrap();
        assert_eq!(all.len(), 12);
        assert_eq!((all[5].decider.cache_line_size, all[5].slots, all[5].name.as_str()), (128, 2048, "mainline"));
        let many = vec![parse_sweep("cache-line-size=8..4096").unwrap(); 4];
        assert!(settings(&kernel, &policies, &WhatIf::default(), &many, &Arc::default()).is_err());
    }
}
