//! `bouncescope replay` for programs: JSON and CSV. Addresses are strings in hexadecimal: JSON's readers take numbers beyond
//! 2^53 for others.

use serde_json::{Value, json};

use super::advice::Advice;
use super::replay::OBSERVED;
use crate::facts::KernelFacts;
use crate::replay::Replayed;

/// As JSON.
pub fn json(replayed: &Replayed, advice: Option<&Advice>) -> Value {
    let observed = &replayed.observed;
    let mut policies: Vec<Value> = replayed.outcomes.iter().map(|outcome| json!(outcome)).collect();
    for (policy, settings) in policies.iter_mut().zip(&replayed.settings) {
        policy["policy"] = json!(settings.policy);
        policy["lists_mode"] = json!(settings.lists);
        policy["when_full"] = json!(settings.when_full);
        policy["pool_grows"] = json!(settings.grows);
    }
    json!({
        "capture": { "kernel": kernel(&replayed.start.kernel), "recorder": replayed.start.recorder,
                     "streamed": replayed.start.streamed.name() },
        "counted": replayed.lengths.total,
        "policies": policies,
        "observed": {
            "mappings": observed.total().mappings,
            "buffers": observed.total().buffers,
            "bounces": observed.total().bounces,
            "bytes_copied": observed.total().bytes_copied,
            "failed": observed.total().failed,
            "unknown_buffers": observed.unknown,
            "slots_without_mapping": observed.orphans,
            "peak_slots": replayed.verdict.peak_slots_kernel,
            "peak_is_exact": replayed.verdict.peak_is_exact,
            "rows": replayed.observed_rows,
        },
        "pool_times": replayed.pool_times,
        "origins_known": replayed.origins_known,
        "advice": advice,
        "losses": replayed.counters.lost,
        "gaps": replayed.gaps,
    })
}

/// The table of policies, for spreadsheets and plots. Bytes, slots and counts; the CPU time in ns.
pub fn csv(replayed: &Replayed) -> String {
    let mut text =
        "policy,cache_line_size,minalign,lists,when_full,pool_slots,mappings,buffers,bounces,bytes_copied,pool_cpu_ns,\
                    span_ns,peak_slots,failed,fallbacks,unsafe_certain,unsafe_possible,bounces_not_needed,\
                    lists_losing_concatenation,slab_bytes,slab_bytes_error,name\n"
            .to_owned();
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    for (outcome, settings) in replayed.outcomes.iter().zip(&replayed.settings) {
        let o = outcome;
        let cells = [
            quoted(&settings.policy),
            o.cache_line_size.to_string(),
            o.minalign.to_string(),
            word(json!(settings.lists)),
            word(json!(settings.when_full)),
            o.total_slots.to_string(),
            o.mappings.to_string(),
            o.buffers.to_string(),
            o.bounces.to_string(),
            o.bytes_copied.to_string(),
            number(o.pool_cpu_ns),
            o.span_ns.to_string(),
            o.peak_slots.to_string(),
            o.failed.to_string(),
            o.fallbacks.to_string(),
            o.unsafe_certain.to_string(),
            o.unsafe_possible.to_string(),
            o.bounces_not_needed.to_string(),
            o.lists_losing_concatenation.to_string(),
            number(o.slab_bytes.map(|bytes| bytes.value)),
            number(o.slab_bytes.map(|bytes| bytes.error)),
            quoted(&o.name),
        ];
        text += &format!("{}\n", cells.join(","));
    }
    text + &observed_row(replayed)
}

/// What the kernel did, in the same columns; empty where no event tells it.
fn observed_row(replayed: &Replayed) -> String {
    let kernel = &replayed.start.kernel;
    let total = replayed.observed.total();
    let pool_ns = replayed.pool_times.as_ref().map(|times| times.times.iter().map(|time| time.total_ns).sum::<u64>());
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let none = String::new;
    let cells = [
        OBSERVED.to_owned(),
        kernel.cache_line_size.to_string(),
        kernel.kmalloc_minalign.to_string(),
        none(),
        none(),
        kernel.pool.slots.to_string(),
        total.mappings.to_string(),
        total.buffers.to_string(),
        total.bounces.to_string(),
        total.bytes_copied.to_string(),
        number(pool_ns),
        replayed.span_ns.to_string(),
        number(replayed.verdict.peak_slots_kernel),
        total.failed.to_string(),
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        none(),
        OBSERVED.to_owned(),
    ];
    format!("{}\n", cells.join(","))
}

/// A name as one cell.
fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

/// A kernel's facts, with addresses as strings.
pub(super) fn kernel(kernel: &KernelFacts) -> Value {
    let mut value = json!(kernel);
    if let Some(map) = kernel.linear_map {
        value["linear_map"] = json!({ "virt_base": hex(map.virt_base), "phys_base": hex(map.phys_base) });
    }
    value
}

/// An address.
pub(super) fn hex(address: u64) -> String {
    format!("{address:#x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::LinearMap;

    #[test]
    fn addresses_of_the_kernel_are_strings() {
        let map = LinearMap { virt_base: 0xffff_0000_c000_0000, phys_base: 1 << 30 };
        let facts = KernelFacts { linear_map: Some(map), ..KernelFacts::default() };
        assert_eq!(kernel(&facts)["linear_map"]["virt_base"], "0xffff0000c0000000");
        assert!(kernel(&KernelFacts::default())["linear_map"].is_null());
    }
}
