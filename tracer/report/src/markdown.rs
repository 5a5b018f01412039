//! A report as Markdown, for a mail or a pull request: everything but the plots.

use super::document::{Block, Document, Table};

/// The whole report.
pub fn text(document: &Document) -> String {
    let mut text = format!("# {}\n", plain(&document.title));
    for section in &document.sections {
        let mut blocks = String::new();
        section.blocks.iter().for_each(|one| blocks += &block(one));
        // A section of plots alone has nothing to say here.
        if section.is_part || !blocks.is_empty() {
            let level = if section.is_part { "#" } else { "##" };
            text += &format!("\n{level} {}\n{blocks}", plain(&section.title));
        }
    }
    text
}

fn block(block: &Block) -> String {
    let list = |items: &mut dyn Iterator<Item = String>| {
        items.fold("\n".to_owned(), |list, item| list + &format!("- {}\n", plain(&item)))
    };
    match block {
        Block::Answer { verdict, words, doubts } => {
            let doubts = doubts.iter().fold(String::new(), |text, doubt| text + " " + &plain(doubt));
            format!("\n**{}** {}{doubts}\n", verdict.word(), plain(words))
        }
        Block::Facts(facts) => list(&mut facts.iter().map(|fact| format!("{}: {}", fact.label, fact.words))),
        Block::Abreast(columns) => columns.iter().flatten().map(self::block).collect(),
        Block::Words(words) => format!("\n{}\n", plain(words)),
        Block::List(items) => list(&mut items.iter().cloned()),
        Block::Printed(printed) => format!("\n{}", fenced(printed)),
        Block::Table(rows) => format!("\n{}", table(rows)),
        Block::Plot { .. } => String::new(),
    }
}

fn table(table: &Table) -> String {
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let numeric = |column: usize| table.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.value.is_some()));
    let mut text = format!("{}\n\n", plain(&table.caption));
    text += &row(table.headings.iter().map(|heading| plain(heading)).collect());
    text += &row((0..table.headings.len()).map(|n| if numeric(n) { "---:" } else { "---" }.to_owned()).collect());
    for cells in &table.rows {
        text += &row(cells.iter().map(|cell| plain(&cell.text)).collect());
    }
    text
}

/// What is printed, between fences longer than any in it.
fn fenced(printed: &str) -> String {
    let longest = printed.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", printed.trim_end())
}

/// Words in which nothing is taken for markup, on one line.
fn plain(words: &str) -> String {
    let mut text = String::new();
    for c in words.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '|' | '[' | ']' | '<' | '>' => text.extend(['\\', c]),
            '\n' | '\r' => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::document::{Cell, Section};
    use super::*;

    #[test]
    fn names_from_a_capture_are_no_markup() {
        assert_eq!(plain("a|b\n<img> _x_ `y`"), "a\\|b \\<img\\> \\_x\\_ \\`y\\`");
        assert_eq!(fenced("a\n```\nb\n"), "````text\na\n```\nb\n````\n");
    }

    #[test]
    fn columns_of_numbers_are_right_aligned_and_sections_of_plots_alone_are_left_out() {
        let rows = vec![vec![Cell::words("a|b"), Cell::count(3)]];
        let table = Table { rows, ..Table::new("what", ["name", "count"]) };
        let plot = Block::Plot { svg: "<svg/>".into(), words: "a curve".into() };
        let document = Document {
            title: "report".into(),
            sections: vec![
                Section::new("t", "Tables", vec![Block::Table(table)]),
                Section::new("p", "Plots", vec![plot]),
            ],
        };
        let expected = "# report\n\n## Tables\n\nwhat\n\n| name | count |\n| --- | ---: |\n| a\\|b | 3 |\n";
        assert_eq!(text(&document), expected);
    }
}
