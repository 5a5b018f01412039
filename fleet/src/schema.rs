//! The tables of a lake as data: names, columns and what they hold; and rows of cells as record batches. What a figure is, and what it is
//! called, comes from `tracer`; here is only which of them stands in which table. Sizes are bytes, times ns unless a name says otherwise.

use std::sync::{Arc, LazyLock};

use anyhow::Result;
use datafusion::arrow::{
    array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder, UInt64Builder},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use tracer::{
    exchange::export::table::{self as export, Type},
    replay::figures::{Figure, Unit},
};

/// The version of the tables. It grows with every change; a lake of an older version reads on, a newer one is refused.
pub(crate) const VERSION: u32 = 1;

/// Labels that are columns of every table about captures. Those of other names are in `labels`. `day` is when recording began (UTC) where no
/// label says otherwise.
pub(crate) const KEYS: [&str; 6] = ["board", "soc", "build", "serial", "host", "day"];

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A mask or an address.
    U64,
    /// A count, size or time.
    I64,
    /// A rate or a part.
    F64,
    /// Yes or no.
    Bool,
    /// Text.
    Text,
}

/// A column. Each may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) meaning: String,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    U64(u64),
    I64(i64),
    F64(f64),
    Bool(bool),
    Text(String),
}

impl Cell {
    /// A count that no `BIGINT` holds becomes the largest one.
    pub(crate) fn count(count: u64) -> Self {
        Self::I64(i64::try_from(count).unwrap_or(i64::MAX))
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn maybe(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Null, Self::text)
    }
}

pub(crate) type Row = Vec<Cell>;

/// A table of a lake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Table {
    /// A row for each capture.
    Captures,
    /// A row for each label.
    Labels,
    /// A row for each description of a device.
    Devices,
    /// What each device did in each direction.
    Traffic,
    /// The same by length of the buffer.
    Lengths,
    /// What was lost.
    Losses,
    /// What the kernel did, and what simulated kernels would have done.
    Outcomes,
    /// Files that are no captures, or that cannot be read.
    Bad,
}

impl Table {
    pub(crate) const ALL: [Self; 8] = [
        Self::Captures,
        Self::Labels,
        Self::Devices,
        Self::Traffic,
        Self::Lengths,
        Self::Losses,
        Self::Outcomes,
        Self::Bad,
    ];

