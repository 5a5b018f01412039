//! Rows as CSV (RFC 4180, line ends of one byte), a file a table, the names of the columns first. Numbers are decimal, nothing is an
//! empty field, flags are `true` and `false`.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
};

use bouncescope_capture::output::{Access, Directory, Output};

use super::table::{Rows, Table, Value};

/// Files in a directory.
#[derive(Debug)]
pub struct CsvFiles {
    files: BTreeMap<Table, Output>,
    line: String,
}

impl CsvFiles {
    /// Begins a file for each table; they take the place of others when they are finished.
    pub fn create(dir: &Directory) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for table in Table::ALL {
            let mut file = dir.file(&file_name(table, "csv"), Access::Shared)?;
            let names: Vec<_> = table.columns().iter().map(|column| column.name).collect();
            writeln!(file, "{}", names.join(","))?;
            files.insert(table, file);
        }
        Ok(Self { files, line: String::new() })
    }

    /// Writes what is left, and puts all files into their places.
    pub fn finish(self) -> io::Result<()> {
        finish(self.files.into_values().collect())
    }
}

/// The file of a table.
pub(super) fn file_name(table: Table, extension: &str) -> String {
    format!("{}.{extension}", table.name())
}

/// Puts all into their places once all are on the disk.
pub(super) fn finish(mut files: Vec<Output>) -> io::Result<()> {
    files.iter_mut().try_for_each(Output::complete)?;
    Ok(files.into_iter().try_for_each(Output::finish)?)
}

impl Rows for CsvFiles {
    fn row(&mut self, table: Table, values: &[Value<'_>]) -> io::Result<()> {
        self.line.clear();
        for (n, value) in values.iter().enumerate() {
            if n > 0 {
                self.line.push(',');
            }
            match value {
                Value::U64(number) => self.line += &number.to_string(),
                Value::Bool(flag) => self.line += if *flag { "true" } else { "false" },
                Value::Text(text) => field(text, &mut self.line),
                Value::Null => {}
            }
        }
        self.line.push('\n');
        let Some(file) = self.files.get_mut(&table) else { return Ok(()) };
        file.write_all(self.line.as_bytes())
    }
}

fn field(text: &str, line: &mut String) {
    if text.contains([',', '"', '\n', '\r']) {
        line.push('"');
        *line += &text.replace('"', "\"\"");
        line.push('"');
    } else {
        *line += text;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_quoted_where_it_has_to_be() {
        let of = |text| {
            let mut line = String::new();
            field(text, &mut line);
            line
        };
        assert_eq!((of("a b"), of("a,b"), of("a\"b")), ("a b".into(), "\"a,b\"".into(), "\"a\"\"b\"".into()));
    }

    #[test]
    fn every_table_has_a_file_that_begins_with_its_columns() {
        let dir = tempfile::tempdir().unwrap();
        let to = Directory::create(dir.path(), &[]).unwrap();
        let mut files = CsvFiles::create(&to).unwrap();
        files.row(Table::Occupancy, &[Value::Text("ab"), Value::U64(1), Value::Text("kernel"), Value::Null]).unwrap();
        files.finish().unwrap();
        let text = |table| std::fs::read_to_string(dir.path().join(file_name(table, "csv"))).unwrap();
        assert_eq!(text(Table::Occupancy), "capture,time_ns,whose,used_slots\nab,1,kernel,\n");
        assert!(Table::ALL.iter().all(|table| text(*table).contains(table.columns()[0].name)));
    }
}
