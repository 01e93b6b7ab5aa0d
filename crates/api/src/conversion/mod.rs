//! Conversion by declaration: a definition of custom resources says in an annotation how its versions become each other.
//!
//! ```text
//!  annotation ──decode──▶ Bridge: rules of two versions ──┬─▶ convert: rules, then what the other version could not hold
//!                                                         └─▶ prove: examples of each version go there and back
//! ```
//!
//! The annotation [`ANNOTATION`] holds YAML. Fields that no rule names stay where they are; two versions that no bridge
//! joins differ by their names only. A rule says what one field is in each of two versions, and works both ways:
//!
//! ```yaml
//! acknowledgeLossy: [spec.legacy]            # what may be lost, after all
//! between:
//! - versions: [v1, v2]
//!   preserve: {v2: [spec.affinity]}          # kept in an annotation of the object while it is a v1
//!   rules:
//!   - {v1: spec.size, v2: spec.capacity.size}                                             # moved
//!   - {v1: spec.on, v2: spec.mode, values: [[true, Enabled], [false, Disabled]]}          # named otherwise
//!   - {v1: spec.image, v2: "spec.images[0]"}                                              # one, and the first of several
//!   - v1: {spec.timeout: "string(self.spec.seconds) + 's'"}                               # computed of the other version's
//!     v2: {spec.seconds: "duration(self.spec.timeout).getSeconds()"}                      # object, `self`
//!   - {v2: spec.replicas, default: 1}                                                     # only one version has it
//!   - {v1: spec.parts, v2: spec.pieces, each: [{v1: name, v2: title}]}                    # in every element of a list
//! ```
//!
//! Preserved values stand in the object's annotation [`DATA`]. One comes back when the object is converted back, unless the
//! other version's user has meanwhile changed what it stood for: that is when the object, with the value put back, is another
//! one as that version sees it.
//!
//! Nothing here does IO, and every expression has a budget.

mod decode;
mod example;
mod field;
mod keep;
mod pattern;
mod proof;
mod rule;
mod tree;

#[cfg(test)]
mod tests;

use xebec_cel::Budget;

use crate::error::Cause;
use crate::resource::{ResourceDef, Version};
use crate::structural::{self, Strictness};
use crate::{FieldPath, Value, crd, meta, object, yaml};

use self::field::Field;
pub use self::proof::{Loss, Proof};
use self::rule::Rule;

/// The annotation of a definition that declares how its versions are converted.
pub const ANNOTATION: &str = "xebec.dev/conversion";
/// The annotation of an object that holds what its version cannot.
pub const DATA: &str = "xebec.dev/conversion-data";
/// What all expressions of one conversion may cost, in the units of CEL.
const BUDGET: u64 = xebec_cel::limits::PER_CALL;

/// How the versions of one resource become each other.
#[derive(Debug)]
pub struct Declaration {
    forms: Vec<Form>,
    bridges: Vec<Bridge>,
    /// Fields of any version that may be lost.
    lossy: Vec<Vec<String>>,
}

/// A version of the resource.
#[derive(Debug)]
struct Form {
    api_version: String,
    version: Version,
    /// Its schema, as declared.
    schema: Value,
}

/// The rules between two versions.
#[derive(Debug)]
struct Bridge {
    /// The versions, by their places.
    ends: [usize; 2],
    rules: Vec<Rule>,
    /// What of each version is preserved in the other.
    preserve: [Vec<Field>; 2],
}

/// Why an object was not converted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// The definition has no such version.
    #[error("the definition has no version {0}")]
    NoVersion(String),
    /// A rule cannot be followed.
    #[error("{field} of {version}: {why}")]
    Rule {
        /// The version that was wanted.
        version: String,
        /// The field that was to be set.
        field: String,
        /// What is wrong.
        why: String,
    },
    /// There is more to preserve than an annotation may hold.
    #[error("what {version} cannot hold of the object takes more than {limit} bytes, which is the limit")]
    TooMuch {
        /// The version that was wanted.
        version: String,
        /// The limit.
        limit: usize,
    },
}

/// The text of a definition's declaration, if it has one.
#[must_use]
pub fn text_of(definition: &Value) -> Option<&str> {
    meta::annotation(definition, ANNOTATION)
}

/// What is wrong with a definition's declaration: it cannot be read, or the examples show that something is lost. One that
/// is as it was is not looked at again. All else of the definition must be valid.
#[must_use]
pub fn faults(definition: &Value, old: Option<&Value>) -> Vec<Cause> {
    let Some(text) = text_of(definition) else { return Vec::new() };
    let same = |old: &Value| text_of(old) == Some(text) && old.get("spec") == definition.get("spec");
    if old.is_some_and(same) {
        return Vec::new();
    }
    let path = FieldPath::new("metadata.annotations").key(ANNOTATION);
    let cause = |why: &String| Cause::invalid_part(path.clone(), why);
    match Declaration::read(definition) {
        Err(found) => found.iter().map(cause).collect(),
        Ok(None) => Vec::new(),
        Ok(Some(declaration)) => match declaration.prove() {
            Ok(Proof { losses, .. }) => losses.iter().map(|loss| cause(&loss.to_string())).collect(),
            Err(why) => vec![cause(&why)],
        },
    }
}

