//! A request as webhooks and policies see it, and its objects in the version that they want.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use xebec_api::resource::ScalePaths;
use xebec_api::structural::{self, Strictness};
use xebec_api::{Status, Value, meta, object};

use super::{Attributes, Operation};
use crate::core::{Context, Core};
use crate::registry::table::Served;
use crate::registry::write::Part;
use crate::registry::{convert, read};
use crate::subresources;

/// A request that webhooks and policies may see.
pub(crate) struct Subject<'a> {
    pub(crate) core: &'a Core,
    pub(crate) context: &'a Context,
    /// The resource, in the version of the request.
    pub(crate) served: &'a Served,
    /// Empty for what is in none; of a namespace itself its name.
    pub(crate) namespace: &'a str,
    /// The object's name; empty if it has none yet.
    pub(crate) name: String,
    /// Empty for the resource itself.
    pub(crate) subresource: &'a str,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub(crate) operation: &'static str,
    /// Whether it is only tried.
    pub(crate) dry_run: bool,
    /// What its objects are.
    pub(crate) shown: Shown,
    equivalents: OnceLock<Vec<Served>>,
}

/// The group of webhooks and policies.
const GROUP: &str = "admissionregistration.k8s.io";

/// What the objects of a request are.
#[derive(Debug)]
pub(crate) enum Shown {
    /// Objects of the resource, in the version that writes work in.
    Whole,
    /// The scales of those.
    Scale(ScalePaths),
    /// What was posted, or a connection's options, as they are.
    Other,
}

impl Shown {
    pub(crate) const fn is_whole(&self) -> bool {
        matches!(self, Self::Whole)
    }
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.operation, self.namespace, self.name)
    }
}

impl<'a> Subject<'a> {
    /// A write of an object.
    pub(super) fn of_write(
        core: &'a Core,
        attributes: &Attributes<'a>,
        object: &Value,
    ) -> Result<Self, Status> {
        let Attributes { context, target, .. } = *attributes;
        let scale = match target.part {
            Part::Other("scale") => {
                target.served.version().subresource("scale").and_then(|s| s.scale.clone())
            }
            _ => None,
        };
        Ok(Self {
            core,
            context,
            served: target.served,
            namespace: namespace_of(target.served, target.namespace, target.name),
            name: if target.name.is_empty() { meta::name(object).to_owned() } else { target.name.to_owned() },
            subresource: target.part.name(),
            operation: match attributes.operation {
                Operation::Create => "CREATE",
                Operation::Update => "UPDATE",
                Operation::Delete => "DELETE",
            },
            dry_run: attributes.dry_run || context.query.dry_run(),
            shown: scale.map_or(Shown::Whole, Shown::Scale),
            equivalents: OnceLock::new(),
        })
    }

    /// Something else that is done below an object: a connection, or a post to a subresource.
    pub(crate) fn below(
        core: &'a Core,
        context: &'a Context,
        served: &'a Served,
        target: &'a crate::http::route::Target,
        operation: &'static str,
    ) -> Result<Self, Status> {
        Ok(Self {
            core,
            context,
            served,
            namespace: namespace_of(served, &target.namespace, &target.name),
            name: target.name.clone(),
            subresource: &target.subresource,
            operation,
            dry_run: context.query.dry_run(),
            shown: Shown::Other,
            equivalents: OnceLock::new(),
        })
    }

    /// Whether no webhook may see it, or a bad one could not be mended.
    pub(super) fn is_exempt_from_webhooks(&self) -> bool {
        const CONFIGURATIONS: [&str; 2] =
            ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"];
        let row = &self.served.row;
        let configures = row.group() == GROUP && CONFIGURATIONS.contains(&row.resource());
        configures || self.is_exempt_from_policies()
    }

    /// Whether no policy may see it, or a bad one could not be mended.
    pub(super) fn is_exempt_from_policies(&self) -> bool {
        const POLICIES: [&str; 4] = [
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
        ];
        let row = &self.served.row;
        row.group() == GROUP && POLICIES.contains(&row.resource())
    }

    pub(super) fn is_namespace(&self) -> bool {
        self.served.row.group().is_empty() && self.served.row.resource() == "namespaces"
    }

    /// Whether a namespace has a say.
    pub(super) fn has_namespace(&self) -> bool {
        !self.namespace.is_empty() || self.is_namespace()
    }

    /// Whether the request makes or changes a namespace, so that what counts are its labels to be.
    pub(super) fn is_written_namespace(&self) -> bool {
        self.is_namespace() && self.subresource.is_empty() && matches!(self.operation, "CREATE" | "UPDATE")
    }

    /// The namespace that the request is in.
    pub(super) fn find_namespace(&self) -> Result<Value, Status> {
        let table = self.core.table.get();
        let row = table.row("", "namespaces").ok_or_else(Status::no_such_path)?;
        let snapshot = self.core.store.snapshot();
        convert::stored_object(read::find(&snapshot, row, "", self.namespace)?)
    }

    /// The other versions and groups in which the same objects are served.
    pub(super) fn equivalents(&self) -> &[Served] {
        self.equivalents.get_or_init(|| {
            let own = &self.served.row;
            let table = self.core.table.get();
            let rows = table.rows().filter(|row| {
                row.resource() == own.resource() && row.def.storage_resource() == own.def.storage_resource()
            });
            let mut all = Vec::new();
            for row in rows {
                for (version, def) in row.def.versions.iter().enumerate() {
                    let same = row.group() == own.group() && version == self.served.version;
                    let has = self.subresource.is_empty() || def.subresource(self.subresource).is_some();
                    if def.served && !same && has {
                        all.push(Served { row: row.clone(), version });
                    }
                }
            }
            all
        })
    }

