//! Sections of documents that a task writes itself, between marks that name its command.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

const END: &str = "<!-- end of what is written -->\n";

/// Writes `section` where the document says that it is written by `command`.
pub fn replace(file: &Path, command: &str, section: &str) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = replaced(&text, command, section)
        .with_context(|| format!("{} lacks the marks of {command}", file.display()))?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// What the document has where it says that it is written by `command`.
pub fn section(file: &Path, command: &str) -> Result<String> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let (_, section, _) =
        parts(&text, command).with_context(|| format!("{} lacks the marks of {command}", file.display()))?;
    Ok(section.to_owned())
}

/// The text with another section between the marks; `None` without them.
fn replaced(text: &str, command: &str, section: &str) -> Option<String> {
    let (before, _, after) = parts(text, command)?;
    Some([before, "\n", section, "\n", END, after].concat())
}

/// The text up to the first mark with it, what is between the marks, and the text behind the second.
fn parts<'a>(text: &'a str, command: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let begin = format!("<!-- written by {command} -->\n");
    let start = text.find(&begin)? + begin.len();
    let (section, after) = text[start..].split_once(END)?;
    Some((&text[..start], section, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let begin = "<!-- written by us -->\n";
        let other = ["<!-- written by others -->\n", "theirs\n", END].concat();
        let text = [&other, "a\n", begin, "old\n", END, "b\n"].concat();
        let once = replaced(&text, "us", "new\n").unwrap();
        assert_eq!(once, [&other, "a\n", begin, "\nnew\n\n", END, "b\n"].concat());
        assert_eq!(replaced(&once, "us", "new\n").unwrap(), once);
        assert_eq!(replaced("a\n", "us", "new\n"), None);
    }

    #[test]
    fn the_documents_have_the_marks() {
        for (file, command) in [
            ("docs/fidelity.md", "cargo xtask lab --write-docs"),
            ("docs/fidelity.md", "cargo xtask lab --cross --write-docs"),
            ("docs/import.md", "cargo xtask lab --scenario tools --write-docs"),
            ("docs/fidelity.md", "cargo xtask lab --scenario memory --write-docs"),
            ("docs/performance.md", "cargo xtask bench overhead --write-docs"),
            ("docs/performance.md", "cargo xtask bench live-dma --write-docs"),
            ("docs/performance.md", "cargo xtask lab --scenario maintenance --write-docs"),
        ] {
            let text = fs::read_to_string(crate::root().join(file)).unwrap();
            assert!(replaced(&text, command, "").is_some(), "{file}");
        }
    }
}
