//! The resource table: built-in rows from generated data, rows of custom resources from the definitions in the store.
//!
//! The table is immutable; a change makes a new one and swaps it, so that a request sees one table from start to end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use xebec_api::kinds::{self, Kind};
use xebec_api::resource::{GroupResource, ResourceDef, Text, Version};
use xebec_api::{FieldPath, Status, Value, json, selectable};
use xebec_store::{Key, Prefix, Record, Revision};

use super::conversion::Converter;
use super::strategy::{self, Strategy};

/// Where all objects of the API stand in the store.
const ROOT: &str = "/registry";

/// A resource with everything that serves it.
#[derive(Debug)]
pub struct Row {
    /// Names, scope, versions, schemas.
    pub def: ResourceDef,
    /// Of a custom resource: its definition.
    pub definition: Option<Value>,
    /// What the kind does by itself.
    pub kind: &'static Kind,
    /// What the kind does with other objects.
    pub strategy: &'static dyn Strategy,
    /// The fields that selectors may name, as they are called in stored objects.
    pub selectable: Arc<[Text]>,
    /// Whether a `CustomResourceDefinition` made the row.
    pub custom: bool,
    /// The definition that made the row: its key and revision.
    pub origin: Option<(Key, Revision)>,
    /// Of a custom resource whose versions differ by more than names and schemas: who converts between them.
    pub(crate) converter: Option<Arc<Converter>>,
    /// Cancelled when the row is no longer in force, nor one with the same specification: what was opened on it ends.
    pub replaced: Arc<CancellationToken>,
    /// Of a custom resource: how the bytes of an object begin, for each version.
    heads: Vec<Vec<u8>>,
    /// Of a custom resource: up to which revision objects may have been written by another schema.
    schema_since: Revision,
    path: String,
}

impl Row {
    /// A built-in row.
    #[must_use]
    pub fn built_in(def: ResourceDef) -> Self {
        Self::new(def, None, None)
    }

    /// The row that a definition, at a key and revision, makes in the place of `former`, if there was one. It comes into
    /// force at the revision `now`.
    #[must_use]
    pub fn custom(
        def: ResourceDef,
        definition: Value,
        origin: (Key, Revision),
        former: Option<&Self>,
        now: Revision,
    ) -> Self {
        let mut row = Self::new(def, Some(definition), Some(origin));
        row.converter = row.definition.as_ref().and_then(Converter::of).map(Arc::new);
        row.schema_since = now;
        let meaning = |row: &Self| {
            let definition = row.definition.as_ref()?;
            let conversion = xebec_api::conversion::text_of(definition).map(str::to_owned);
            Some((definition.get("spec").cloned(), conversion))
        };
        if let Some(former) = former.filter(|former| meaning(former) == meaning(&row)) {
            row.replaced = former.replaced.clone();
            row.converter = former.converter.clone();
            row.schema_since = former.schema_since;
        }
        row
    }

    fn new(def: ResourceDef, definition: Option<Value>, origin: Option<(Key, Revision)>) -> Self {
        let stored = def.storage_resource();
        let group = if stored.group.is_empty() { "core" } else { &stored.group };
        let path = format!("{ROOT}/{group}/{}", stored.resource);
        let kind = kinds::of(&def.group, &def.names.plural);
        let strategy = strategy::of(&def.group, &def.names.plural);
        let selectable = selectable::fields(&def).into();
        let custom = definition.is_some();
        let heads = if custom { def.versions.iter().map(|v| head(&def, v)).collect() } else { Vec::new() };
        let replaced = Arc::default();
        let schema_since = Revision::ZERO;
        Self {
            def,
            kind,
            strategy,
            selectable,
            custom,
            definition,
            origin,
            converter: None,
            replaced,
            heads,
            schema_since,
            path,
        }
    }

    /// The group, as in error messages.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.def.group
    }

    /// The plural name.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.def.names.plural
    }

    /// The kind.
    #[must_use]
    pub fn kind_name(&self) -> &str {
        &self.def.names.kind
    }

    /// Whether the definition that made the row is being deleted: it takes no new objects.
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        let conditions = self.definition.iter().flat_map(|d| d.array_at(&["status", "conditions"]));
        let text = |condition: &Value, field: &str, want: &str| condition.str_at(&[field]) == Some(want);
        conditions.into_iter().any(|c| text(c, "type", "Terminating") && text(c, "status", "True"))
    }

    /// Whether a record may have been written by another schema than the row's: what it lacks by default is then to be
    /// filled in, and what is no longer known to be dropped.
    #[must_use]
    pub fn is_outdated(&self, record: &Record) -> bool {
        self.custom && record.mod_revision() <= self.schema_since
    }

    /// Where an object stands in the store.
    ///
    /// # Errors
    /// A name or namespace that no key can hold: 404 on reads; writes have checked the name before.
    pub fn key(&self, namespace: &str, name: &str) -> Result<Key, Status> {
        let path = if self.def.is_namespaced() {
            format!("{}/{namespace}/{name}", self.path)
        } else {
            format!("{}/{name}", self.path)
        };
        Key::new(path).map_err(|_| Status::not_found(self.group(), self.resource(), name))
    }

    /// Where the objects of a namespace stand, or with an empty namespace all objects.
    ///
    /// # Errors
    /// A namespace that no key can hold.
    pub fn prefix(&self, namespace: &str) -> Result<Prefix, Status> {
        let path = if namespace.is_empty() || !self.def.is_namespaced() {
            format!("{}/", self.path)
        } else {
            format!("{}/{namespace}/", self.path)
        };
        Prefix::new(path).map_err(|_| {
            let cause =
                xebec_api::Cause::invalid(FieldPath::new("metadata.namespace"), namespace, "not a namespace");
            Status::invalid(self.group(), self.kind_name(), "", vec![cause])
        })
    }
}

