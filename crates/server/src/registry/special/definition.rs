//! `CustomResourceDefinition`: makes rows of the resource table.
//!
//! Names are accepted, and the resource established, in the write itself: the row is served before the client has its
//! answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use xebec_api::{Status, Value, crd, meta, object};
use xebec_store::{Scope, Snapshot, StoreError, WatchError};

use super::pod::set_condition;
use crate::core::Core;
use crate::http::body::BoxError;
use crate::registry::convert;
use crate::registry::strategy::{Strategy, Write};
use crate::registry::table::Row;

/// Holds a definition until its objects are gone.
const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

#[derive(Debug)]
pub(super) struct Definitions;

impl Strategy for Definitions {
    fn create(&self, write: &mut Write<'_>, definition: &mut Value) -> Result<(), Status> {
        let mut finalizers: Vec<String> = meta::finalizers(definition).map(str::to_owned).collect();
        finalizers.push(CLEANUP_FINALIZER.into());
        definition.set(&["metadata", "finalizers"], finalizers);
        accept(write, definition)
    }

    fn update(&self, write: &mut Write<'_>, definition: &mut Value) -> Result<(), Status> {
        accept(write, definition)
    }

    fn deleting(&self, definition: &mut Value) {
        let since = definition.str_at(&["metadata", "deletionTimestamp"]).unwrap_or_default().to_owned();
        set_condition(
            definition,
            object!({
                "type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
                "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
                "lastTransitionTime": (since)
            }),
        );
    }

    fn committed(&self, core: &Core) {
        refresh_table(core);
    }
}

/// Sets the conditions and the status's names and versions.
fn accept(write: &Write<'_>, definition: &mut Value) -> Result<(), Status> {
    let conflict = name_conflict(write, definition);
    let condition = |kind: &str, fault: Option<&str>, good: (&str, &str), bad_reason: &str| {
        let (status, reason, message) = match fault {
            None => ("True", good.0, good.1),
            Some(fault) => ("False", bad_reason, fault),
        };
        object!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": (write.context.now.to_string())
        })
    };
    let names = condition(
        "NamesAccepted",
        conflict.as_deref(),
        ("NoConflicts", "no conflicts found"),
        "NamesConflict",
    );
    let not_all = conflict.as_ref().map(|_| "not all names are accepted");
    let good = ("InitialNamesAccepted", "the initial names have been accepted");
    let established = condition("Established", not_all, good, "NotAccepted");
    set_condition(definition, names);
    set_condition(definition, established);
    if conflict.is_none() {
        let names = definition.at(&["spec", "names"]).cloned().unwrap_or_else(Value::object);
        definition.set(&["status", "acceptedNames"], names);
    } else if definition.at(&["status", "acceptedNames"]).is_none() {
        definition.set(&["status", "acceptedNames"], object!({"plural": "", "kind": ""}));
    }
    let versions = definition.array_at(&["spec", "versions"]);
    let storage =
        versions.iter().find(|v| v.bool_at(&["storage"]) == Some(true)).and_then(|v| v.str_at(&["name"]));
    let mut stored: Vec<String> = definition
        .array_at(&["status", "storedVersions"])
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if let Some(storage) = storage.filter(|s| !stored.iter().any(|known| known == s)) {
        stored.push(storage.to_owned());
    }
    definition.set(&["status", "storedVersions"], stored);
    Ok(())
}

/// Whether another resource of the group has one of the names.
fn name_conflict(write: &Write<'_>, definition: &Value) -> Option<String> {
    let group = definition.str_at(&["spec", "group"])?;
    let text = |path: &[&str]| definition.str_at(path).unwrap_or_default().to_owned();
    let plural = text(&["spec", "names", "plural"]);
    let mut names = vec![plural.clone(), text(&["spec", "names", "singular"])];
    names.extend(
        definition
            .array_at(&["spec", "names", "shortNames"])
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned),
    );
    let kinds = [text(&["spec", "names", "kind"]), text(&["spec", "names", "listKind"])];
    let table = write.core.table.get();
    let others = table.rows().filter(|row| row.group() == group && !(row.custom && row.resource() == plural));
    for row in others {
        let n = &row.def.names;
        let theirs = [&n.plural, &n.singular].into_iter().chain(n.short.iter());
        if let Some(name) = theirs.into_iter().find(|t| names.iter().any(|name| name == t.as_ref())) {
            return Some(format!("{name:?} is already in use"));
        }
        if let Some(kind) =
            [&n.kind, &n.list_kind].into_iter().find(|t| kinds.iter().any(|k| k == t.as_ref()))
        {
            return Some(format!("{kind:?} is already in use"));
        }
    }
    None
}

/// Puts the rows in force that the definitions in the store make. A row whose definition did not change stays the same.
pub fn refresh_table(core: &Core) {
    // The snapshot is taken in turn, so that a later table is of a later state.
    core.table.change(|table| table.with_custom(definitions(&core.store.snapshot(), table)));
    core.aggregation.notify();
}

/// How long it takes until a watch that failed begins anew.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the rows as the definitions are that other servers write, until the store is shut down.
pub async fn follow(core: Arc<Core>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = keep_up(&core) => match ended {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "definitions cannot be followed: all are read anew"),
            },
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

async fn keep_up(core: &Core) -> Result<(), BoxError> {
    let table = core.table.get();
    let row = table.row("apiextensions.k8s.io", "customresourcedefinitions");
    let prefix =
        row.ok_or("there is no resource of definitions")?.prefix("").map_err(|status| status.message)?;
    let since = core.store.current_revision();
    let mut watch = match core.store.watch(Scope::Prefix(prefix), since) {
        Err(StoreError::Closed) => return Ok(()),
        opened => opened?,
    };
    loop {
        refresh_table(core);
        match watch.next().await {
            Ok(_) => {}
            Err(WatchError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn definitions(snapshot: &Snapshot, table: &crate::registry::Table) -> Vec<Arc<Row>> {
    let Some(row) = table.row("apiextensions.k8s.io", "customresourcedefinitions") else { return Vec::new() };
    let Ok(prefix) = row.prefix("") else { return Vec::new() };
    let former: HashMap<_, _> = table
        .rows()
        .filter_map(|row| row.origin.as_ref().map(|(key, revision)| (key, (revision, row))))
        .collect();
    let made = |record: &Arc<xebec_store::Record>| {
        let former = former.get(record.key());
        if let Some((_, row)) = former.filter(|(revision, _)| **revision == record.mod_revision()) {
            return Some(Arc::clone(row));
        }
        let definition = convert::stored_object(record).ok()?;
        let established = definition
            .array_at(&["status", "conditions"])
            .iter()
            .any(|c| c.str_at(&["type"]) == Some("Established") && c.str_at(&["status"]) == Some("True"));
        if !established {
            return None;
        }
        match crd::resource(&definition) {
            Ok(def) => {
                let origin = (record.key().clone(), record.mod_revision());
                let former = former.map(|(_, row)| row.as_ref());
                Some(Arc::new(Row::custom(def, definition, origin, former, snapshot.revision())))
            }
            Err(causes) => {
                let causes: Vec<String> = causes.iter().map(ToString::to_string).collect();
                tracing::error!(
                    name = meta::name(&definition),
                    ?causes,
                    "stored definition cannot be served"
                );
                None
            }
        }
    };
    snapshot.range(&prefix, None).filter_map(made).collect()
}
