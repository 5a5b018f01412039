//! The files of the flight recorder: their names, and how many are kept.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::output;

/// Names that are tried where a file of the same second is there.
const ATTEMPTS: u32 = 100;

/// Where files go.
#[derive(Clone, Debug)]
pub(super) struct Files {
    path: PathBuf,
    keep: usize,
}

impl Files {
    /// Files beside this one, and of them the latest so many.
    pub(super) fn new(path: &Path, keep: usize) -> Result<Self> {
        let is_stream = path.starts_with("/dev") || path.starts_with("/proc");
        let is_file = fs::metadata(path).map_or(true, |there| there.is_file());
        if is_stream || !is_file {
            bail!("--last writes files beside {}: name a file with --output", path.display());
        }
        let files = Self { path: path.to_owned(), keep };
        files.try_to_write()?;
        Ok(files)
    }

    /// The file itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file that has no name yet, and lets it go.
    pub(super) fn try_to_write(&self) -> Result<()> {
        output::begin_capture(&self.path, &[]).map(drop)
    }

    /// A new name: that of the file, with the time in UTC, `NAME-YYYYMMDD-hhmmssZ.bounce`.
    pub(super) fn name(&self, wall_clock_s: u64) -> PathBuf {
        let time = utc(wall_clock_s);
        let named = |more: &str| {
            let mut name = self.path.file_stem().map(OsString::from).unwrap_or_default();
            name.push(format!("-{time}{more}"));
            if let Some(extension) = self.path.extension() {
                name.push(".");
                name.push(extension);
            }
            self.path.with_file_name(name)
        };
        let later = (2..ATTEMPTS).map(|n| named(&format!("-{n}")));
        let mut names = std::iter::once(named("")).chain(later);
        names.find(|name| fs::symlink_metadata(name).is_err()).unwrap_or_else(|| named(""))
    }

    /// Removes all but the latest of the files that were named so, and returns how many it removed. The one that has just been written
    /// stays, whatever the clock said when it was named.
    pub(super) fn remove_old(&self, written: &Path) -> usize {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        let is_file = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
        let paths = entries.filter(is_file).map(|entry| entry.path());
        let mut found: Vec<((String, u32), PathBuf)> =
            paths.filter_map(|path| Some((self.when(&path)?, path))).collect();
        found.retain(|(_, path)| path.file_name() != written.file_name());
        found.sort();
        let old = (found.len() + 1).saturating_sub(self.keep);
        found.into_iter().take(old).filter(|(_, path)| fs::remove_file(path).is_ok()).count()
    }

    /// The time in the name of such a file, and its number among those of that second.
    fn when(&self, path: &Path) -> Option<(String, u32)> {
        if path.extension() != self.path.extension() {
            return None;
        }
        let stem = path.file_stem()?.to_str()?;
        let rest = stem.strip_prefix(self.path.file_stem()?.to_str()?)?.strip_prefix('-')?;
        let (time, number) = rest.split_once('Z')?;
        let number = if number.is_empty() { 1 } else { number.strip_prefix('-')?.parse().ok()? };
        let is_time = time.len() == 15
            && time.bytes().enumerate().all(|(at, byte)| if at == 8 { byte == b'-' } else { byte.is_ascii_digit() });
        is_time.then(|| (time.to_owned(), number))
    }
}

/// Seconds since 1970 as `YYYYMMDD-hhmmssZ`.
fn utc(wall_clock_s: u64) -> String {
    let (mut days, second) = (wall_clock_s / 86_400, wall_clock_s % 86_400);
    let mut year = 1970_u64;
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_of = |year| if is_leap(year) { 366 } else { 365 };
    // Four hundred years have 146,097 days.
    year += days / 146_097 * 400;
    days %= 146_097;
    while days >= days_of(year) {
        days -= days_of(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}{month:02}{:02}-{hour:02}{minute:02}{:02}Z", days + 1, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_that_of_the_calendar() {
        for (seconds, time) in [
            (0, "19700101-000000Z"),
            (951_827_696, "20000229-123456Z"),
            (1_709_164_800, "20240229-000000Z"),
            (1_795_996_800, "20261130-000000Z"),
            (4_107_542_399, "21000228-235959Z"),
            (4_107_542_400, "21000301-000000Z"),
        ] {
            assert_eq!(utc(seconds), time);
        }
    }

    #[test]
    fn names_bear_the_time_and_two_of_one_second_differ() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(&dir.path().join("full.bounce"), 2).unwrap();
        let first = files.name(0);
        assert_eq!(first.file_name().unwrap(), "full-19700101-000000Z.bounce");
        fs::write(&first, "").unwrap();
        assert_eq!(files.name(0).file_name().unwrap(), "full-19700101-000000Z-2.bounce");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "trying leaves nothing behind");
    }

    #[test]
    fn the_latest_are_kept_and_nothing_else_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(&dir.path().join("full.bounce"), 2).unwrap();
        let others =
            ["full.bounce", "full-20261130.bounce", "full-20261130-000000Z.txt", "other-20261130-000000Z.bounce"];
        let own =
            ["full-20261130-000000Z", "full-20261130-000000Z-2", "full-20261130-000000Z-10", "full-20250101-000000Z"];
        for name in others {
            fs::write(dir.path().join(name), "").unwrap();
        }
        for name in own {
            fs::write(dir.path().join(name).with_extension("bounce"), "").unwrap();
        }
        assert_eq!(files.remove_old(&dir.path().join("full-20261130-000000Z-10.bounce")), 2);
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut expected: Vec<String> = others.map(str::to_owned).to_vec();
        expected.extend(["full-20261130-000000Z-2.bounce".to_owned(), "full-20261130-000000Z-10.bounce".to_owned()]);
        expected.sort();
        assert_eq!(left, expected);
        // The clock went back.
        let written = dir.path().join("full-20240101-000000Z.bounce");
        fs::write(&written, "").unwrap();
        assert_eq!((files.remove_old(&written), written.exists()), (1, true));
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let refused = |path: &str| Files::new(Path::new(path), 1).unwrap_err().to_string();
        assert!(refused("/dev/stdout").contains("name a file"));
        assert!(refused("/").contains("name a file"));
        assert!(refused("/no/such/directory/x.bounce").contains("/no/such/directory/x.bounce"));
    }
}
