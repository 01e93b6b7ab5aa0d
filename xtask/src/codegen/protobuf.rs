//! Joins the arena of types with the protobuf messages: how each type is written on the wire.
//!
//! A property and a message's field meet by name. A message's field that is no property is a struct that Go embeds
//! (`Volume.volumeSource`): its fields are properties of the type that embeds it. What `k8s-pb` does not know yet stands
//! in [`NEW`].

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::markers::join_name;
use super::messages::{self, Label, Messages};
use super::presence::Presences;
use super::schema::{Arena, Node, Prop, Ty};

/// Fields of messages that are newer than `k8s-pb`: definition, then number and property.
const NEW: &[(&str, &[(u16, &str)])] = &[
    ("io.k8s.api.admissionregistration.v1.ApplyConfiguration", &[(1, "expression")]),
    ("io.k8s.api.admissionregistration.v1.JSONPatch", &[(1, "expression")]),
    ("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy", &[(1, "metadata"), (2, "spec")]),
    ("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding", &[(1, "metadata"), (2, "spec")]),
    (
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBindingList",
        &[(1, "metadata"), (2, "items")],
    ),
    (
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBindingSpec",
        &[(1, "policyName"), (2, "paramRef"), (3, "matchResources")],
    ),
    ("io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyList", &[(1, "metadata"), (2, "items")]),
    (
        "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicySpec",
        &[
            (1, "paramKind"),
            (2, "matchConstraints"),
            (3, "variables"),
            (4, "mutations"),
            (5, "failurePolicy"),
            (6, "matchConditions"),
            (7, "reinvocationPolicy"),
        ],
    ),
    (
        "io.k8s.api.admissionregistration.v1.Mutation",
        &[(2, "patchType"), (3, "applyConfiguration"), (4, "jsonPatch")],
    ),
    ("io.k8s.api.core.v1.ImageVolumeStatus", &[(1, "imageRef")]),
    (
        "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus",
        &[(1, "resourceClaimName"), (2, "containers"), (3, "resources")],
    ),
    ("io.k8s.api.core.v1.PodSchedulingGroup", &[(1, "podGroupName")]),
    ("io.k8s.api.core.v1.PodSpec", &[(43, "schedulingGroup")]),
    ("io.k8s.api.core.v1.PodStatus", &[(21, "nodeAllocatableResourceClaimStatuses")]),
    ("io.k8s.api.core.v1.ResourceHealth", &[(6, "message")]),
    ("io.k8s.api.core.v1.VolumeMountStatus", &[(5, "volumeStatus")]),
    ("io.k8s.api.core.v1.VolumeStatus", &[(1, "image")]),
    ("io.k8s.api.resource.v1.Device", &[(13, "nodeAllocatableResourceMappings")]),
    ("io.k8s.api.resource.v1.DeviceAttribute", &[(6, "ints"), (7, "bools"), (8, "strings"), (9, "versions")]),
    (
        "io.k8s.api.resource.v1.NodeAllocatableResourceMapping",
        &[(1, "capacityKey"), (2, "allocationMultiplier")],
    ),
    ("io.k8s.api.storage.v1.CSIDriverSpec", &[(11, "preventPodSchedulingIfMissing")]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta", &[(5, "shardInfo")]),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ShardInfo", &[(1, "selector")]),
];

/// Fields of `k8s-pb` that Kubernetes 1.36 has no more: definition and field.
const GONE: &[(&str, &str)] = &[("io.k8s.api.core.v1.PodSpec", "workloadref")];

/// The messages that only protobuf's users see, and their metadata.
const PARTIAL: [(&str, &str); 2] = [
    ("PartialObjectMetadata", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"),
    ("PartialObjectMetadataList", "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
];

/// Definitions that are never written as protobuf.
const WITHOUT: &[&str] = &["io.k8s.apimachinery.pkg.version.Info"];

/// A message.
pub(super) struct Message {
    pub(super) name: String,
    /// The node of its definition; an embedded struct has none.
    pub(super) node: Option<usize>,
    /// Sorted by number.
    pub(super) fields: Vec<Field>,
}

/// A message's field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u16,
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
    pub(super) presence: Presence,
}

/// How often a field comes, and how it stands in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    Map,
    Inline,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bytes,
    Int32,
    Int64,
    Bool,
    Double,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Raw,
    Texts,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrTexts,
    Message(usize),
}

/// What Go's type says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// A pointer: it may be absent, and what it points to may be zero.
    Optional,
    /// A value whose zero JSON shows.
    Kept,
    /// A value whose zero JSON leaves out.
    Dropped,
}

