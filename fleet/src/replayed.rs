//! `replay(policies, pools, lines)`: simulated kernels over every capture, as a table. Its plan is an operator over a source of captures that
//! the engine can split: partitions hold whole captures, about as many bytes each, the largest first, and each reads one at a time. The source
//! is the engine's own, since an engine that distributes plans splits only those that it knows, and runs any other leaf once for each task.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use datafusion::{
    arrow::{
        array::{Array as _, AsArray as _, Int64Array, RecordBatch, StringArray},
        datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
    },
    catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{DataFusionError, Result, ScalarValue, plan_err, tree_node::TreeNodeRecursion},
    datasource::memory::MemorySourceConfig,
    execution::TaskContext,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
        stream::RecordBatchStreamAdapter,
    },
    prelude::SessionContext,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;

use crate::{
    capture::{Known, POLICIES, Scenarios, outcomes},
    schema::{Cell, KEYS, Table, batch},
};

/// What is told while captures are replayed.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Bytes of captures that are done.
    pub(crate) progress: ProgressBar,
    /// Captures that could not be replayed, each with the reason.
    pub(crate) failed: Arc<Mutex<Vec<String>>>,
}

impl Told {
    pub(crate) fn silent() -> Self {
        Self { progress: ProgressBar::hidden(), failed: Arc::default() }
    }
}

/// The columns that a list of captures has.
pub(crate) fn list_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let first = ["capture"].into_iter().chain(KEYS).map(text);
    Arc::new(Schema::new(
        first.chain([text("path"), Field::new("file_bytes", DataType::Int64, true)]).collect::<Vec<_>>(),
    ))
}

/// A list of captures as rows.
pub(crate) fn list(captures: &[Known]) -> Result<RecordBatch> {
    let texts =
        |of: &dyn Fn(&Known) -> Option<String>| -> Arc<StringArray> { Arc::new(captures.iter().map(of).collect()) };
    let mut columns: Vec<Arc<dyn datafusion::arrow::array::Array>> = vec![texts(&|one| Some(one.capture.clone()))];
    for n in 0..KEYS.len() {
        columns.push(texts(&|one| one.keys[n].clone()));
    }
    columns.push(texts(&|one| Some(one.path.display().to_string())));
    columns.push(Arc::new(captures.iter().map(|one| i64::try_from(one.bytes).ok()).collect::<Int64Array>()));
    Ok(RecordBatch::try_new(list_schema(), columns)?)
}

fn listed(batch: &RecordBatch) -> Vec<Known> {
    let text = |column: usize, row: usize| {
        let column = batch.column(column).as_string::<i32>();
        (!column.is_null(row)).then(|| column.value(row).to_owned())
    };
    let bytes = batch.column(KEYS.len() + 2).as_primitive::<Int64Type>();
    let one = |row: usize| Known {
        capture: text(0, row).unwrap_or_default(),
        keys: std::array::from_fn(|n| text(n + 1, row)),
        path: PathBuf::from(text(KEYS.len() + 1, row).unwrap_or_default()),
        bytes: u64::try_from(bytes.value(row)).unwrap_or_default(),
    };
    (0..batch.num_rows()).map(one).collect()
}

/// The table function.
#[derive(Debug)]
pub(crate) struct ReplayFunction {
    /// Has the columns of [`list_schema`].
    pub(crate) captures: Arc<dyn TableProvider>,
    pub(crate) told: Told,
}

impl TableFunctionImpl for ReplayFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let mut words = [POLICIES.to_owned(), String::new(), String::new()];
        if args.exprs().len() > words.len() {
            return plan_err!("replay(policies, pools, lines) takes at most three texts");
        }
        for (word, expression) in words.iter_mut().zip(args.exprs()) {
            *word = match expression {
                Expr::Literal(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)), _) => text.clone(),
                Expr::Literal(ScalarValue::Int64(Some(number)), _) => number.to_string(),
                _ => {
                    return plan_err!(
                        "replay(policies, pools, lines) takes texts, such as replay('mainline', '1M,2M', '64')"
                    );
                }
            };
        }
        let [policies, pools, lines] = words;
        let scenarios =
            Scenarios::parse(&policies, &pools, &lines).map_err(|error| DataFusionError::Plan(format!("{error:#}")))?;
        Ok(Arc::new(ReplayTable {
            captures: Arc::clone(&self.captures),
            scenarios: Arc::new(scenarios),
            told: self.told.clone(),
        }))
    }
}

/// What the function gives.
#[derive(Debug)]
struct ReplayTable {
    captures: Arc<dyn TableProvider>,
    scenarios: Arc<Scenarios>,
    told: Told,
}

#[async_trait]
impl TableProvider for ReplayTable {
    fn schema(&self) -> SchemaRef {
        Table::Outcomes.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    /// Filters on what is known of a capture before it is opened choose captures.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let is_known = |filter: &&Expr| {
            let names = filter.column_refs();
            !filter.is_volatile()
                && names.iter().all(|column| column.name == "capture" || KEYS.contains(&column.name.as_str()))
        };
        let answer =
            |is: bool| if is { TableProviderFilterPushDown::Inexact } else { TableProviderFilterPushDown::Unsupported };
        Ok(filters.iter().map(|filter| answer(is_known(filter))).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut chosen = SessionContext::new().read_table(Arc::clone(&self.captures))?;
        for filter in filters {
            chosen = chosen.filter(filter.clone())?;
        }
        let schema = list_schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let batches = chosen.select_columns(&names)?.collect().await?;
        let captures = batches.iter().map(plain_texts).collect::<Result<Vec<_>>>()?;
        let captures: Vec<Known> = captures.iter().flat_map(listed).collect();
        let total = captures.iter().map(|one| one.bytes.max(1)).sum();
        self.told.progress.set_length(total);
        let mut partitions = Vec::new();
        for group in groups(captures, state.config().target_partitions()) {
            // A batch for each capture: the engine may hand them on one by one.
            partitions.push(group.iter().map(|one| list(std::slice::from_ref(one))).collect::<Result<Vec<_>>>()?);
        }
        let source = MemorySourceConfig::try_new_exec(&partitions, schema, None)?;
        let replay = ReplayExec::new(source, Arc::clone(&self.scenarios), projection.cloned(), self.told.clone())?;
        Ok(Arc::new(replay))
    }
}

