//! Sentences broken into lines.

/// Columns of a line at the most, unless a single word is longer.
const COLUMNS: usize = 100;

/// A sentence in lines that begin with `first`, then `others`, each with its line end.
pub(super) fn wrapped(sentence: &str, first: &str, others: &str) -> String {
    wrapped_to(COLUMNS, sentence, first, others)
}

/// The same in lines of at most so many characters.
pub(super) fn wrapped_to(columns: usize, sentence: &str, first: &str, others: &str) -> String {
    let mut text = String::new();
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in sentence.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > columns {
            text += &line;
            text.push('\n');
            line.clear();
            line += others;
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    text + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_before_they_are_too_long() {
        let text = wrapped(&"word ".repeat(50), "- ", "  ");
        assert!(text.lines().all(|line| line.len() <= COLUMNS));
        assert_eq!(text.split_whitespace().filter(|word| *word == "word").count(), 50);
        assert!(text.starts_with("- word") && text.lines().nth(1).unwrap().starts_with("  word"));
    }

    #[test]
    fn a_word_that_is_too_long_stays_whole() {
        let long = "x".repeat(150);
        assert_eq!(wrapped(&format!("a {long} b"), "", ""), format!("a\n{long}\nb\n"));
    }
}
