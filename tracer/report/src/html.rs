//! A report as one HTML page that needs nothing else: no network, no other file. Its policy of what it may load allows
//! nothing; light or dark as the reader's system is, black on white in print, and without scripts still all there.

use super::answer::{Fact, Verdict};
use super::document::{Block, Document, Section, Table};

const STYLE: &str = include_str!("html/page.css");
const SCRIPT: &str = include_str!("html/page.js");

/// How every page begins: by this a page is known for one of these.
pub const BEGINNING: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"generator\" content=\"bouncescope\">";

/// The whole page. `refresh_seconds`: it loads itself again so often.
pub fn page(document: &Document, refresh_seconds: Option<u32>) -> String {
    let title = escaped(&document.title);
    let refresh = refresh_seconds
        .map_or_else(String::new, |seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n"));
    let mut page = format!(
        "{BEGINNING}\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; img-src data:\">\n{refresh}\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#content\">To the content</a>\n<header><h1>{title}</h1>\n"
    );
    page += &contents(&document.sections);
    page += "</header>\n<main id=\"content\">\n";
    let has_parts = document.sections.iter().any(|section| section.is_part);
    for section in &document.sections {
        let level = if has_parts && !section.is_part { 3 } else { 2 };
        let class = if section.is_part { " class=\"part\"" } else { "" };
        let heading = format!("<h{level}{class}>{}</h{level}>", escaped(&section.title));
        let (open, close) = if section.is_detail {
            (format!("<details>\n<summary>{heading}</summary>\n"), "</details>\n")
        } else {
            (format!("{heading}\n"), "")
        };
        page += &format!("<section id=\"{}\">\n{open}", escaped(&section.id));
        section.blocks.iter().for_each(|one| page += &block(one));
        page += &format!("{close}</section>\n");
    }
    page += &format!(
        "</main>\n<div id=\"tip\" role=\"status\" hidden></div>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    page
}

fn contents(sections: &[Section]) -> String {
    let link = |section: &Section| {
        let class = if section.is_part { " class=\"part\"" } else { "" };
        format!("<li{class}><a href=\"#{}\">{}</a></li>\n", escaped(&section.id), escaped(&section.title))
    };
    let links: String = sections.iter().map(link).collect();
    format!("<nav aria-label=\"Contents\"><ul>\n{links}</ul></nav>\n")
}

fn block(block: &Block) -> String {
    match block {
        Block::Answer { verdict, words, doubts } => answer(*verdict, words, doubts),
        Block::Facts(facts) => {
            let fact = |fact: &Fact| {
                let [label, number, words] = [fact.label, &fact.number, &fact.words].map(escaped);
                format!("<div><dt>{label}</dt><dd><b>{number}</b> <span>{words}</span></dd></div>\n")
            };
            format!("<dl class=\"facts\">\n{}</dl>\n", facts.iter().map(fact).collect::<Vec<_>>().concat())
        }
        Block::Abreast(columns) => {
            let column = |blocks: &Vec<Block>| {
                format!("<div>{}</div>\n", blocks.iter().map(self::block).collect::<Vec<_>>().concat())
            };
            format!("<div class=\"abreast\">\n{}</div>\n", columns.iter().map(column).collect::<Vec<_>>().concat())
        }
        Block::Words(words) => format!("<p>{}</p>\n", escaped(words)),
        Block::List(items) => {
            let mut text = "<ul>\n".to_owned();
            for item in items {
                text += &format!("<li>{}</li>\n", escaped(item));
            }
            text + "</ul>\n"
        }
        Block::Printed(printed) => format!("<pre tabindex=\"0\">{}</pre>\n", escaped(printed)),
        Block::Table(rows) => table(rows),
        Block::Plot { svg, words } => {
            format!("<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>\n", escaped(words))
        }
    }
}

/// The verdict with a sign and a colour, neither of which is all that tells it apart.
fn answer(verdict: Verdict, words: &str, doubts: &[String]) -> String {
    let (class, sign) = match verdict {
        Verdict::Ok => ("ok", "\u{2714}"),
        Verdict::Fails => ("fails", "\u{2718}"),
        Verdict::CannotTell => ("unknown", "?"),
    };
    let word = verdict.word();
    let doubtful = if doubts.is_empty() { "" } else { " doubtful" };
    let doubt = |doubt: &String| format!("<span class=\"doubt\">{}</span>", escaped(doubt));
    format!(
        "<p class=\"answer {class}{doubtful}\"><span aria-hidden=\"true\">{sign}</span> <strong>{word}</strong> {}{}</p>\n",
        escaped(words),
        doubts.iter().map(doubt).collect::<Vec<_>>().concat()
    )
}

fn table(table: &Table) -> String {
    let numeric = |column: usize| table.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.value.is_some()));
    let mut text = format!(
        "<div class=\"wide\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table>\n<caption>{0}</caption>\n<thead><tr>",
        escaped(&table.caption)
    );
    for (n, heading) in table.headings.iter().enumerate() {
        let class = if numeric(n) { " class=\"n\"" } else { "" };
        text += &format!("<th scope=\"col\"{class}><button type=\"button\">{}</button></th>", escaped(heading));
    }
    text += "</tr></thead>\n<tbody>\n";
    for row in &table.rows {
        text += "<tr>";
        for (n, cell) in row.iter().enumerate() {
            let class = if numeric(n) { " class=\"n\"" } else { "" };
            let value = cell.value.map_or_else(String::new, |value| format!(" data-v=\"{value}\""));
            let (open, close) = if n == 0 { ("th scope=\"row\"", "th") } else { ("td", "td") };
            text += &format!("<{open}{class}{value}>{}</{close}>", escaped(&cell.text));
        }
        text += "</tr>\n";
    }
    text + "</tbody></table></div>\n"
}

/// Words in which nothing is taken for markup, in text and in quoted attributes.
pub(super) fn escaped(words: &str) -> String {
    let mut text = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => text += "&amp;",
            '<' => text += "&lt;",
            '>' => text += "&gt;",
            '"' => text += "&quot;",
            '\'' => text += "&#39;",
            // No parser takes these for characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::document::Cell;
    use super::*;

    #[test]
    fn names_from_a_capture_are_no_markup_wherever_they_stand() {
        let evil = "</script><img src=x onerror=\"alert('1')\">\u{1}";
        let table = Table { rows: vec![vec![Cell::words(evil)]], ..Table::new(evil, [evil]) };
        let blocks = vec![
            Block::Answer { verdict: Verdict::Ok, words: evil.into(), doubts: vec![evil.into()] },
            Block::Facts(vec![Fact { label: "pool", number: evil.into(), words: evil.into() }]),
            Block::Abreast(vec![vec![Block::Words(evil.into())]]),
            Block::Words(evil.into()),
            Block::List(vec![evil.into()]),
            Block::Printed(evil.into()),
            Block::Table(table),
            Block::Plot { svg: String::new(), words: evil.into() },
        ];
        let document = Document { title: evil.into(), sections: vec![Section::new(evil, evil, blocks)] };
        let page = page(&document, None);
        assert!(!page.contains("<img") && !page.contains('\u{1}'));
        assert_eq!(page.matches("</script>").count(), 1, "the page's own");
        assert!(page.matches("&lt;/script&gt;&lt;img src=x onerror=&quot;").count() > 10);
    }

    #[test]
    fn nothing_is_loaded_from_anywhere() {
        let page = page(&Document::default(), None);
        assert!(page.contains("default-src 'none'"));
        for outside in ["http:", "https:", "url(", "src=\"", "@import", "fetch("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
