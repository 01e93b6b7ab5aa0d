//! The columns of the built-in resources, a file by topic: tables of columns, and the functions for what no path says.

mod admission;
mod autoscaling;
mod cluster;
mod core;
mod events;
mod network;
mod node;
mod pod;
mod policy;
mod storage;
mod workloads;

use std::borrow::Cow;

use super::cell::Printer;
use super::{AGE_DESCRIPTION, NAME_DESCRIPTION};
use crate::resource::{Column, ColumnSource};

/// Group, plural name and columns.
type Entry = (&'static str, &'static str, &'static [Column]);

/// The columns of a built-in resource; `None` if it cannot be shown as a table.
#[must_use]
pub fn builtin(group: &str, plural: &str) -> Option<&'static [Column]> {
    const TOPICS: [&[Entry]; 11] = [
        core::ENTRIES,
        pod::ENTRIES,
        node::ENTRIES,
        workloads::ENTRIES,
        network::ENTRIES,
        events::ENTRIES,
        autoscaling::ENTRIES,
        storage::ENTRIES,
        policy::ENTRIES,
        admission::ENTRIES,
        cluster::ENTRIES,
    ];
    let mut entries = TOPICS.into_iter().flatten();
    entries.find(|(g, p, _)| (*g, *p) == (group, plural)).map(|(_, _, columns)| *columns)
}

const fn column(
    name: &'static str,
    (ty, format): (&'static str, &'static str),
    description: &'static str,
    source: ColumnSource,
) -> Column {
    Column {
        name: Cow::Borrowed(name),
        ty: Cow::Borrowed(ty),
        format: Cow::Borrowed(format),
        description: Cow::Borrowed(description),
        priority: 0,
        source,
    }
}

/// A column of text.
const fn text(name: &'static str, description: &'static str, printer: Printer) -> Column {
    column(name, ("string", ""), description, ColumnSource::Printer(printer))
}

/// A column of whole numbers.
const fn integer(name: &'static str, description: &'static str, printer: Printer) -> Column {
    column(name, ("integer", ""), description, ColumnSource::Printer(printer))
}

/// A column of `true` and `false`.
const fn boolean(name: &'static str, description: &'static str, printer: Printer) -> Column {
    column(name, ("boolean", ""), description, ColumnSource::Printer(printer))
}

/// Shown with `-o wide` only.
const fn wide(column: Column) -> Column {
    let mut column = column;
    column.priority = 1;
    column
}

/// The column that identifies the row.
const fn identifying(name: &'static str, description: &'static str, printer: Printer) -> Column {
    column(name, ("string", "name"), description, ColumnSource::Printer(printer))
}

const OBJECT_NAME: Printer = Printer::Text("metadata.name", "");

/// The object's name.
pub(super) const NAME: Column = identifying("Name", NAME_DESCRIPTION, OBJECT_NAME);
/// How long the object has been there.
const AGE: Column = text("Age", AGE_DESCRIPTION, Printer::Age("metadata.creationTimestamp", "<unknown>"));
/// The age of a custom resource without columns.
pub(super) const CUSTOM_AGE: Column = column(
    "Age",
    ("date", ""),
    AGE_DESCRIPTION,
    ColumnSource::JsonPath(Cow::Borrowed(".metadata.creationTimestamp")),
);
/// When the object was made, for resources that have no columns of their own.
const CREATED_AT: Column = column(
    "Created At",
    ("date", ""),
    AGE_DESCRIPTION,
    ColumnSource::Printer(Printer::Text("metadata.creationTimestamp", "")),
);

/// The columns of resources that have none of their own.
static PLAIN: [Column; 2] = [NAME, CREATED_AT];
/// Name and age.
static NAME_AND_AGE: [Column; 2] = [NAME, AGE];

/// The columns of `autoscaling/v1` `Scale`, which the subresource `scale` gives.
pub static SCALE: [Column; 4] = [
    text("Name", NAME_DESCRIPTION, OBJECT_NAME),
    integer("Desired", "How many instances are wanted", Printer::Integer("spec.replicas")),
    integer("Available", "How many instances there are", Printer::Integer("status.replicas")),
    AGE,
];

/// The containers of a pod template, their images, and the selector of the pods; all wide.
const fn containers(template: &'static str) -> Column {
    wide(text("Containers", "The names of the template's containers", Printer::Containers(template)))
}

const fn images(template: &'static str) -> Column {
    wide(text("Images", "The images of the template's containers", Printer::Images(template)))
}

const fn selector(printer: Printer) -> Column {
    wide(text("Selector", "Which pods belong to the object", printer))
}