/// Joins arena and messages: the messages of definitions in the order of their nodes, then embedded structs, then the
/// two of [`PARTIAL`].
pub(super) fn join(arena: &Arena, sources: &Messages, presences: &Presences) -> Result<Vec<Message>> {
    let written = arena
        .definitions
        .iter()
        .filter(|(name, id)| arena.nodes[**id].ty == Ty::Object && !WITHOUT.contains(&name.as_str()));
    let of_node: BTreeMap<usize, usize> = written.zip(0..).map(|((_, id), message)| (*id, message)).collect();
    let named =
        |id: &usize| Message { name: arena.nodes[*id].name.clone(), node: Some(*id), fields: Vec::new() };
    let messages = of_node.keys().map(named).collect();
    let mut joiner = Joiner { arena, sources, presences, of_node, messages, unused: presences.clone() };
    let mut faults = Vec::new();
    for (id, message) in joiner.of_node.clone() {
        match joiner.message(&arena.nodes[id]) {
            Ok(fields) => joiner.messages[message].fields = fields,
            Err(fault) => faults.push(format!("{}: {fault:#}", arena.nodes[id].name)),
        }
    }
    faults.extend(joiner.unused.keys().map(|(name, field)| format!("presence.txt: {name} has no {field}")));
    ensure!(faults.is_empty(), "types and messages do not meet:\n{}", faults.join("\n"));
    joiner.partial()?;
    Ok(joiner.messages)
}

struct Joiner<'a> {
    arena: &'a Arena,
    sources: &'a Messages,
    presences: &'a Presences,
    of_node: BTreeMap<usize, usize>,
    messages: Vec<Message>,
    unused: Presences,
}