    /// Its name in SQL, and that of its files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Captures => "captures",
            Self::Labels => "labels",
            Self::Devices => "devices",
            Self::Traffic => "traffic",
            Self::Lengths => "lengths",
            Self::Losses => "losses",
            Self::Outcomes => "outcomes",
            Self::Bad => "bad",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// What a row is.
    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Captures => "a capture: its kernel, its machine, what is missing, what `verify` says",
            Self::Labels => "a label of a capture",
            Self::Devices => "a description of a device; a device that changed has several",
            Self::Traffic => "what a device did in a direction, as far as mappings were recorded",
            Self::Lengths => "buffers of a device in a direction, of one length",
            Self::Losses => "records lost, by kind",
            Self::Outcomes => "figures of a capture's kernel (`policy` is `kernel`) or of a simulated one",
            Self::Bad => "a file that could not be taken in, and why",
        }
    }

    /// Its columns.
    pub(crate) fn columns(self) -> &'static [Column] {
        static COLUMNS: LazyLock<Vec<Vec<Column>>> =
            LazyLock::new(|| Table::ALL.into_iter().map(Table::made).collect());
        &COLUMNS[self as usize]
    }

    pub(crate) fn schema(self) -> SchemaRef {
        schema(self.columns())
    }

    fn made(self) -> Vec<Column> {
        let of_capture = of_capture();
        let counts = number;
        let behind = |more: Vec<Column>| of_capture.iter().cloned().chain(more).collect::<Vec<_>>();
        let device = || {
            vec![
                text("device", "dev_name()"),
                text("driver", "its driver; empty without"),
                flag("coherent", "dev_is_dma_coherent()"),
                text("direction", "BIDIRECTIONAL, TO_DEVICE or FROM_DEVICE"),
            ]
        };
        match self {
            Self::Captures => behind(
                exported(export::Table::Captures)
                    .into_iter()
                    .chain([
                        text("path", "where the file was when it was taken in"),
                        counts("file_bytes", "its size"),
                        counts("span_ns", "time that it covers"),
                        flag("complete", "it has an end, and no damaged or unknown frame"),
                        counts("damaged_frames", "frames that were skipped"),
                        counts("lost", "records lost, of every kind"),
                        text("verdict", "of `verify`: agree, disagree, or unknown where nothing could be compared"),
                        counts("agreements", "mappings of which the model says what the kernel did"),
                        counts("disagreements", "mappings and totals about which they disagree"),
                        counts("unknown", "mappings whose outcome the capture does not show"),
                        text("missing", "what is missing, in words; empty where nothing is"),
                    ])
                    .collect(),
            ),
            Self::Labels => behind(exported(export::Table::Labels)),
            Self::Devices => behind(exported(export::Table::Devices)),
            Self::Traffic => behind(
                device()
                    .into_iter()
                    .chain([
                        counts("mappings", "calls of dma_map_*"),
                        counts("lists", "of them scatterlists"),
                        counts("buffers", "their buffers"),
                        counts("bytes", "of the buffers"),
                        counts("bounces", "buffers that bounced"),
                        counts("refused", "mappings that the kernel refused"),
                        counts("starts_inside_a_line", "buffers that do not begin at a multiple of the line size"),
                        counts("ends_inside_a_line", "buffers whose length is no multiple of the line size"),
                    ])
                    .collect(),
            ),
            Self::Lengths => behind(
                device()
                    .into_iter()
                    .chain([counts("length", "bytes"), counts("buffers", "buffers of this length")])
                    .collect(),
            ),
            Self::Losses => {
                behind(vec![text("loss", "which records, as in a capture"), counts("count", "how many, on all CPUs")])
            }
            Self::Outcomes => behind(outcome()),
            Self::Bad => vec![
                text("checksum", "SHA-256 of the file, its first 32 digits; empty where it cannot be read at all"),
                text("path", "where the file was"),
                counts("file_bytes", "its size"),
                text("reason", "why it is not among the captures"),
                text("program", "version of the program that said so"),
            ],
        }
    }
}

/// Of what the first columns of every table about captures are.
fn of_capture() -> Vec<Column> {
    let key = |key: &str| match key {
        "day" => text(key, "label `day`, else when recording began (UTC)"),
        key => text(key, &format!("label `{key}`")),
    };
    [text("capture", "the capture's identity, as `bouncescope label` prints it")]
        .into_iter()
        .chain(KEYS.map(key))
        .collect()
}

/// The columns of `outcomes` behind those of the capture, which `replay()` gives too.
fn outcome() -> Vec<Column> {
    let mut columns = vec![
        text("policy", "`kernel` for what the kernel did, else the policy that was simulated"),
        text("swiotlb", "the pool as it was asked for"),
        text("lists_mode", "how scatterlists behind an IOMMU are mapped"),
        text("when_full", "what happens to mappings that find no slots"),
        text("missing", "what of the capture is missing, in words; empty where nothing is"),
        text("error", "why there are no figures; empty where there are"),
    ];
    for figure in figures() {
        let kind = figure_kind(figure);
        let column = |name: String, meaning: String| Column { name, kind, meaning };
        columns.push(column(figure.key().to_owned(), figure.explained()));
        if has_bounds(figure) {
            columns.push(column(format!("{}_low", figure.key()), format!("the least that `{}` can be", figure.key())));
            let most = format!("the most that `{}` can be; empty where nothing bounds it", figure.key());
            columns.push(column(format!("{}_high", figure.key()), most));
        }
    }
    columns
}

