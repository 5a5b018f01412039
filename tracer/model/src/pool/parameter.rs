//! `swiotlb=` on the kernel's command line.

/// What the parameter asks for: `swiotlb=<slots>[,<areas>][,force|noforce][,track_hiwater]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolParameter {
    /// Slots, before the kernel's rounding.
    pub slots: Option<u64>,
    /// Areas, before the kernel's rounding; 0 means one for each CPU.
    pub areas: Option<u64>,
    /// Everything bounces.
    pub force: bool,
    /// No pool at all; wins over `force` and any size.
    pub noforce: bool,
    /// The high-water mark is wanted where it is an option (7.3 on).
    pub track_hiwater: bool,
}

impl PoolParameter {
    /// Every `swiotlb=` of a command line in turn, as `setup_io_tlb_npages()` in `kernel/dma/swiotlb.c` does: a later
    /// size replaces an earlier one, the words stick.
    pub fn parse(cmdline: &str) -> Self {
        let mut parameter = Self::default();
        // Behind " -- " the command line belongs to init.
        let kernel_part = cmdline.split_whitespace().take_while(|&word| word != "--");
        for value in kernel_part.filter_map(|word| word.strip_prefix("swiotlb=")) {
            parameter.apply(value.trim_matches('"'));
        }
        parameter
    }

    fn apply(&mut self, value: &str) {
        let mut rest = value;
        if let Some(slots) = take_number(&mut rest) {
            self.slots = Some(slots);
        }
        rest = rest.strip_prefix(',').unwrap_or(rest);
        if let Some(areas) = take_number(&mut rest) {
            self.areas = Some(areas);
        }
        rest = rest.strip_prefix(',').unwrap_or(rest);
        for word in rest.split(',') {
            match word {
                "force" => self.force = true,
                "noforce" => self.noforce = true,
                "track_hiwater" => self.track_hiwater = true,
                _ => {}
            }
        }
    }
}

/// `simple_strtoul(…, 0)` where the text starts with a digit: decimal, 0x or 0 as in C.
fn take_number(rest: &mut &str) -> Option<u64> {
    if !rest.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let lower = rest.to_ascii_lowercase();
    let (skip, radix) = match lower.as_bytes() {
        [b'0', b'x', digit, ..] if digit.is_ascii_hexdigit() => (2, 16),
        [b'0', ..] => (0, 8),
        _ => (0, 10),
    };
    let digits = lower[skip..].chars().take_while(|c| c.is_digit(radix)).count();
    let number = u64::from_str_radix(&lower[skip..skip + digits], radix).unwrap_or(0);
    *rest = &rest[skip + digits..];
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_command_line_parses(value in "[0-9a-fxX,é]{0,24}(force)?,?(noforce)?") {
            let parameter = PoolParameter::parse(&format!("swiotlb={value}"));
            if value.ends_with(",noforce") {
                prop_assert!(parameter.noforce);
            }
        }
    }

    #[test]
    fn slots_areas_and_words_are_told_apart() {
        let parse = |value: &str| PoolParameter::parse(&format!("console=ttyS0 swiotlb={value} quiet"));
        let nothing = PoolParameter::default();
        assert_eq!(parse("512"), PoolParameter { slots: Some(512), ..nothing });
        assert_eq!(parse("0x200,4,force"), PoolParameter { slots: Some(512), areas: Some(4), force: true, ..nothing });
        assert_eq!(parse("noforce"), PoolParameter { noforce: true, ..nothing });
        assert_eq!(parse("1024,force"), PoolParameter { slots: Some(1024), force: true, ..nothing });
        assert_eq!(parse("2048,track_hiwater"), PoolParameter { slots: Some(2048), track_hiwater: true, ..nothing });
        assert_eq!(parse("force,track_hiwater"), PoolParameter { force: true, track_hiwater: true, ..nothing });
        assert_eq!(parse("enforce"), nothing);
    }

    #[test]
    fn words_of_several_parameters_stick() {
        let twice = PoolParameter::parse("swiotlb=noforce androidboot.x=1 swiotlb=1024");
        assert!(twice.noforce);
        assert_eq!(twice.slots, Some(1024));
    }

    #[test]
    fn what_belongs_to_init_is_not_the_kernels() {
        assert_eq!(PoolParameter::parse("quiet -- swiotlb=force"), PoolParameter::default());
    }
}