impl Joiner<'_> {
    /// The fields of a definition's message. Every property must be met, but for the type's own name.
    fn message(&mut self, node: &Node) -> Result<Vec<Field>> {
        let mut left: BTreeMap<String, &Prop> = node.props.iter().map(|p| (join_name(&p.name), p)).collect();
        ensure!(left.len() == node.props.len(), "two properties have the same joined name");
        let mut fields = Vec::new();
        let new = NEW.iter().find(|(name, _)| *name == node.name).map_or([].as_slice(), |(_, f)| f);
        for (number, name) in new {
            let prop = left.remove(&join_name(name)).with_context(|| format!("no property {name}"))?;
            fields.push(self.field(node, prop, *number, false)?);
        }
        match self.sources.get(&join_name(&node.name)) {
            Some(source) => fields.extend(self.fields(node, source, &mut left)?),
            None => ensure!(!new.is_empty(), "there is no such message"),
        }
        left.retain(|name, _| !matches!(name.as_str(), "apiversion" | "kind"));
        ensure!(left.is_empty(), "the message has no fields {:?}", left.keys());
        sorted(fields)
    }

    /// The fields of a message, whose properties are taken out of `left`.
    fn fields(
        &mut self,
        node: &Node,
        source: &messages::Message,
        left: &mut BTreeMap<String, &Prop>,
    ) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        for (name, from) in source {
            if GONE.contains(&(node.name.as_str(), name)) {
                continue;
            }
            let field = match left.remove(name) {
                Some(prop) => {
                    let field = self.field(node, prop, from.number, from.label == Label::Optional)?;
                    self.check(&field, from).with_context(|| format!("in {}", prop.name))?;
                    field
                }
                None => self.embedded(node, name, from, left).with_context(|| format!("in {name}"))?,
            };
            fields.push(field);
        }
        Ok(fields)
    }

    fn embedded(
        &mut self,
        node: &Node,
        name: &str,
        from: &messages::Field,
        left: &mut BTreeMap<String, &Prop>,
    ) -> Result<Field> {
        ensure!(from.label == Label::Optional, "neither a property nor an embedded struct");
        let (package, _) = node.name.rsplit_once('.').context("a definition has a package")?;
        let key = format!("{}.{}", join_name(package), from.ty);
        let source = self.sources.get(&key).context("neither a property nor a message of the package")?;
        let fields = sorted(self.fields(node, source, left)?)?;
        let id = self.messages.len();
        self.messages.push(Message { name: format!("{}.{name}", node.name), node: None, fields });
        Ok(Field {
            number: from.number,
            name: name.to_owned(),
            shape: Shape::Inline,
            kind: Kind::Message(id),
            presence: Presence::Kept,
        })
    }

    fn field(&mut self, node: &Node, prop: &Prop, number: u16, once: bool) -> Result<Field> {
        let ty = &self.arena.nodes[prop.node];
        let (shape, kind) = self.shape(ty, once).with_context(|| format!("in {}", prop.name))?;
        let presence = self.presence(node, prop, shape, kind)?;
        Ok(Field { number, name: prop.name.clone(), shape, kind, presence })
    }

    /// A list that comes only `once` is one message that holds it.
    fn shape(&self, ty: &Node, once: bool) -> Result<(Shape, Kind)> {
        let items = &self.arena.nodes[ty.items];
        match ty.ty {
            Ty::List if once => Ok((Shape::One, Kind::Texts)),
            Ty::List => Ok((Shape::List, self.kind(items)?)),
            Ty::Map if items.ty == Ty::List => Ok((Shape::Map, Kind::Texts)),
            Ty::Map => Ok((Shape::Map, self.kind(items)?)),
            _ => Ok((Shape::One, self.kind(ty)?)),
        }
    }

    fn kind(&self, ty: &Node) -> Result<Kind> {
        Ok(match ty.ty {
            Ty::String => Kind::Text,
            Ty::Bytes => Kind::Bytes,
            Ty::Time => Kind::Time,
            Ty::MicroTime => Kind::MicroTime,
            Ty::Quantity => Kind::Quantity,
            Ty::IntOrString => Kind::IntOrString,
            Ty::Int32 => Kind::Int32,
            Ty::Int64 => Kind::Int64,
            Ty::Number => Kind::Double,
            Ty::Boolean => Kind::Bool,
            Ty::Object => {
                let id = self.arena.definitions.get(&ty.name).context("an object without a definition")?;
                Kind::Message(*self.of_node.get(id).context("a definition without a message")?)
            }
            Ty::Any => match ty.name.rsplit('.').next().unwrap_or_default() {
                "JSON" | "RawExtension" | "FieldsV1" => Kind::Raw,
                "JSONSchemaPropsOrArray" => Kind::SchemaOrArray,
                "JSONSchemaPropsOrBool" => Kind::SchemaOrBool,
                "JSONSchemaPropsOrStringArray" => Kind::SchemaOrTexts,
                other => bail!("no message is known for {other:?}"),
            },
            Ty::List | Ty::Map => bail!("a list of lists or maps"),
        })
    }

    /// Without a mark, what is required is kept and the rest is dropped; messages are pointers, but for the parts that
    /// every object has.
    fn presence(&mut self, node: &Node, prop: &Prop, shape: Shape, kind: Kind) -> Result<Presence> {
        let scalar = matches!(
            kind,
            Kind::Text | Kind::Bytes | Kind::Int32 | Kind::Int64 | Kind::Bool | Kind::Double | Kind::Texts
        );
        let message = shape == Shape::One && !scalar;
        let part = matches!(prop.name.as_str(), "metadata" | "spec" | "status");
        let rule = match () {
            () if prop.required || message && part => Presence::Kept,
            () if message => Presence::Optional,
            () => Presence::Dropped,
        };
        let key = (node.name.clone(), prop.name.clone());
        let Some(mark) = self.presences.get(&key) else { return Ok(rule) };
        self.unused.remove(&key);
        ensure!(*mark != rule, "presence.txt marks {} as the rule has it", prop.name);
        ensure!(
            *mark != Presence::Optional || shape == Shape::One,
            "presence.txt marks {}, which is a list or a map, as a pointer",
            prop.name
        );
        ensure!(*mark != Presence::Dropped || !message, "JSON never leaves the message {} out", prop.name);
        Ok(*mark)
    }

    /// `PartialObjectMetadata` and its list, which are no published definitions.
    fn partial(&mut self) -> Result<()> {
        let item = self.messages.len();
        for (name, metadata) in PARTIAL {
            let id = self.arena.definitions.get(metadata).context("metadata is a definition")?;
            let metadata = Kind::Message(*self.of_node.get(id).context("metadata is a message")?);
            let kept = |number: u16, name: &str, shape, kind| Field {
                number,
                name: name.to_owned(),
                shape,
                kind,
                presence: Presence::Kept,
            };
            let mut fields = vec![kept(1, "metadata", Shape::One, metadata)];
            if name.ends_with("List") {
                fields.push(kept(2, "items", Shape::List, Kind::Message(item)));
            }
            self.messages.push(Message { name: name.to_owned(), node: None, fields });
        }
        Ok(())
    }

    /// The published type and the message must say the same.
    fn check(&self, field: &Field, from: &messages::Field) -> Result<()> {
        let label = match field.shape {
            Shape::One | Shape::Inline => Label::Optional,
            Shape::List => Label::Repeated,
            Shape::Map => Label::Map,
        };
        let names: &[&str] = match field.kind {
            Kind::Text => &["string"],
            Kind::Bytes => &["bytes"],
            Kind::Int32 => &["int32"],
            Kind::Int64 => &["int64"],
            Kind::Bool => &["bool"],
            Kind::Double => &["double"],
            Kind::Time => &["time"],
            Kind::MicroTime => &["microtime"],
            Kind::Quantity => &["quantity"],
            Kind::IntOrString => &["intorstring"],
            Kind::Raw => &["json", "rawextension", "fieldsv1"],
            Kind::Texts => &["extravalue", "verbs"],
            Kind::SchemaOrArray => &["jsonschemapropsorarray"],
            Kind::SchemaOrBool => &["jsonschemapropsorbool"],
            Kind::SchemaOrTexts => &["jsonschemapropsorstringarray"],
            Kind::Message(id) => &[&join_name(self.messages[id].name.rsplit('.').next().unwrap_or_default())],
        };
        let same = label == from.label && names.contains(&from.ty.as_str());
        ensure!(same, "{label:?} {names:?} is {from:?} there");
        Ok(())
    }
}

fn sorted(mut fields: Vec<Field>) -> Result<Vec<Field>> {
    fields.sort_by_key(|f| f.number);
    ensure!(fields.is_sorted_by(|a, b| a.number < b.number), "two fields have the same number");
    ensure!(fields.len() <= 64, "{} fields, over 64", fields.len());
    Ok(fields)
}