impl Declaration {
    /// The declaration of a definition, if it has one.
    ///
    /// # Errors
    /// What is wrong with it, or with the definition's schemas.
    pub fn read(definition: &Value) -> Result<Option<Self>, Vec<String>> {
        let Some(text) = text_of(definition) else { return Ok(None) };
        if definition.str_at(&["spec", "conversion", "strategy"]) == Some("Webhook") {
            return Err(vec![
                "spec.conversion.strategy is Webhook: versions are converted by one or the other".into(),
            ]);
        }
        let def = crd::resource(definition)
            .map_err(|causes| causes.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let tree = yaml::parse(text).map_err(|error| vec![format!("it is no YAML: {error}")])?;
        if let Some(first) = tree.duplicates.first() {
            return Err(vec![format!("{first} is said twice")]);
        }
        decode::declaration(&tree.value, forms(definition, def)).map(Some)
    }

    /// An object in the version `to` (`example.com/v2`). Its metadata stays, but for [`DATA`].
    ///
    /// # Errors
    /// A rule does not hold for it.
    pub fn convert(&self, object: Value, to: &str) -> Result<Value, ConvertError> {
        self.convert_within(object, to, &mut Budget::new(BUDGET))
    }

    fn convert_within(&self, object: Value, to: &str, budget: &mut Budget) -> Result<Value, ConvertError> {
        let from = self.place(object.str_at(&["apiVersion"]).unwrap_or_default())?;
        let to = self.place(to)?;
        if from == to {
            return Ok(object);
        }
        let Some(way) = self.way(from, to) else { return Ok(self.named(object, to)) };
        way.into_iter().try_fold(object, |object, (bridge, side)| self.cross(bridge, side, object, budget))
    }

    fn place(&self, api_version: &str) -> Result<usize, ConvertError> {
        let at = self.forms.iter().position(|form| form.api_version == api_version);
        at.ok_or_else(|| ConvertError::NoVersion(api_version.to_owned()))
    }

    fn name(&self, place: usize) -> &str {
        &self.forms[place].version.name
    }

    /// The fewest bridges that lead from one version to another, each with the side that it leads to; `None`: there is none.
    fn way(&self, from: usize, to: usize) -> Option<Vec<(&Bridge, usize)>> {
        let mut reached: Vec<(usize, Vec<(&Bridge, usize)>)> = vec![(from, Vec::new())];
        let mut next = 0;
        while let Some((here, way)) = reached.get(next).cloned() {
            if here == to {
                return Some(way);
            }
            next += 1;
            for bridge in &self.bridges {
                let Some(side) = bridge.ends.iter().position(|end| *end == here).map(|side| 1 - side) else {
                    continue;
                };
                let there = bridge.ends[side];
                if reached.iter().all(|(known, _)| *known != there) {
                    let mut longer = way.clone();
                    longer.push((bridge, side));
                    reached.push((there, longer));
                }
            }
        }
        None
    }

    /// The object as one of another version that differs by its name, and follows its schema.
    fn named(&self, mut object: Value, to: usize) -> Value {
        object.set(&["apiVersion"], self.forms[to].api_version.as_str());
        self.settle(&mut object, to);
        object
    }

    /// Drops what the version's schema does not know, and fills in what it has defaults for.
    fn settle(&self, object: &mut Value, place: usize) {
        let root = self.forms[place].version.root();
        structural::decode(object, root, Strictness::Custom);
        structural::default(object, root);
    }

    /// Converts over one bridge, to its side `to`.
    fn cross(
        &self,
        bridge: &Bridge,
        to: usize,
        mut object: Value,
        budget: &mut Budget,
    ) -> Result<Value, ConvertError> {
        let kept = keep::take(&mut object, self.name(bridge.ends[to]));
        let mut converted = self.follow(bridge, to, &object, budget)?;
        self.put_back(bridge, to, kept, &mut converted, budget)?;
        rule::fill(&bridge.rules, to, &mut converted);
        self.settle(&mut converted, bridge.ends[to]);
        self.preserve(bridge, to, &object, &mut converted, budget)?;
        Ok(converted)
    }

    /// The object as the rules alone make it.
    fn follow(
        &self,
        bridge: &Bridge,
        to: usize,
        object: &Value,
        budget: &mut Budget,
    ) -> Result<Value, ConvertError> {
        let place = bridge.ends[to];
        let mut converted = object.clone();
        rule::apply(&bridge.rules, to, object, &mut converted, budget).map_err(|fault| {
            ConvertError::Rule { version: self.name(place).to_owned(), field: fault.field, why: fault.why }
        })?;
        Ok(self.named(converted, place))
    }
}

fn forms(definition: &Value, def: ResourceDef) -> Vec<Form> {
    let declared = definition.array_at(&["spec", "versions"]).iter();
    let schemas =
        declared.map(|v| v.at(&["schema", "openAPIV3Schema"]).cloned().unwrap_or_else(|| object!({})));
    let group = def.group.clone();
    let api_version = |version: &Version| format!("{group}/{}", version.name);
    let pairs = def.versions.into_iter().zip(schemas);
    pairs.map(|(version, schema)| Form { api_version: api_version(&version), version, schema }).collect()
}
