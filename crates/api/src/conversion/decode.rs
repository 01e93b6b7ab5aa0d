//! From a declaration's tree to rules: everything in it is known, leads to fields that there are, and has fitting types.

use std::sync::Arc;

use xebec_cel::{CompileError, Env, Schema, Type};

use super::field::Field;
use super::rule::{Computed, Rule};
use super::{Bridge, Declaration, Form};
use crate::rules::declare;
use crate::{Map, Value, json};

/// How many bridges a declaration has, rules a bridge, with those of elements, and values a rule.
const MAX_BRIDGES: usize = 32;
const MAX_RULES: usize = 256;
const MAX_VALUES: usize = 256;
/// How deep `each` may stand within `each`.
const MAX_EACH: usize = 4;
/// How many fields of a version are preserved.
const MAX_PRESERVED: usize = 32;
/// How many faults are told of.
const MAX_FAULTS: usize = 16;

/// The variable that the other version's object is.
const SELF: &str = "self";

/// Reads a declaration.
pub(super) fn declaration(tree: &Value, forms: Vec<Form>) -> Result<Declaration, Vec<String>> {
    let mut decoder = Decoder { forms: &forms, rules: 0, faults: Vec::new() };
    let (bridges, lossy) = decoder.whole(tree);
    let faults = decoder.faults;
    if faults.is_empty() { Ok(Declaration { forms, bridges, lossy }) } else { Err(faults) }
}

struct Decoder<'f> {
    forms: &'f [Form],
    rules: usize,
    faults: Vec<String>,
}

