//! Colours and signs, as the terminal can show them. Colours are Okabe and Ito's, which people who see colours differently can tell
//! apart; nothing is said by colour alone.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;

/// How many colours there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// 24 bits.
    #[default]
    True,
    /// The 256 of xterm.
    Indexed,
    /// The 16 that the terminal's owner chose.
    Sixteen,
    /// None: bold, dim and reversed only.
    None,
}

/// What a piece of text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Just text.
    Text,
    /// Less important.
    Dim,
    /// More important.
    Strong,
    /// The heading of a panel or column.
    Title,
    /// What the kernel did.
    Real,
    /// What it would do.
    Predicted,
    /// As it should be.
    Good,
    /// Failures and losses.
    Bad,
    /// What is chosen.
    Selected,
}

/// Signs to draw with.
#[derive(Debug)]
pub struct Signs {
    /// Columns from empty to full.
    pub columns: [char; 9],
    /// A part of a bar.
    pub full: char,
    /// The rest of a bar.
    pub empty: char,
    /// A level in a chart.
    pub level: char,
    /// A moment.
    pub moment: char,
    /// Something was cut off.
    pub cut: char,
    /// Sorted by this column, largest first.
    pub down: char,
    /// Smallest first.
    pub up: char,
    /// Around panels.
    pub border: border::Set<'static>,
}

const UNICODE: Signs = Signs {
    columns: [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
    full: '█',
    empty: '░',
    level: '╌',
    moment: '▲',
    cut: '…',
    down: '▾',
    up: '▴',
    border: border::PLAIN,
};

const ASCII: Signs = Signs {
    columns: [' ', '.', '.', ':', ':', '+', '+', '#', '#'],
    full: '#',
    empty: '-',
    level: '-',
    moment: '^',
    cut: '~',
    down: '*',
    up: '^',
    border: border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "-",
        horizontal_bottom: "-",
    },
};

/// How things look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Theme {
    /// How many colours.
    pub depth: Depth,
    /// Signs beyond ASCII can't be shown.
    pub ascii: bool,
}

impl Theme {
    /// What the environment says of the terminal: `NO_COLOR`, `COLORTERM`, `TERM`, and the locale for signs.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        let depth = if set("NO_COLOR").is_some() || term == "dumb" {
            Depth::None
        } else if set("COLORTERM").is_some_and(|value| value == "truecolor" || value == "24bit") {
            Depth::True
        } else if term.contains("256color") || term.contains("direct") {
            Depth::Indexed
        } else {
            Depth::Sixteen
        };
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let is_utf8 = locale.to_lowercase().replace('-', "").contains("utf8");
        // The kernel's own console has a font of 256 or 512 signs.
        Self { depth, ascii: !is_utf8 || term == "linux" || term == "dumb" || term.starts_with("vt") }
    }

    /// The signs.
    pub fn signs(self) -> &'static Signs {
        if self.ascii { &ASCII } else { &UNICODE }
    }

    /// How text of this kind looks.
    pub fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        match tone {
            Tone::Text => plain,
            Tone::Dim if self.depth == Depth::None => plain.add_modifier(Modifier::DIM),
            Tone::Dim => plain.fg(self.color(0x0096_9696, 246, Color::DarkGray)),
            Tone::Strong => plain.add_modifier(Modifier::BOLD),
            Tone::Title => plain.fg(self.color(0x00CC_79A7, 175, Color::LightMagenta)).add_modifier(Modifier::BOLD),
            Tone::Real => plain.fg(self.color(0x0056_B4E9, 74, Color::LightCyan)),
            Tone::Predicted => plain.fg(self.color(0x00E6_9F00, 214, Color::LightYellow)),
            Tone::Good => plain.fg(self.color(0x0000_9E73, 36, Color::LightGreen)),
            Tone::Bad => plain.fg(self.color(0x00D5_5E00, 166, Color::LightRed)).add_modifier(Modifier::BOLD),
            Tone::Selected => plain.add_modifier(Modifier::REVERSED),
        }
    }

    fn color(self, rgb: u32, indexed: u8, named: Color) -> Color {
        match self.depth {
            Depth::True => Color::from_u32(rgb),
            Depth::Indexed => Color::Indexed(indexed),
            Depth::Sixteen => named,
            Depth::None => Color::Reset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Theme {
        Theme::of(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_terminal_says_how_many_colours_it_has() {
        assert_eq!(of(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")]).depth, Depth::True);
        assert_eq!(of(&[("TERM", "screen-256color")]).depth, Depth::Indexed);
        assert_eq!(of(&[("TERM", "linux")]).depth, Depth::Sixteen);
        assert_eq!(of(&[("TERM", "dumb"), ("COLORTERM", "truecolor")]).depth, Depth::None);
        assert_eq!(of(&[("TERM", "xterm-256color"), ("NO_COLOR", "")]).depth, Depth::Indexed);
        assert_eq!(of(&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("NO_COLOR", "1")]).depth, Depth::None);
    }

    #[test]
    fn signs_are_ascii_where_the_locale_or_the_console_has_no_others() {
        assert!(!of(&[("TERM", "xterm"), ("LANG", "de_DE.UTF-8")]).ascii);
        assert!(!of(&[("TERM", "xterm"), ("LANG", "C"), ("LC_ALL", "C.utf8")]).ascii);
        assert!(of(&[("TERM", "xterm"), ("LANG", "C.UTF-8"), ("LC_ALL", "C")]).ascii);
        assert!(of(&[("TERM", "xterm")]).ascii);
        assert!(of(&[("TERM", "linux"), ("LANG", "C.UTF-8")]).ascii);
        assert!(of(&[("TERM", "vt220"), ("LANG", "C.UTF-8")]).ascii);
    }

    #[test]
    fn without_colours_there_are_none() {
        let theme = Theme { depth: Depth::None, ascii: false };
        for tone in [Tone::Dim, Tone::Title, Tone::Real, Tone::Predicted, Tone::Good, Tone::Bad, Tone::Selected] {
            let style = theme.style(tone);
            assert!(matches!(style.fg, None | Some(Color::Reset)), "{tone:?} {style:?}");
        }
    }
}
