//! `bouncescope explain`: messages and what they mean.

use serde_json::{Value, json};

use super::wrap::wrapped;
use crate::explain::Explanation;

/// For people.
pub fn text(explanations: &[Explanation]) -> String {
    let mut text = String::new();
    for one in explanations {
        if !text.is_empty() {
            text.push('\n');
        }
        let device = one.device.as_ref().map_or_else(String::new, |device| format!("{device}: "));
        let times = if one.times > 1 { format!(", {} times", one.times) } else { String::new() };
        text += &format!("line {}{times}: {device}{}\n", one.line, one.message);
        for sentence in &one.means {
            text += &wrapped(sentence, "  ", "  ");
        }
        for sentence in &one.helps {
            text += &wrapped(sentence, "  -> ", "     ");
        }
    }
    text
}

/// For programs.
pub fn json(explanations: &[Explanation]) -> Value {
    json!({ "explanations": explanations })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::explain;

    #[test]
    fn a_message_is_followed_by_meaning_and_remedy() {
        let log = "x\nmmc0: swiotlb buffer is full (sz: 65536 bytes), total 512 (slots), used 498 (slots)\n";
        let text = text(&explain(&log.repeat(2)));
        assert!(text.starts_with("line 2, 2 times: mmc0: swiotlb buffer is full"), "{text}");
        assert!(text.contains("\n  -> A larger pool: swiotlb=1024"), "{text}");
        assert!(text.lines().skip(1).all(|line| line.chars().count() <= 100 && line.starts_with("  ")), "{text}");
    }

    #[test]
    fn programs_get_the_kind_by_name() {
        let json = json(&explain("x y: Unsupported alignment constraint"));
        assert_eq!(json["explanations"][0]["kind"], "iommu_granule");
    }
}
