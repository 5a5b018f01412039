//! How a plot is drawn.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Area, Axis, Colour, Mark, Plot, Series, Shape};
use crate::html::escaped;

type Picture<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedF64, RangedF64>>;
type RangedF64 = plotters::coord::types::RangedCoordf64;
type Failed<'a> = DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>;

const SIZE: (u32, u32) = (960, 440);
/// The line of colours begins here, above the plot.
const LEGEND_Y: i32 = 62;
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const MUTED: RGBColor = RGBColor(0x59, 0x63, 0x6e);
const LIMIT: RGBColor = RGBColor(0xcf, 0x22, 0x2e);
const GRID: RGBColor = RGBColor(0xd1, 0xd9, 0xe0);
/// Told apart by those who see no red or no green too; as dark as words have to be on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xc4, 0x4e, 0x00),
    RGBColor(0x00, 0x80, 0x5d),
    RGBColor(0xa8, 0x52, 0x7f),
    RGBColor(0x9a, 0x67, 0x00),
    RGBColor(0x6e, 0x4f, 0xa3),
    RGBColor(0x4f, 0x6b, 0x00),
];

/// The plot as an SVG element.
pub(crate) fn svg(plot: &Plot) -> String {
    let mut text = String::new();
    let marks = {
        let picture = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        // Only a file could fail to be written, and a font to be found; here is neither.
        drawn(plot, &picture).and_then(|marks| picture.present().map(|()| marks)).unwrap_or_default()
    };
    let opened = format!("<svg role=\"img\" tabindex=\"0\" aria-label=\"{}\" ", escaped(&plot.title));
    let text = text.replacen("<svg ", &opened, 1);
    match text.rfind("</svg>") {
        Some(end) => format!("{}{marks}{}", &text[..end], &text[end..]),
        None => text,
    }
}

/// Draws everything; the marks, in SVG.
fn drawn<'a>(plot: &Plot, picture: &Picture<'a>) -> Result<String, Failed<'a>> {
    words(picture, &plot.title, (12, 8), 21, INK, HPos::Left)?;
    words(picture, &plot.about, (12, 34), 15, MUTED, HPos::Left)?;
    let rows = legend(plot, picture)?;
    let mut chart = ChartBuilder::on(picture)
        .margin_top(LEGEND_Y + rows * 20 + 26)
        .margin_right(24)
        .margin_left(8)
        .margin_bottom(4)
        .x_label_area_size(54)
        .y_label_area_size(78)
        .build_cartesian_2d(0.0..plot.x.end(), 0.0..plot.y.end())?;
    axes(plot, &mut chart, picture)?;
    for series in &plot.series {
        draw(plot, series, &mut chart)?;
    }
    Ok(plot.marks.iter().map(|one| mark(plot, one, &chart)).collect())
}

fn words<'a>(
    picture: &Picture<'a>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    side: HPos,
) -> Result<(), Failed<'a>> {
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(side, VPos::Top));
    picture.draw(&Text::new(text.to_owned(), at, style))
}

/// The names of the series beside their colours; how many rows they take beyond the first.
fn legend<'a>(plot: &Plot, picture: &Picture<'a>) -> Result<i32, Failed<'a>> {
    let (mut x, mut row) = (12, 0);
    for series in &plot.series {
        // No font is at hand to measure with.
        let width = 34 + series.name.chars().count() as i32 * 8;
        if x > 12 && x + width > SIZE.0 as i32 - 12 {
            (x, row) = (12, row + 1);
        }
        let y = LEGEND_Y + row * 20;
        let colour = colour(series);
        match series.shape {
            Shape::Bars(_) => {
                picture.draw(&Rectangle::new([(x, y + 1), (x + 16, y + 13)], colour.filled()))?;
            }
            Shape::Dots(_) => picture.draw(&Circle::new((x + 8, y + 7), 6, colour.filled()))?,
            Shape::Dashes(_) => {
                for from in [x, x + 10] {
                    let line = vec![(from, y + 7), (from + 6, y + 7)];
                    picture.draw(&PathElement::new(line, colour.stroke_width(2)))?;
                }
            }
            Shape::Line(_) | Shape::Steps(_) => {
                picture.draw(&PathElement::new(vec![(x, y + 7), (x + 16, y + 7)], colour.stroke_width(3)))?;
            }
        }
        words(picture, &series.name, (x + 22, y), 15, INK, HPos::Left)?;
        x += width;
    }
    Ok(row)
}