/// Two versions: their names, and the schemas of the objects whose fields rules name.
#[derive(Clone, Copy)]
struct Sides<'s> {
    names: [&'s str; 2],
    schemas: [&'s Value; 2],
    /// Whether they are whole objects, and not elements of a list.
    whole: bool,
    depth: usize,
}

/// What of a rule's side is written.
enum Written {
    Field(Field),
    Computed(Vec<(Field, String)>),
}

impl Decoder<'_> {
    fn fault(&mut self, at: &str, why: impl std::fmt::Display) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(format!("{at}: {why}"));
        }
    }

    /// The members of an object, all of which must be known.
    fn members<'t>(&mut self, tree: &'t Value, at: &str, known: &[&str]) -> Option<&'t Map> {
        let Some(map) = tree.as_object() else {
            self.fault(at, format_args!("must be an object, but is of type {}", tree.type_name()));
            return None;
        };
        for name in map.keys().filter(|name| !known.contains(name)) {
            self.fault(at, format_args!("there is no {name:?} here, but {}", known.join(", ")));
        }
        Some(map)
    }

    fn list<'t>(&mut self, tree: Option<&'t Value>, at: &str, most: usize) -> &'t [Value] {
        match tree {
            None | Some(Value::Null) => &[],
            Some(Value::Array(items)) if items.len() <= most => items,
            Some(Value::Array(items)) => {
                self.fault(at, format_args!("has {} elements; at most {most} are allowed", items.len()));
                &[]
            }
            Some(other) => {
                self.fault(at, format_args!("must be a list, but is of type {}", other.type_name()));
                &[]
            }
        }
    }

    fn whole(&mut self, tree: &Value) -> (Vec<Bridge>, Vec<Vec<String>>) {
        let Some(map) = self.members(tree, "the declaration", &["between", "acknowledgeLossy"]) else {
            return Default::default();
        };
        let mut lossy = Vec::new();
        for (i, path) in
            self.list(map.get("acknowledgeLossy"), "acknowledgeLossy", MAX_RULES).iter().enumerate()
        {
            match path.as_str() {
                Some(path) if !path.is_empty() => lossy.push(path.split('.').map(str::to_owned).collect()),
                _ => self.fault(&format!("acknowledgeLossy[{i}]"), "must be the path of a field"),
            }
        }
        let mut bridges: Vec<Bridge> = Vec::new();
        let between = self.list(map.get("between"), "between", MAX_BRIDGES);
        for (i, bridge) in between.iter().enumerate() {
            let at = format!("between[{i}]");
            let Some(bridge) = self.bridge(bridge, &at) else { continue };
            let same = |other: &Bridge| bridge.ends.iter().all(|end| other.ends.contains(end));
            if bridges.iter().any(same) {
                self.fault(&at, "the same two versions come twice");
            }
            bridges.push(bridge);
        }
        if between.is_empty() {
            self.fault("between", "must name at least two versions");
        }
        (bridges, lossy)
    }

    fn bridge(&mut self, tree: &Value, at: &str) -> Option<Bridge> {
        let map = self.members(tree, at, &["versions", "rules", "preserve"])?;
        let versions = self.list(map.get("versions"), &format!("{at}.versions"), 2);
        let names: Vec<&str> = versions.iter().filter_map(Value::as_str).collect();
        let [first, second] = names.as_slice() else {
            self.fault(&format!("{at}.versions"), "must be the names of two versions");
            return None;
        };
        if first == second || [first, second].iter().any(|n| ["values", "default", "each"].contains(*n)) {
            self.fault(&format!("{at}.versions"), "must be two, and none called values, default or each");
            return None;
        }
        let mut ends = [0; 2];
        for (end, name) in ends.iter_mut().zip([first, second]) {
            match self.forms.iter().position(|form| form.version.name == **name) {
                Some(place) => *end = place,
                None => {
                    self.fault(
                        &format!("{at}.versions"),
                        format_args!("the definition has no version {name:?}"),
                    );
                    return None;
                }
            }
        }
        let forms = self.forms;
        let schemas = ends.map(|end| &forms[end].schema);
        let sides = Sides { names: [first, second], schemas, whole: true, depth: 0 };
        let rules = self.rules(map.get("rules"), &format!("{at}.rules"), sides);
        let preserve = self.preserve(map.get("preserve"), &format!("{at}.preserve"), sides);
        Some(Bridge { ends, rules, preserve })
    }

    fn preserve(&mut self, tree: Option<&Value>, at: &str, sides: Sides<'_>) -> [Vec<Field>; 2] {
        let Some(tree) = tree else { return Default::default() };
        let Some(map) = self.members(tree, at, &sides.names) else { return Default::default() };
        [0, 1].map(|side| {
            let at = format!("{at}.{}", sides.names[side]);
            let mut fields: Vec<Field> = Vec::new();
            for text in self.list(map.get(sides.names[side]), &at, MAX_PRESERVED) {
                let Some(field) = self.field(text, &at, sides, side) else { continue };
                if field.is_first() || fields.iter().any(|other| other.overlaps(&field)) {
                    self.fault(
                        &at,
                        format_args!("{field}: must be a field, and none within another one here"),
                    );
                }
                fields.push(field);
            }
            fields
        })
    }

    fn field(&mut self, text: &Value, at: &str, sides: Sides<'_>, side: usize) -> Option<Field> {
        let read =
            text.as_str().ok_or_else(|| "must be the path of a field".to_owned()).and_then(Field::parse);
        let field = match read {
            Ok(field) => field,
            Err(why) => {
                self.fault(at, why);
                return None;
            }
        };
        if sides.whole && field.is_identity() {
            self.fault(
                at,
                format_args!("{field}: apiVersion, kind and metadata are the same in all versions"),
            );
            return None;
        }
        if field.schema(sides.schemas[side]).is_none() {
            self.fault(at, format_args!("{field}: the schema of {} has no such field", sides.names[side]));
            return None;
        }
        Some(field)
    }

    fn rules(&mut self, tree: Option<&Value>, at: &str, sides: Sides<'_>) -> Vec<Rule> {
        let all = self.list(tree, at, MAX_RULES);
        self.rules += all.len();
        if self.rules > MAX_RULES {
            self.fault(at, format_args!("there are more than {MAX_RULES} rules, which is the limit"));
            return Vec::new();
        }
        let read = |(i, rule)| self.rule(rule, &format!("{at}[{i}]"), sides);
        let rules: Vec<Rule> = all.iter().enumerate().filter_map(read).collect();
        for side in [0, 1] {
            let fields: Vec<&Field> = rules.iter().flat_map(|rule| rule.fields(side)).collect();
            for (i, field) in fields.iter().enumerate() {
                if fields[..i].iter().any(|other| other.overlaps(field)) {
                    let name = sides.names[side];
                    self.fault(
                        at,
                        format_args!("{field} of {name}, or what is around it, stands in two rules"),
                    );
                }
            }
        }
        rules
    }

    fn rule(&mut self, tree: &Value, at: &str, sides: Sides<'_>) -> Option<Rule> {
        let [first, second] = sides.names;
        let map = self.members(tree, at, &[first, second, "values", "default", "each"])?;
        let here = sides.names.map(|name| map.contains(name));
        let written = |decoder: &mut Self, side: usize| {
            let value = map.get(sides.names[side])?;
            decoder.written(value, &format!("{at}.{}", sides.names[side]), sides, side)
        };
        let has = |name: &str| map.contains(name);
        match here {
            [false, false] => {
                self.fault(at, format_args!("names no field of {first} or {second}"));
                None
            }
            [true, true] => match (written(self, 0)?, written(self, 1)?) {
                (Written::Field(a), Written::Field(b)) if !has("default") => {
                    self.moved([a, b], map, at, sides)
                }
                (Written::Computed(a), Written::Computed(b))
                    if !["default", "values", "each"].iter().any(|n| has(n)) =>
                {
                    self.computed([a, b], at, sides)
                }
                _ => {
                    let why = "is either two paths, perhaps with values or each, or expressions on both sides, or one side alone";
                    self.fault(at, why);
                    None
                }
            },
            [one, _] => {
                let side = usize::from(!one);
                match written(self, side)? {
                    Written::Field(field) if !has("values") && !has("each") => {
                        Some(Rule::Only { side, field, default: map.get("default").cloned() })
                    }
                    Written::Computed(fields) if !["default", "values", "each"].iter().any(|n| has(n)) => {
                        let mut both = [Vec::new(), Vec::new()];
                        both[side] = fields;
                        self.computed(both, at, sides)
                    }
                    _ => {
                        self.fault(
                            at,
                            "values and each want a field of both versions, default a path of one",
                        );
                        None
                    }
                }
            }
        }
    }

    fn written(&mut self, value: &Value, at: &str, sides: Sides<'_>, side: usize) -> Option<Written> {
        let Some(map) = value.as_object() else {
            return self.field(value, at, sides, side).map(Written::Field);
        };
        let mut fields = Vec::new();
        for (path, expression) in map.iter() {
            let field = self.field(&Value::from(path), at, sides, side)?;
            let Some(expression) = expression.as_str() else {
                self.fault(at, format_args!("{field}: must be an expression (CEL), a string"));
                return None;
            };
            fields.push((field, expression.to_owned()));
        }
        Some(Written::Computed(fields))
    }

    fn moved(&mut self, fields: [Field; 2], map: &Map, at: &str, sides: Sides<'_>) -> Option<Rule> {
        let mut values: Vec<[Value; 2]> = Vec::new();
        for (i, pair) in self.list(map.get("values"), &format!("{at}.values"), MAX_VALUES).iter().enumerate()
        {
            match pair.as_array() {
                Some([a, b]) => values.push([a.clone(), b.clone()]),
                _ => self.fault(
                    &format!("{at}.values[{i}]"),
                    "must be the value in one version and the one in the other",
                ),
            }
        }
        for side in [0, 1] {
            let text = |i: usize| json::to_vec(&values[i][side]);
            if (0..values.len()).any(|i| (0..i).any(|j| text(i) == text(j))) {
                self.fault(
                    &format!("{at}.values"),
                    format_args!("a value of {} comes twice", sides.names[side]),
                );
            }
        }
        let mut each = Vec::new();
        if let Some(rules) = map.get("each") {
            let items = |side: usize| {
                let schema = fields[side].schema(sides.schemas[side])?;
                (schema.str_at(&["type"]) == Some("array")).then(|| schema.get("items")).flatten()
            };
            match (items(0), items(1)) {
                (Some(a), Some(b)) if sides.depth < MAX_EACH => {
                    let within = Sides { schemas: [a, b], whole: false, depth: sides.depth + 1, ..sides };
                    each = self.rules(Some(rules), &format!("{at}.each"), within);
                }
                (Some(_), Some(_)) => {
                    self.fault(at, format_args!("each stands within {MAX_EACH} others, which is the limit"));
                }
                _ => self.fault(at, "each wants a list in both versions"),
            }
        }
        Some(Rule::Move { fields, values, each })
    }

    fn computed(
        &mut self,
        sides_fields: [Vec<(Field, String)>; 2],
        at: &str,
        sides: Sides<'_>,
    ) -> Option<Rule> {
        let mut made = [Vec::new(), Vec::new()];
        for (side, fields) in sides_fields.into_iter().enumerate() {
            let other = declare(sides.schemas[1 - side], "otherType", sides.whole).map(Arc::new);
            let env = match &other {
                Some(schema) => Env::new().variable_of(SELF, schema),
                None => Env::new().variable(SELF, Type::Dyn),
            };
            for (field, text) in fields {
                let at = format!("{at}.{}: {field}", sides.names[side]);
                let wanted =
                    field.schema(sides.schemas[side]).and_then(|schema| declare(schema, "ownType", false));
                match compile(&env, &text, wanted.as_ref()) {
                    Ok(program) => made[side].push(Computed { field, program, schema: other.clone() }),
                    Err(why) => self.fault(&at, why),
                }
            }
        }
        Some(Rule::Compute(made))
    }
}

