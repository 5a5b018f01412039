//! Rows as files of columns: Parquet, or Arrow's own format, a file a table. Columns are filled and written [`ROWS`] at a time, so
//! that memory does not grow with the capture.

use std::{collections::BTreeMap, io, mem, sync::Arc};

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{BooleanBuilder, StringBuilder, UInt64Builder},
};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{DataType, Field, Schema};
use bouncescope_capture::output::{Access, Directory, Output};
use parquet::{arrow::ArrowWriter, basic::Compression, file::properties::WriterProperties};

use super::{
    csv::{file_name, finish},
    table::{Column, Rows, Table, Type, Value},
};

/// Rows of a batch. A table of 13 columns takes 7 MiB for as many.
const ROWS: usize = 1 << 16;
/// Rows of a Parquet row group, which its writer keeps compressed until it is whole.
const GROUP: usize = 1 << 20;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// Parquet, compressed by Snappy.
    Parquet,
    /// Arrow IPC files, not compressed.
    Arrow,
}

impl FileFormat {
    /// What the files' names end in.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }
}

/// Files in a directory.
pub struct ColumnFiles(BTreeMap<Table, Columns>);

impl ColumnFiles {
    /// Begins a file for each table; they take the place of others when they are finished.
    pub fn create(dir: &Directory, format: FileFormat) -> io::Result<Self> {
        let columns = |table| Ok((table, Columns::create(dir, table, format)?));
        Table::ALL.into_iter().map(columns).collect::<io::Result<_>>().map(Self)
    }

    /// Writes what is left, and puts all files into their places.
    pub fn finish(self) -> io::Result<()> {
        finish(self.0.into_values().map(Columns::finish).collect::<io::Result<_>>()?)
    }
}

impl Rows for ColumnFiles {
    fn row(&mut self, table: Table, values: &[Value<'_>]) -> io::Result<()> {
        self.0.get_mut(&table).map_or(Ok(()), |columns| columns.row(values))
    }
}

/// One table.
struct Columns {
    schema: Arc<Schema>,
    builders: Vec<Builder>,
    rows: usize,
    out: Out,
}

/// One column of the batch in the making.
enum Builder {
    U64(UInt64Builder),
    Bool(BooleanBuilder),
    Text(StringBuilder),
}

/// Where batches go.
enum Out {
    Parquet(Box<ArrowWriter<Output>>),
    Arrow(Box<FileWriter<Output>>),
}

impl Columns {
    fn create(dir: &Directory, table: Table, format: FileFormat) -> io::Result<Self> {
        let columns = table.columns();
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        let file = dir.file(&file_name(table, format.extension()), Access::Shared)?;
        let out = match format {
            FileFormat::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::SNAPPY)
                    .set_max_row_group_row_count(Some(GROUP))
                    .build();
                let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties));
                Out::Parquet(Box::new(writer.map_err(io::Error::other)?))
            }
            FileFormat::Arrow => Out::Arrow(Box::new(FileWriter::try_new(file, &schema).map_err(io::Error::other)?)),
        };
        Ok(Self { schema, builders: columns.iter().map(Builder::new).collect(), rows: 0, out })
    }

    fn row(&mut self, values: &[Value<'_>]) -> io::Result<()> {
        for (builder, value) in self.builders.iter_mut().zip(values) {
            builder.append(*value);
        }
        self.rows += 1;
        if self.rows < ROWS { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> io::Result<()> {
        if mem::take(&mut self.rows) == 0 {
            return Ok(());
        }
        let columns = self.builders.iter_mut().map(Builder::finish).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(io::Error::other)?;
        match &mut self.out {
            Out::Parquet(writer) => writer.write(&batch).map_err(io::Error::other),
            Out::Arrow(writer) => writer.write(&batch).map_err(io::Error::other),
        }
    }

    fn finish(mut self) -> io::Result<Output> {
        self.write()?;
        match self.out {
            Out::Parquet(writer) => writer.into_inner().map_err(io::Error::other),
            Out::Arrow(writer) => writer.into_inner().map_err(io::Error::other),
        }
    }
}

fn field(column: &Column) -> Field {
    let kind = match column.kind {
        Type::U64 => DataType::UInt64,
        Type::Bool => DataType::Boolean,
        Type::Text => DataType::Utf8,
    };
    let meaning = std::collections::HashMap::from([("meaning".to_owned(), column.meaning.to_owned())]);
    Field::new(column.name, kind, column.nullable).with_metadata(meaning)
}

impl Builder {
    fn new(column: &Column) -> Self {
        match column.kind {
            Type::U64 => Self::U64(UInt64Builder::new()),
            Type::Bool => Self::Bool(BooleanBuilder::new()),
            Type::Text => Self::Text(StringBuilder::new()),
        }
    }

    /// Of another type than the column's is nothing; that would be a mistake of the rows.
    fn append(&mut self, value: Value<'_>) {
        match (self, value) {
            (Self::U64(builder), Value::U64(number)) => builder.append_value(number),
            (Self::U64(builder), _) => builder.append_null(),
            (Self::Bool(builder), Value::Bool(flag)) => builder.append_value(flag),
            (Self::Bool(builder), _) => builder.append_null(),
            (Self::Text(builder), Value::Text(text)) => builder.append_value(text),
            (Self::Text(builder), _) => builder.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::U64(builder) => Arc::new(builder.finish()),
            Self::Bool(builder) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
        }
    }
}