    /// An object in the version `matched`; it is copied only if it has to be converted.
    pub(super) async fn see<'v>(
        &self,
        object: &'v Value,
        matched: &Served,
    ) -> Result<Cow<'v, Value>, Status> {
        if object.is_null() {
            return Ok(Cow::Borrowed(object));
        }
        match &self.shown {
            Shown::Whole if object.str_at(&["apiVersion"]) == Some(&matched.api_version()) => {
                Ok(Cow::Borrowed(object))
            }
            Shown::Whole => convert::to_served(self.core, object.clone(), matched).await.map(Cow::Owned),
            Shown::Scale(paths) => {
                let whole = convert::to_served(self.core, object.clone(), matched).await?;
                Ok(Cow::Owned(subresources::to_scale(&whole, paths)))
            }
            Shown::Other => Ok(Cow::Borrowed(object)),
        }
    }

    /// As [`Subject::see`], for who keeps or changes it.
    pub(super) async fn show(&self, object: &Value, matched: &Served) -> Result<Value, Status> {
        self.see(object, matched).await.map(Cow::into_owned)
    }

    /// What somebody made of an object in the version `matched` becomes what its kind has: of the right types, with defaults.
    ///
    /// # Errors
    /// What has another type than it may have.
    pub(super) fn complete(&self, made: &mut Value, matched: &Served) -> Result<(), String> {
        if !self.shown.is_whole() {
            return Ok(());
        }
        let row = &matched.row;
        let strictness = if row.custom { Strictness::Custom } else { Strictness::BuiltIn };
        let decoded = structural::decode(made, matched.version().root(), strictness);
        if !row.custom && !decoded.mistyped.is_empty() {
            let causes: Vec<String> = decoded.mistyped.iter().map(ToString::to_string).collect();
            return Err(causes.join(", "));
        }
        (row.kind.defaults)(made, &matched.version().name);
        structural::default(made, matched.version().root());
        Ok(())
    }

    /// Makes the object what was made of what was seen of it.
    pub(super) async fn take(&self, object: &mut Value, seen: Value, matched: &Served) -> Result<(), Status> {
        match &self.shown {
            Shown::Whole => *object = convert::to_working(self.core, seen, self.served).await?,
            Shown::Scale(paths) => {
                let mut whole = convert::to_served(self.core, object.clone(), matched).await?;
                let replicas = seen.i64_at(&["spec", "replicas"]).unwrap_or(0);
                whole.set(&subresources::split(&paths.spec_replicas), replicas);
                *object = convert::to_working(self.core, whole, self.served).await?;
            }
            Shown::Other => *object = seen,
        }
        Ok(())
    }

    /// Group, version and kind of the objects, in a version of the resource.
    pub(super) fn kind(&self, served: &Served) -> (String, String, String) {
        let own = (
            served.row.group().to_owned(),
            served.version().name.to_string(),
            served.row.kind_name().to_owned(),
        );
        match served.version().subresource(self.subresource) {
            Some(below) if !self.subresource.is_empty() => match &below.group_version {
                Some((group, version)) => (group.to_string(), version.to_string(), below.kind.to_string()),
                None => (own.0, own.1, below.kind.to_string()),
            },
            _ => own,
        }
    }

    /// The options of the request, as an object.
    pub(super) fn options(&self, shown: &Value) -> Value {
        let kind = match self.operation {
            "CREATE" => "CreateOptions",
            "UPDATE" => "UpdateOptions",
            "DELETE" => "DeleteOptions",
            _ => return shown.clone(),
        };
        let mut options = object!({"apiVersion": "meta.k8s.io/v1", "kind": kind});
        for field in ["fieldManager", "fieldValidation"] {
            if let Some(text) = self.context.query.get(field).filter(|_| kind != "DeleteOptions") {
                options.set(&[field], text);
            }
        }
        if self.dry_run {
            options.set(&["dryRun"], vec!["All"]);
        }
        options
    }

    /// The request of a review, as webhooks and expressions see it. Its object is `shown` in the version `matched`.
    pub(super) fn request(&self, matched: &Served, shown: &Value) -> Value {
        let kind = |served: &Served| {
            let (group, version, kind) = self.kind(served);
            object!({"group": group, "version": version, "kind": kind})
        };
        let resource = |served: &Served| {
            object!({
                "group": (served.row.group()), "version": (&*served.version().name),
                "resource": (served.row.resource())
            })
        };
        let mut request = object!({
            "kind": (kind(matched)),
            "resource": (resource(matched)),
            "requestKind": (kind(self.served)),
            "requestResource": (resource(self.served)),
            "operation": (self.operation),
            "userInfo": (self.context.user.to_value()),
            "dryRun": (self.dry_run),
            "options": (self.options(shown))
        });
        let texts = [
            ("name", self.name.as_str()),
            ("namespace", self.namespace),
            ("subResource", self.subresource),
            ("requestSubResource", self.subresource),
        ];
        for (field, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            request.set(&[field], text);
        }
        request
    }
}

/// The namespace of a request; a namespace itself is in itself.
fn namespace_of<'a>(served: &Served, namespace: &'a str, name: &'a str) -> &'a str {
    let is_namespace = served.row.group().is_empty() && served.row.resource() == "namespaces";
    if is_namespace && namespace.is_empty() { name } else { namespace }
}