fn colour(series: &Series) -> RGBColor {
    match series.colour {
        Colour::Nth(n) => COLOURS[n % COLOURS.len()],
        Colour::Kernel => INK,
        Colour::Limit => LIMIT,
    }
}

fn axes<'a>(plot: &Plot, chart: &mut Chart<'a>, picture: &Picture<'a>) -> Result<(), Failed<'a>> {
    let (left, right) = (chart.backend_coord(&(0.0, 0.0)).0, chart.backend_coord(&(plot.x.end(), 0.0)).0);
    let bottom = chart.backend_coord(&(0.0, 0.0)).1;
    let top = chart.backend_coord(&(0.0, plot.y.end())).1;
    for (value, name) in ticks(&plot.y, 6) {
        let y = chart.backend_coord(&(0.0, plot.y.at(value))).1;
        picture.draw(&PathElement::new(vec![(left, y), (right, y)], GRID))?;
        words(picture, &name, (left - 8, y - 8), 15, MUTED, HPos::Right)?;
    }
    for (value, name) in ticks(&plot.x, 10) {
        let x = chart.backend_coord(&(plot.x.at(value), 0.0)).0;
        if plot.x.names.is_empty() {
            picture.draw(&PathElement::new(vec![(x, bottom), (x, bottom + 5)], MUTED))?;
        }
        words(picture, &name, (x, bottom + 9), 15, MUTED, HPos::Center)?;
    }
    picture.draw(&PathElement::new(vec![(left, top), (left, bottom), (right, bottom)], MUTED))?;
    words(picture, &plot.x.name, (i32::midpoint(left, right), bottom + 31), 15, INK, HPos::Center)?;
    let style = ("sans-serif", 15).into_font().transform(FontTransform::Rotate270).color(&INK);
    let middle = (14, i32::midpoint(top, bottom));
    picture.draw(&Text::new(plot.y.name.clone(), middle, style.pos(Pos::new(HPos::Center, VPos::Center))))
}

/// Values with a name beside the axis.
fn ticks(axis: &Axis, about: u32) -> Vec<(f64, String)> {
    if !axis.names.is_empty() {
        // Names that would run into each other are left out, evenly.
        let every = axis.names.len().div_ceil(20);
        let named = axis.names.iter().enumerate().filter(|(n, _)| n % every == 0);
        return named.map(|(n, name)| (n as f64 + 0.5, name.clone())).collect();
    }
    if axis.logarithmic {
        let tens = std::iter::successors(Some(1.0), |ten| Some(ten * 10.0)).take_while(|ten| *ten <= axis.most);
        return std::iter::once(0.0).chain(tens).map(|value| (value, short(value))).collect();
    }
    let step = round_step(axis.most / f64::from(about));
    let whole = step.max(if axis.whole { 1.0 } else { 0.0 });
    let count = (axis.most * 1.05 / whole) as u32;
    (0..=count).map(|n| f64::from(n) * whole).map(|value| (value, short(value))).collect()
}

/// The next of 1, 2, 5, 10, 20 and so on.
fn round_step(least: f64) -> f64 {
    let ten = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0].map(|times| times * ten).into_iter().find(|step| *step >= least).unwrap_or(10.0 * ten)
}

/// A number as it fits beside an axis.
fn short(value: f64) -> String {
    for (unit, name) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= 10.0 * unit || (value >= unit && value % unit == 0.0) {
            return format!("{}{name}", (value / unit * 100.0).round() / 100.0);
        }
    }
    format!("{}", (value * 1e6).round() / 1e6)
}

