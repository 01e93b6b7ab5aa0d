//! Tables (meta.k8s.io/v1 `Table`): what `kubectl get` shows, made by the server.
//!
//! A [`Renderer`] is made once from a version's columns and then gives each object's cells. A custom resource's columns
//! are JSON paths; a built-in one's are [`Printer`]s, most of them a field's path and what stands there when it is
//! absent. Columns and texts are those of Kubernetes 1.36; the cells of all columns are always given, the client hides
//! the wide ones. The time against which ages are counted is passed in.
//!
//! A resource without columns cannot be shown as a table: the server answers 406.

mod age;
mod cell;
mod columns;
pub mod jsonpath;
mod selector;

use std::borrow::Cow;

pub use age::{human, since};
pub use cell::Printer;
pub use columns::{SCALE, builtin};

use crate::resource::{Column, ColumnSource, Text};
use crate::time::Timestamp;
use crate::{Map, Value, object};
use jsonpath::JsonPath;

/// Columns made ready to render objects.
#[derive(Debug)]
pub struct Renderer<'a> {
    columns: Vec<(&'a Column, Source)>,
}

#[derive(Debug)]
enum Source {
    Path(JsonPath),
    Printer(Printer),
    /// An expression that cannot be read shows nothing, as upstream has it for definitions older than its checks.
    Nothing,
}

impl<'a> Renderer<'a> {
    /// Makes a renderer of a version's columns.
    #[must_use]
    pub fn new(columns: &'a [Column]) -> Self {
        let source = |column: &Column| match &column.source {
            ColumnSource::JsonPath(path) => JsonPath::parse(path).map_or(Source::Nothing, Source::Path),
            ColumnSource::Printer(printer) => Source::Printer(*printer),
        };
        Self { columns: columns.iter().map(|c| (c, source(c))).collect() }
    }

    /// `columnDefinitions` of the table.
    #[must_use]
    pub fn definitions(&self) -> Value {
        let definition = |(column, _): &(&Column, _)| {
            object!({
                "name": (column.name.as_ref()),
                "type": (column.ty.as_ref()),
                "format": (column.format.as_ref()),
                "description": (column.description.as_ref()),
                "priority": (column.priority)
            })
        };
        Value::Array(self.columns.iter().map(definition).collect())
    }

    /// The cells of one object's row.
    #[must_use]
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let cell = |(column, source): &(&Column, Source)| match source {
            Source::Path(path) => cell::of_path(path, &column.ty, object, now),
            Source::Printer(printer) => printer.cell(object, now),
            Source::Nothing => Value::Null,
        };
        self.columns.iter().map(cell).collect()
    }
}

/// `conditions` of a row: a pod that has ended is marked as completed. Empty for everything else.
#[must_use]
pub fn row_conditions(group: &str, kind: &str, object: &Value) -> Vec<Value> {
    let phase = match (group, kind) {
        ("", "Pod") => object.str_at(&["status", "phase"]),
        _ => None,
    };
    let message = match phase {
        Some("Succeeded") => "The pod has completed successfully.",
        Some("Failed") => "The pod failed.",
        _ => return Vec::new(),
    };
    vec![object!({"type": "Completed", "status": "True", "reason": (phase), "message": message})]
}

const NAME_DESCRIPTION: &str = "Identifies the object among those of its kind and namespace";
const AGE_DESCRIPTION: &str = "When the server made the object";

/// The columns of a custom resource's version from its `additionalPrinterColumns`: the name first; the age when no
/// columns are declared.
#[must_use]
pub fn custom(additional: &[Value]) -> Vec<Column> {
    let text = |column: &Map, key: &str| -> Text {
        Cow::Owned(column.get(key).and_then(Value::as_str).unwrap_or_default().to_owned())
    };
    let mut columns = vec![columns::NAME];
    columns.extend(additional.iter().filter_map(Value::as_object).map(|column| {
        let path = text(column, "jsonPath");
        let description = match text(column, "description") {
            text if text.is_empty() => {
                Cow::Owned(format!("Custom resource definition column (in JSONPath format): {path}"))
            }
            text => text,
        };
        let priority = column.get("priority").and_then(Value::as_i64).unwrap_or_default();
        Column {
            name: text(column, "name"),
            ty: text(column, "type"),
            format: text(column, "format"),
            description,
            priority: i32::try_from(priority).unwrap_or_default(),
            source: ColumnSource::JsonPath(path),
        }
    }));
    if additional.is_empty() {
        columns.push(columns::CUSTOM_AGE);
    }
    columns
}

#[cfg(test)]
mod tests;