/// How the canonical bytes of an object begin: no field of an object's own is sorted before the version, or its bytes
/// begin otherwise.
fn head(def: &ResourceDef, version: &Version) -> Vec<u8> {
    let mut head = br#"{"apiVersion":"#.to_vec();
    json::write_str(&def.api_version(&version.name), &mut head);
    head.push(b',');
    head
}

/// A row and one of its served versions: what a path names.
#[derive(Clone, Debug)]
pub struct Served {
    /// The row.
    pub row: Arc<Row>,
    /// Index of the version in the row's definition.
    pub version: usize,
}

impl Served {
    /// The version.
    #[must_use]
    pub fn version(&self) -> &Version {
        &self.row.def.versions[self.version]
    }

    /// `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        self.row.def.api_version(&self.version().name)
    }

    /// The version that writes work in, from the client's object to the one that is stored: of a custom resource the one of the
    /// request, else the stored one.
    #[must_use]
    pub fn working(&self) -> &Version {
        if self.row.custom { self.version() } else { self.row.def.storage() }
    }

    /// Whether a custom resource's record is surely in this version, whatever schema it was written by. (One whose bytes begin
    /// otherwise than most may be in it too.)
    #[must_use]
    pub fn speaks(&self, record: &Record) -> bool {
        self.row.heads.get(self.version).is_some_and(|head| record.as_slice().starts_with(head))
    }

    /// Whether a record's object is stored in this version, so that its bytes can be passed on.
    ///
    /// A definition may come to store another version; objects stay in the one that they were last written in.
    #[must_use]
    pub fn holds(&self, record: &Record) -> bool {
        if self.row.custom { self.speaks(record) && !self.row.is_outdated(record) } else { self.is_stored() }
    }

    /// Whether objects are stored in this version; of a custom resource: those that are written now.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.version == self.row.def.storage_version && self.row.def.stored_as.is_none()
    }
}

/// All resources at one time.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Arc<Row>>,
    index: HashMap<GroupResource, usize>,
}

impl Table {
    fn of(rows: Vec<Arc<Row>>) -> Self {
        let index = rows.iter().enumerate().map(|(at, row)| (row.def.group_resource(), at)).collect();
        Self { rows, index }
    }

    /// The table of the built-in resources.
    #[must_use]
    pub fn built_in() -> Self {
        Self::of(
            xebec_api::builtin::resources().into_iter().map(|def| Arc::new(Row::built_in(def))).collect(),
        )
    }

    /// This table's built-in rows, followed by these custom ones.
    #[must_use]
    pub fn with_custom(&self, custom: impl IntoIterator<Item = Arc<Row>>) -> Self {
        let built_in = self.rows.iter().filter(|row| !row.custom).cloned();
        let mut custom: Vec<_> = custom.into_iter().collect();
        custom.sort_by_key(|row| row.def.group_resource());
        Self::of(built_in.chain(custom).collect())
    }

    /// All rows: built-in groups in the order of discovery, then custom ones by group and name.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.rows.iter()
    }

    /// The row of a resource.
    #[must_use]
    pub fn row(&self, group: &str, resource: &str) -> Option<&Arc<Row>> {
        let key = GroupResource { group: group.to_owned().into(), resource: resource.to_owned().into() };
        self.index.get(&key).map(|at| &self.rows[*at])
    }

    /// What a path names.
    ///
    /// # Errors
    /// 404 if no such resource is served in that version.
    pub fn served(&self, group: &str, version: &str, resource: &str) -> Result<Served, Status> {
        let row = self.row(group, resource).ok_or_else(Status::no_such_path)?;
        let index = row.def.versions.iter().position(|v| v.name == version && v.served);
        Ok(Served { row: row.clone(), version: index.ok_or_else(Status::no_such_path)? })
    }
}

/// The table in force.
#[derive(Debug)]
pub struct CurrentTable {
    table: RwLock<Arc<Table>>,
    /// Held by who makes the next one: two that begin with the same table would lose each other's rows.
    changing: Mutex<()>,
}

impl CurrentTable {
    /// Starts with a table.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self { table: RwLock::new(Arc::new(table)), changing: Mutex::new(()) }
    }

    /// The table in force.
    #[must_use]
    pub fn get(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another table in force, made from the one that is; changes wait for each other, readers do not. What was
    /// opened on rows that are replaced ends.
    pub fn change(&self, make: impl FnOnce(&Table) -> Table) {
        let _turn = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.get();
        let next = Arc::new(make(&last));
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = next.clone();
        let stays = |row: &Row| {
            let successor = next.row(row.group(), row.resource());
            successor.is_some_and(|successor| Arc::ptr_eq(&successor.replaced, &row.replaced))
        };
        last.rows().filter(|row| !stays(row)).for_each(|row| row.replaced.cancel());
    }
}