fn draw<'a>(plot: &Plot, series: &Series, chart: &mut Chart<'a>) -> Result<(), Failed<'a>> {
    let colour = colour(series);
    let place = |(x, y): (f64, f64)| (plot.x.at(x), plot.y.at(y));
    match &series.shape {
        Shape::Line(points) => {
            chart.draw_series(LineSeries::new(points.iter().copied().map(place), colour.stroke_width(2)))?;
            chart.draw_series(points.iter().map(|point| Circle::new(place(*point), 3, colour.filled())))?;
        }
        Shape::Dashes(points) => {
            let line = points.iter().copied().map(place);
            chart.draw_series(DashedLineSeries::new(line, 8, 5, colour.stroke_width(2)))?;
        }
        Shape::Steps(points) => {
            let mut line = Vec::with_capacity(points.len() * 2);
            for (n, (x, y)) in points.iter().copied().enumerate() {
                // A point on the way is needed only where the height changes.
                match n.checked_sub(1).map(|before| points[before].1) {
                    Some(before) if before.to_bits() == y.to_bits() && n + 1 < points.len() => continue,
                    Some(before) => line.push(place((x, before))),
                    None => {}
                }
                line.push(place((x, y)));
            }
            chart.draw_series(LineSeries::new(line, colour.stroke_width(2)))?;
        }
        Shape::Dots(points) => {
            chart.draw_series(points.iter().map(|point| Circle::new(place(*point), 6, colour.filled())))?;
        }
        Shape::Bars(bars) => {
            let bar =
                |(from, to): &((f64, f64), (f64, f64))| Rectangle::new([place(*from), place(*to)], colour.filled());
            chart.draw_series(bars.iter().filter(|(from, to)| to.1 > from.1).map(bar))?;
        }
    }
    Ok(())
}

/// A place that tells its values, invisible until it is pointed at.
fn mark(plot: &Plot, mark: &Mark, chart: &Chart<'_>) -> String {
    let place = |x: f64, y: f64| chart.backend_coord(&(plot.x.at(x), plot.y.at(y)));
    let shape = match mark.area {
        Area::Around(x, y) => {
            let (x, y) = place(x, y);
            return format!(
                "<circle class=\"at\" fill-opacity=\"0\" cx=\"{x}\" cy=\"{y}\" r=\"12\">{}</circle>\n",
                title(mark)
            );
        }
        Area::Columns(from, to) => {
            let ((left, bottom), (right, _)) = (place(from, 0.0), place(to, 0.0));
            let top = chart.backend_coord(&(0.0, plot.y.end())).1;
            format!("x=\"{left}\" y=\"{top}\" width=\"{}\" height=\"{}\"", (right - left).max(1), bottom - top)
        }
    };
    format!("<rect class=\"at\" fill-opacity=\"0\" {shape}>{}</rect>\n", title(mark))
}

fn title(mark: &Mark) -> String {
    format!("<title>{}</title>", escaped(&mark.words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(name: &str) -> Plot {
        Plot {
            title: name.to_owned(),
            x: Axis::numbers("s", 10),
            y: Axis::counts(name, 100_000),
            series: vec![Series {
                name: name.to_owned(),
                colour: Colour::Nth(0),
                shape: Shape::Steps(vec![(0.0, 1.0), (9.0, 99.0)]),
            }],
            marks: vec![Mark { area: Area::Around(9.0, 99.0), words: name.to_owned() }],
            ..Plot::default()
        }
    }

    #[test]
    fn names_are_no_markup_and_every_mark_tells_its_values() {
        let svg = svg(&plot("<b> & 'c'"));
        assert!(!svg.contains("<b>"), "{svg}");
        assert!(svg.contains("<title>&lt;b&gt; &amp; &#39;c&#39;</title></circle>"), "{svg}");
        assert!(svg.starts_with("<svg role=\"img\" tabindex=\"0\"") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn axes_of_all_sizes_have_a_handful_of_round_values() {
        for most in [1, 3, 7, 99, 100, 101, 4096, 12_345_678_901] {
            for axis in [Axis::numbers("", most), Axis::counts("", most)] {
                let ticks = ticks(&axis, 6);
                assert!((2..=13).contains(&ticks.len()), "{most}: {ticks:?}");
                assert!(ticks.windows(2).all(|two| two[0].1 != two[1].1), "{most}: {ticks:?}");
            }
        }
        assert_eq!([0.0, 0.5, 1000.0, 2500.0, 25_000.0, 3e6].map(short), ["0", "0.5", "1k", "2500", "25k", "3M"]);
    }
}
