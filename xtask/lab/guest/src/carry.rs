//! Results from machines that have no share: printed to the console, which the lab reads.

use std::{fmt::Write as _, fs, path::Path};

/// Bytes on a line.
const LINE: usize = 96;

/// Prints every file of a directory: `LABFILE NAME LENGTH`, then lines of `LABHEX` and its bytes.
pub(crate) fn out(dir: &Path) -> Result<(), String> {
    // The kernel's own messages would come in between.
    let _ = fs::write("/proc/sys/kernel/printk", "1");
    let files = fs::read_dir(dir).map_err(|error| format!("cannot list {}: {error}", dir.display()))?;
    for file in files.flatten() {
        let bytes = fs::read(file.path()).map_err(|error| format!("cannot read {}: {error}", file.path().display()))?;
        println!("LABFILE {} {}", file.file_name().display(), bytes.len());
        for line in bytes.chunks(LINE) {
            println!("LABHEX {}", hex(line));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_two_digits_each() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
    }
}