/// The same rows with texts as a list has them: a file's may come as views.
fn plain_texts(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = list_schema();
    let cast = |(column, field): (&Arc<dyn datafusion::arrow::array::Array>, &Arc<Field>)| {
        datafusion::arrow::compute::cast(column, field.data_type())
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(cast).collect::<Result<_, _>>()?;
    Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
}

/// Captures in so many groups, of about as many bytes; in each the largest first. At least one group.
fn groups(mut captures: Vec<Known>, count: usize) -> Vec<Vec<Known>> {
    captures.sort_by(|one, other| (other.bytes, &one.capture).cmp(&(one.bytes, &other.capture)));
    let mut groups = vec![(0u64, Vec::new()); count.clamp(1, captures.len().max(1))];
    for capture in captures {
        if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes = bytes.saturating_add(capture.bytes.max(1));
            group.push(capture);
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The operator: captures in, their outcomes out.
#[derive(Debug)]
struct ReplayExec {
    input: Arc<dyn ExecutionPlan>,
    scenarios: Arc<Scenarios>,
    projection: Option<Vec<usize>>,
    told: Told,
    properties: Arc<PlanProperties>,
}

impl ReplayExec {
    fn new(
        input: Arc<dyn ExecutionPlan>,
        scenarios: Arc<Scenarios>,
        projection: Option<Vec<usize>>,
        told: Told,
    ) -> Result<Self> {
        let schema = Table::Outcomes.schema();
        let schema = match &projection {
            Some(columns) => Arc::new(schema.project(columns)?),
            None => schema,
        };
        let of_input = input.properties();
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            of_input.partitioning.clone(),
            of_input.emission_type,
            of_input.boundedness,
        );
        Ok(Self { input, scenarios, projection, told, properties: Arc::new(properties) })
    }
}

impl DisplayAs for ReplayExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ReplayExec: kernels={}", self.scenarios.count())
    }
}

impl ExecutionPlan for ReplayExec {
    fn name(&self) -> &'static str {
        "ReplayExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    /// The groups are made for the captures' lengths.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(input) = children.pop().filter(|_| children.is_empty()) else {
            return plan_err!("ReplayExec has one source");
        };
        Ok(Arc::new(Self::new(input, Arc::clone(&self.scenarios), self.projection.clone(), self.told.clone())?))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let captures = self.input.execute(partition, context)?;
        let (scenarios, told, projection) = (Arc::clone(&self.scenarios), self.told.clone(), self.projection.clone());
        let one_by_one =
            captures.map_ok(|batch| stream::iter(listed(&batch)).map(Ok::<_, DataFusionError>)).try_flatten();
        let outcomes = one_by_one.and_then(move |known| {
            let (scenarios, told, projection) = (Arc::clone(&scenarios), told.clone(), projection.clone());
            async move {
                let rows = tokio::task::spawn_blocking(move || one(&known, &scenarios, &told)).await;
                let rows = rows
                    .map_err(|error| DataFusionError::External(error.into()))?
                    .map_err(|error| DataFusionError::External(error.into()))?;
                Ok(match projection {
                    Some(columns) => rows.project(&columns)?,
                    None => rows,
                })
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), outcomes)))
    }
}

/// Replays a capture, on a thread that may be busy for long.
fn one(known: &Known, scenarios: &Scenarios, told: &Told) -> anyhow::Result<RecordBatch> {
    let rows = outcomes(known, scenarios);
    let error = Table::Outcomes.columns().iter().position(|column| column.name == "error");
    if let Some(Cell::Text(reason)) = error.and_then(|at| rows.first()?.get(at)) {
        told.failed.lock().unwrap_or_else(PoisonError::into_inner).push(reason.clone());
    }
    told.progress.inc(known.bytes.max(1));
    batch(Table::Outcomes, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(capture: &str, bytes: u64) -> Known {
        Known { capture: capture.to_owned(), keys: std::array::from_fn(|_| None), path: PathBuf::from(capture), bytes }
    }

    #[test]
    fn groups_have_about_as_many_bytes_and_the_largest_first() {
        let captures = [("a", 1), ("b", 5), ("c", 2), ("d", 4), ("e", 0)].map(|(name, bytes)| known(name, bytes));
        let groups: Vec<Vec<u64>> =
            groups(captures.to_vec(), 2).iter().map(|group| group.iter().map(|one| one.bytes).collect()).collect();
        assert_eq!(groups, [vec![5, 1, 0], vec![4, 2]]);
        assert_eq!(super::groups(Vec::new(), 8).len(), 1);
        assert_eq!(super::groups(captures.to_vec(), 8).len(), 5);
    }

    #[test]
    fn a_list_reads_as_it_was_written() {
        let mut one = known("x", 7);
        one.keys[1] = Some("a soc".to_owned());
        assert_eq!(listed(&list(std::slice::from_ref(&one)).unwrap()), [one]);
    }
}
