//! Scenarios: which kernels are simulated, as the cross product of policies and swept values.

use bouncescope_capture::facts::KernelFacts;
use bouncescope_model::policy::{Lists, Policy, PoolChoice, WhenFull};

use crate::settings::{Settings, WhatIf};

/// More than these are a mistake.
const MOST: usize = 1024;

/// More combinations were asked for than anybody means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these are more than {MOST} combinations: sweep less at once")]
pub struct TooMany;

/// One swept value of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `cache_line_size()`, bytes.
    CacheLineSize(u32),
    /// Minimum alignment of the kmalloc caches, bytes.
    Minalign(u32),
    /// The pool.
    Pool(PoolChoice),
    /// Scatterlists behind an IOMMU.
    Lists(Lists),
    /// Mappings that find no slots.
    WhenFull(WhenFull),
}

const KEYS: &str = "cache-line-size, minalign, swiotlb, lists, when-full";

/// `cache-line-size=16..256`, `swiotlb=512K,1M,none` and so on; `A..B` are the powers of two from A to B.
pub fn parse_sweep(text: &str) -> Result<Vec<Value>, String> {
    let (key, values) = text.split_once('=').ok_or_else(|| format!("'{text}' is not KEY=VALUE,…; keys: {KEYS}"))?;
    let value: fn(&str) -> Result<Value, String> = match key {
        "cache-line-size" => |text| parse_alignment(text).map(Value::CacheLineSize),
        "minalign" => |text| parse_alignment(text).map(Value::Minalign),
        "swiotlb" => |text| text.parse().map(Value::Pool),
        "lists" => |text| text.parse().map(Value::Lists),
        "when-full" => |text| text.parse().map(Value::WhenFull),
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
pub fn parse_alignment(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| format!("'{text}' is not a number of bytes"))?;
    if !bytes.is_power_of_two() || !(8..=4096).contains(&bytes) {
        return Err(format!("'{text}' is not a power of two from 8 to 4096"));
    }
    Ok(bytes)
}

/// A simulated kernel, and what it was made of.
#[derive(Clone, Debug)]
pub struct Combination {
    /// Its policy.
    pub policy: Policy,
    /// What else is changed.
    pub what_if: WhatIf,
    /// Both, on the captured kernel.
    pub settings: Settings,
}

/// Every combination, in the order of the policies and then of the values, named by what varies. Those that come to the same
/// kernel are there once.
pub fn combinations(
    kernel: &KernelFacts,
    policies: &[Policy],
    what_if: &WhatIf,
    sweeps: &[Vec<Value>],
) -> Result<Vec<Combination>, TooMany> {
    let count = sweeps.iter().try_fold(policies.len(), |count, values| count.checked_mul(values.len()));
    if count.is_none_or(|count| count > MOST) {
        return Err(TooMany);
    }
    let mut crossed: Vec<(Policy, WhatIf, String)> =
        policies.iter().map(|policy| (policy.clone(), what_if.clone(), policy.name.clone())).collect();
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
    match value {
        Value::CacheLineSize(bytes) => format!("line {bytes}"),
        Value::Minalign(bytes) => format!("minalign {bytes}"),
        Value::Pool(PoolChoice::None) => "no pool".to_owned(),
        Value::Pool(pool @ (PoolChoice::Captured | PoolChoice::Default)) => format!("{pool} pool"),
        Value::Pool(pool) => pool.to_string(),
        Value::Lists(lists) => lists.to_string(),
        Value::WhenFull(when_full) => when_full.to_string(),
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
    use bouncescope_model::policy::builtin;

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
    }

    #[test]
    fn every_combination_is_there_once() {
        let kernel = KernelFacts { cache_line_size: 64, dma_minalign: 128, ..KernelFacts::default() };
        let policies = [builtin("mainline").unwrap(), builtin("legacy").unwrap()];
        let sweeps = [parse_sweep("cache-line-size=64,128").unwrap(), parse_sweep("swiotlb=1M,2M,4M").unwrap()];
        let all = combinations(&kernel, &policies, &WhatIf::default(), &sweeps).unwrap();
        assert_eq!(all.len(), 12);
        let last = &all[5].settings;
        assert_eq!((last.decider.cache_line_size, last.slots, last.name.as_str()), (128, 2048, "mainline line 128 4M"));
        assert_eq!(last.policy, "mainline");
        let many = vec![parse_sweep("cache-line-size=8..4096").unwrap(); 4];
        assert!(combinations(&kernel, &policies, &WhatIf::default(), &many).is_err());
    }

    #[test]
    fn what_comes_to_the_same_kernel_is_there_once() {
        let kernel = KernelFacts { possible_cpus: 8, ..KernelFacts::default() };
        let policies = [builtin("mainline").unwrap(), builtin("mainline").unwrap()];
        let sweeps = [parse_sweep("swiotlb=512K,1M,4M").unwrap()];
        let all = combinations(&kernel, &policies, &WhatIf::default(), &sweeps).unwrap();
        let names: Vec<&str> = all.iter().map(|combination| combination.settings.name.as_str()).collect();
        assert_eq!(names, ["mainline 512K", "mainline 4M"], "with 8 CPUs both of the smaller are 2 MiB");
    }
}
