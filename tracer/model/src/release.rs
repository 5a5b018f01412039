//! Releases of kernels.

/// `major.minor` of a kernel release. For the few things that only the release shows; where the kernel itself can be asked it is,
/// since stable and vendor trees backport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
}

impl Release {
    /// From the beginning of a text such as `uname -r`; `None` where it does not begin like a release.
    pub fn of(text: &str) -> Option<Self> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
        Some(Self { major: numbers.next()?, minor: numbers.next()? })
    }

    /// Whether this is `major.minor` or later.
    pub fn is_at_least(self, major: u32, minor: u32) -> bool {
        self >= Self { major, minor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_begins_with_two_numbers() {
        let of = |text| Release::of(text).map(|release| (release.major, release.minor));
        assert_eq!(of("6.12.117-arm64"), Some((6, 12)));
        assert_eq!(of("6.6-android15-8"), Some((6, 6)));
        assert_eq!(of("7.3"), Some((7, 3)));
        for nonsense in ["", "6", "six.two", "-6.1", "4294967296.1"] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        let release = Release { major: 6, minor: 12 };
        assert!(release.is_at_least(6, 7) && release.is_at_least(5, 19) && release.is_at_least(6, 12));
        assert!(!release.is_at_least(6, 13) && !release.is_at_least(7, 0));
    }
}
