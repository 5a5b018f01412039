//! Counts in what other tools print.

use anyhow::{Result, ensure};

/// All numbers after a word, one a line at the most, added up.
pub(super) fn numbers_after(text: &str, word: &str) -> u64 {
    let after = text.lines().filter_map(|line| line.trim().strip_prefix(word));
    after.filter_map(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok()).sum()
}

/// What bpftrace counted in all its maps: `{"type": "map", "data": {"@": {"key": 3}}}`, and `hist` with `[{"count": 3}]`.
pub(super) fn counted(text: &str) -> Result<u64> {
    let maps = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let maps: Vec<_> = maps.filter(|one| matches!(one["type"].as_str(), Some("map" | "hist"))).collect();
    ensure!(!maps.is_empty(), "bpftrace printed no map: {text}");
    Ok(maps.iter().map(|map| sum(&map["data"]["@"])).sum())
}

fn sum(value: &serde_json::Value) -> u64 {
    match value {
        serde_json::Value::Object(object) => match object.get("count") {
            Some(count) => sum(count),
            None => object.values().map(sum).sum(),
        },
        serde_json::Value::Array(array) => array.iter().map(sum).sum(),
        value => value.as_u64().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_histograms_of_bpftrace_are_summed_up() {
        let map = r#"{"type": "attached_probes", "data": {"probes": 1}}
            {"type": "map", "data": {"@": {"18446744071": 3, "1,192": 4}}}"#;
        assert_eq!(counted(map).unwrap(), 7);
        let hist = r#"{"type": "hist", "data": {"@": {"1": [{"min": 1, "max": 2, "count": 5}, {"count": 6}]}}}"#;
        assert_eq!(counted(hist).unwrap(), 11);
        assert!(counted("Attaching 1 probe...").is_err());
    }

    #[test]
    fn a_number_is_that_after_its_word_on_every_line() {
        assert_eq!(numbers_after("overrun: 3\n  overrun: 4\ncommit overrun: 5\n", "overrun:"), 7);
    }
}
