//! A drawn screen as text, and as a picture.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

/// Width and height of a cell, SVG's units.
const CELL: (f64, f64) = (8.43, 16.3);
/// Colours of text and background where a cell says none.
const INK: &str = "#d0d0d0";
const PAPER: &str = "#121212";

/// The text, without spaces at the ends of lines.
pub fn text(buffer: &Buffer) -> String {
    let row = |y: u16| (0..buffer.area.width).map(move |x| buffer[(x, y)].symbol()).collect::<String>();
    (0..buffer.area.height).map(|y| row(y).trim_end().to_owned() + "\n").collect()
}

/// A picture of it.
pub fn svg(buffer: &Buffer) -> String {
    let (columns, rows) = (buffer.area.width, buffer.area.height);
    let (width, height) = (f64::from(columns) * CELL.0 + 16.0, f64::from(rows) * CELL.1 + 16.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" font-family=\"DejaVu Sans \
         Mono, Menlo, Consolas, monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" rx=\"6\" \
         fill=\"{PAPER}\"/>\n"
    );
    for y in 0..rows {
        let mut x = 0;
        while x < columns {
            let first = &buffer[(x, y)];
            let look = look(first);
            let mut run = String::new();
            let from = x;
            while x < columns && self::look(&buffer[(x, y)]) == look {
                run += buffer[(x, y)].symbol();
                x += 1;
            }
            self::run(&mut svg, &run, (from, y), &look);
        }
    }
    svg + "</svg>\n"
}

/// Colour of the text, of what lies behind, and whether it is bold.
#[derive(PartialEq)]
struct Look {
    ink: String,
    paper: Option<String>,
    bold: bool,
}

fn look(cell: &Cell) -> Look {
    let ink = color(cell.fg).unwrap_or_else(|| INK.into());
    let bold = cell.modifier.contains(Modifier::BOLD);
    if cell.modifier.contains(Modifier::REVERSED) {
        return Look { paper: Some(ink), ink: PAPER.into(), bold };
    }
    let ink = if cell.modifier.contains(Modifier::DIM) { "#808080".into() } else { ink };
    Look { ink, paper: color(cell.bg), bold }
}

fn run(svg: &mut String, run: &str, (column, row): (u16, u16), look: &Look) {
    let (x, y) = (f64::from(column) * CELL.0 + 8.0, f64::from(row) * CELL.1 + 8.0);
    let width = run.chars().count() as f64 * CELL.0;
    if let Some(paper) = &look.paper {
        let high = CELL.1;
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{high:.1}\" fill=\"{paper}\"/>"
        );
    }
    if run.trim().is_empty() {
        return;
    }
    // Leading spaces would be lost: a run begins at its first sign.
    let blank = run.chars().take_while(|sign| *sign == ' ').count();
    let run = run.trim();
    let (x, width) = (x + blank as f64 * CELL.0, run.chars().count() as f64 * CELL.0);
    let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
    let escaped = run.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{}\"{weight} \
         xml:space=\"preserve\">{escaped}</text>",
        y + 13.0,
        look.ink
    );
}

/// A colour as SVG has it; `None` where the terminal's own is meant.
fn color(color: Color) -> Option<String> {
    let named = match color {
        Color::Rgb(r, g, b) => return Some(format!("#{r:02x}{g:02x}{b:02x}")),
        Color::Indexed(index) => return Some(indexed(index)),
        Color::DarkGray => "#808080",
        Color::LightMagenta => "#ff87ff",
        Color::LightCyan => "#87ffff",
        Color::LightYellow => "#ffff87",
        Color::LightGreen => "#87ff87",
        Color::LightRed => "#ff8787",
        _ => return None,
    };
    Some(named.into())
}

/// Of xterm's 256: the cube of 6 x 6 x 6 and the greys; those below are the 16, which are not used by number.
fn indexed(index: u8) -> String {
    let Some(cube) = index.checked_sub(16) else { return INK.into() };
    if index >= 232 {
        let grey = 8 + 10 * (index - 232);
        return format!("#{grey:02x}{grey:02x}{grey:02x}");
    }
    let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
    format!("#{:02x}{:02x}{:02x}", level(cube / 36), level(cube / 6 % 6), level(cube % 6))
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    fn buffer() -> Buffer {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 2));
        buffer.set_string(0, 0, "a <b> &", Style::new());
        buffer.set_string(2, 1, "x", Style::new().fg(Color::Rgb(1, 2, 3)).add_modifier(Modifier::REVERSED));
        buffer
    }

    #[test]
    fn text_has_no_spaces_at_the_ends_of_lines() {
        assert_eq!(text(&buffer()), "a <b> &\n  x\n");
    }

    #[test]
    fn what_has_a_meaning_in_xml_is_written_otherwise() {
        let svg = svg(&buffer());
        assert!(svg.contains(">a &lt;b&gt; &amp;</text>"), "{svg}");
    }

    #[test]
    fn reversed_text_lies_on_its_colour() {
        let svg = svg(&buffer());
        assert!(svg.contains("width=\"8.4\" height=\"16.3\" fill=\"#010203\""), "{svg}");
    }

    #[test]
    fn colours_by_number_are_those_of_xterm() {
        assert_eq!((indexed(74), indexed(214), indexed(246)), ("#5fafd7".into(), "#ffaf00".into(), "#949494".into()));
    }
}