/// The figures that are columns of `outcomes`, in the order of the table that they come from.
pub(crate) fn figures() -> impl Iterator<Item = Figure> {
    // Slabs stand there as three figures of their own.
    Figure::ALL.iter().copied().filter(|figure| figure.key() != "all_slabs")
}

/// Bounds are columns of the figures that rules may be about.
pub(crate) fn has_bounds(figure: Figure) -> bool {
    figure.scope().is_some() && !figure.is_of_capture()
}

pub(crate) fn figure_kind(figure: Figure) -> Kind {
    match figure.unit() {
        Unit::PerSecond | Unit::BytesPerSecond | Unit::Percent | Unit::Seconds => Kind::F64,
        Unit::Count | Unit::Bytes | Unit::Alignment | Unit::Slots | Unit::Duration | Unit::Moment => Kind::I64,
    }
}

fn number(name: &str, meaning: &str) -> Column {
    Column { name: name.to_owned(), kind: Kind::I64, meaning: meaning.to_owned() }
}

fn text(name: &str, meaning: &str) -> Column {
    Column { name: name.to_owned(), kind: Kind::Text, meaning: meaning.to_owned() }
}

fn flag(name: &str, meaning: &str) -> Column {
    Column { name: name.to_owned(), kind: Kind::Bool, meaning: meaning.to_owned() }
}

/// The columns of a table of `export`, without the capture.
fn exported(table: export::Table) -> Vec<Column> {
    let column = |column: &export::Column| Column {
        name: column.name.to_owned(),
        kind: match column.kind {
            Type::U64 => Kind::U64,
            Type::Bool => Kind::Bool,
            Type::Text => Kind::Text,
        },
        meaning: column.meaning.to_owned(),
    };
    table.columns()[1..].iter().map(column).collect()
}

fn schema(columns: &[Column]) -> SchemaRef {
    let field = |column: &Column| {
        let kind = match column.kind {
            Kind::U64 => DataType::UInt64,
            Kind::I64 => DataType::Int64,
            Kind::F64 => DataType::Float64,
            Kind::Bool => DataType::Boolean,
            Kind::Text => DataType::Utf8,
        };
        Field::new(&column.name, kind, true)
            .with_metadata([("description".to_owned(), column.meaning.clone())].into_iter().collect())
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// Rows as a batch. A cell of another kind than its column's is an empty one.
pub(crate) fn batch(table: Table, rows: &[Row]) -> Result<RecordBatch> {
    let array = |(n, column): (usize, &Column)| -> ArrayRef {
        let cells = rows.iter().map(|row| row.get(n).unwrap_or(&Cell::Null));
        macro_rules! built {
            ($builder:ident, $cell:ident, $value:ident => $of:expr) => {{
                let mut builder = $builder::new();
                for cell in cells {
                    match cell {
                        Cell::$cell($value) => builder.append_value($of),
                        _ => builder.append_null(),
                    }
                }
                Arc::new(builder.finish())
            }};
        }
        match column.kind {
            Kind::U64 => built!(UInt64Builder, U64, value => *value),
            Kind::I64 => built!(Int64Builder, I64, value => *value),
            Kind::F64 => built!(Float64Builder, F64, value => *value),
            Kind::Bool => built!(BooleanBuilder, Bool, value => *value),
            Kind::Text => built!(StringBuilder, Text, value => value),
        }
    };
    let arrays = table.columns().iter().enumerate().map(array).collect();
    Ok(RecordBatch::try_new(table.schema(), arrays)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_has_two_columns_of_a_name() {
        for table in Table::ALL {
            let mut names: Vec<_> = table.columns().iter().map(|column| &column.name).collect();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{}", table.name());
            assert_eq!(Table::named(table.name()), Some(table));
        }
    }

    #[test]
    fn cells_come_into_their_columns() {
        let row = vec![Cell::text("abc"), Cell::text("/tmp/x"), Cell::count(u64::MAX)];
        let batch = batch(Table::Bad, &[row]).unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (1, 5));
        assert!(batch.column(3).is_null(0));
        assert!(!batch.column(2).is_null(0));
    }
}
