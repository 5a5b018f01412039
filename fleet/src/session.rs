//! The engine: a session with the tables and views of a lake, and `replay()`.

use std::{future::Future, sync::Arc};

use anyhow::{Context as _, Result};
use datafusion::{
    arrow::array::{Array as _, AsArray as _, RecordBatch},
    arrow::{compute::cast, datatypes::DataType},
    catalog::TableProvider,
    dataframe::DataFrame,
    datasource::{
        MemTable,
        empty::EmptyTable,
        file_format::parquet::ParquetFormat,
        listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl},
    },
    execution::{config::SessionConfig, context::SQLOptions, runtime_env::RuntimeEnvBuilder},
    prelude::SessionContext,
};
use url::Url;

use crate::{
    capture::Known,
    lake::Lake,
    replayed::{ReplayFunction, Told, list, list_schema},
    schema::{KEYS, Table},
};

/// What operators may keep in memory, bytes; beyond, they write to temporary files.
const MEMORY: usize = 1 << 30;

/// Views over the tables, by name: what they are, and their query.
pub(crate) const VIEWS: [(&str, &str, &str); 2] = [
    (
        "drivers",
        "what a driver's devices did in a capture",
        "SELECT capture, {keys}, driver, sum(mappings) AS mappings, sum(buffers) AS buffers, sum(bytes) AS bytes, \
         sum(bounces) AS bounces, sum(refused) AS refused FROM traffic GROUP BY capture, {keys}, driver",
    ),
    ("observed", "the rows of `outcomes` about what the kernel did", "SELECT * FROM outcomes WHERE policy = 'kernel'"),
];

/// Runs what waits for the engine, on all cores.
pub(crate) fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().context("cannot start threads")?;
    let result = runtime.block_on(work);
    // A replay that nobody waits for any more goes on until its capture ends.
    runtime.shutdown_background();
    result
}

fn bare() -> Result<SessionContext> {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(MEMORY, 1.0).build_arc()?;
    // Names of files hold no types here: columns of the files do.
    let config = SessionConfig::new().with_information_schema(true);
    Ok(SessionContext::new_with_config_rt(config, runtime))
}

/// A session with all tables of a lake.
pub(crate) fn of_lake(lake: &Lake) -> Result<SessionContext> {
    of_lake_told(lake, Told::silent())
}

/// The same; replays tell how far they are.
pub(crate) fn of_lake_told(lake: &Lake, told: Told) -> Result<SessionContext> {
    let context = bare()?;
    for table in Table::ALL {
        context.register_table(table.name(), provider(lake, table)?)?;
    }
    context.register_udtf("replay", Arc::new(ReplayFunction { captures: provider(lake, Table::Captures)?, told }));
    Ok(context)
}

/// A session with `replay()` over these captures, and nothing else.
pub(crate) fn of_captures(captures: &[Known], told: Told) -> Result<SessionContext> {
    let context = bare()?;
    let captures = Arc::new(MemTable::try_new(list_schema(), vec![vec![list(captures)?]])?);
    context.register_udtf("replay", Arc::new(ReplayFunction { captures, told }));
    Ok(context)
}

/// Views of a lake's session.
pub(crate) async fn with_views(context: SessionContext) -> Result<SessionContext> {
    for (name, _, query) in VIEWS {
        let query = query.replace("{keys}", &KEYS.join(", "));
        context.sql(&format!("CREATE VIEW {name} AS {query}")).await?;
    }
    Ok(context)
}

fn provider(lake: &Lake, table: Table) -> Result<Arc<dyn TableProvider>> {
    let schema = table.schema();
    let Some(files) = lake.files.get(&table) else {
        return Ok(Arc::new(EmptyTable::new(schema)));
    };
    let url = |path: &std::path::PathBuf| -> Result<ListingTableUrl> {
        let path = std::path::absolute(path)?;
        let url = Url::from_file_path(&path)
            .ok()
            .with_context(|| format!("{} has no name that can be read", path.display()))?;
        Ok(ListingTableUrl::parse(url)?)
    };
    let urls = files.iter().map(url).collect::<Result<Vec<_>>>()?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::new())).with_file_extension(".parquet");
    let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options).with_schema(schema);
    Ok(Arc::new(ListingTable::try_new(config)?))
}

/// A query, which changes nothing.
pub(crate) async fn query(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    let only_reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    Ok(context.sql_with_options(sql, only_reads).await?)
}

/// The rows of a query as texts; what is empty is an empty text.
pub(crate) async fn texts(context: &SessionContext, sql: &str) -> Result<Vec<Vec<String>>> {
    let batches = query(context, sql).await?.collect().await?;
    let mut rows = Vec::new();
    for batch in &batches {
        rows.extend(as_texts(batch)?);
    }
    Ok(rows)
}

fn as_texts(batch: &RecordBatch) -> Result<Vec<Vec<String>>> {
    let columns = batch.columns().iter().map(|column| cast(column, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
    let text = |column: &Arc<dyn datafusion::arrow::array::Array>, row: usize| {
        let column = column.as_string::<i32>();
        if column.is_null(row) { String::new() } else { column.value(row).to_owned() }
    };
    Ok((0..batch.num_rows()).map(|row| columns.iter().map(|column| text(column, row)).collect()).collect())
}