fn compile(env: &Env, text: &str, wanted: Option<&Schema>) -> Result<xebec_cel::Program, String> {
    let program = env.compile(text).map_err(|error| match error {
        CompileError::Issues(issues) => format!("compilation failed: {issues}"),
        CompileError::Program(why) => format!("program instantiation failed: {why}"),
    })?;
    let (found, wanted) = (program.result_type(), wanted.map_or(Type::Dyn, Schema::type_of));
    if fits(found, &wanted) {
        return Ok(program);
    }
    Err(format!("the expression is of type {found}, but the field of type {wanted}"))
}

/// Whether a value of a type can be written where another one is wanted.
fn fits(found: &Type, wanted: &Type) -> bool {
    match (found, wanted) {
        (Type::Dyn, _) | (_, Type::Dyn) => true,
        (Type::Opaque(name, parts), wanted) if &**name == "optional_type" => {
            parts.as_slice().iter().all(|part| fits(part, wanted))
        }
        (Type::Int | Type::Uint, Type::Int | Type::Double) => true,
        // These are strings in the tree.
        (Type::String, Type::Timestamp | Type::Duration | Type::Bytes) | (Type::Bytes, Type::String) => true,
        // What an object must look like the examples show.
        (Type::Map(_) | Type::Object(_), Type::Object(_)) | (Type::Object(_), Type::Map(_)) => true,
        (Type::List(a), Type::List(b)) | (Type::Map(a), Type::Map(b)) => {
            a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| fits(a, b))
        }
        (found, wanted) => found == wanted,
    }
}
