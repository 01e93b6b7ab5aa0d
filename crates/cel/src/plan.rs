//! A checked expression as what is to be done: names are places, overloads are functions, what does not depend on variables is
//! done already.

use std::collections::HashSet;
use std::sync::Arc;

use regex::Regex;

use crate::ast::{Expr, Fold, Kind, Literal, Name, op};
use crate::check::{Checked, Reference};
use crate::cost::Range;
use crate::cost::price::Price;
use crate::env::Env;
use crate::functions::search::Search;
use crate::functions::{self, Args, Fun, compare, lists, named};
use crate::meter::Meter;
use crate::parser::Parsed;
use crate::pattern;
use crate::program::{CompileError, Program};
use crate::value::{Bytes, Key, Map, Str, Value};

/// A step of an evaluation.
pub(crate) enum Node {
    Const(Value<'static>),
    Attribute(Box<Attribute>),
    Call(Box<Call>),
    /// A search for a pattern that is compiled already.
    Search(Box<PatternCall>),
    /// Whether two are equal, or are not.
    Equal {
        args: Box<[Node; 2]>,
        negated: bool,
        price: Price,
    },
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    NotStrictlyFalse(Box<Node>),
    /// The first of two optional values that is there; or a value instead of one that is not.
    Otherwise(Box<[Node; 2]>, Otherwise),
    /// Whether a value is one of a fixed set.
    Among(Box<Node>, HashSet<Vec<u8>>),
    List(Box<ListNode>),
    Map(Box<[MapNode]>),
    Object(Box<ObjectNode>),
    /// `all`, or `exists`.
    Quantifier(Box<Quantifier>),
    Fold(Box<FoldNode>),
    /// A value known by a name, found when it is first asked for.
    Bind(Box<[Node; 2]>),
    /// The accumulator at a place, grown by elements.
    Append(usize, Box<ListNode>),
    /// The accumulator at a place, grown by a key and a value, or by members.
    Insert(usize, Box<[Node]>),
}

#[derive(Clone, Copy)]
pub(crate) enum Otherwise {
    Optional,
    Value,
}

/// A value and what is picked out of it.
pub(crate) struct Attribute {
    pub(crate) base: Base,
    pub(crate) qualifiers: Vec<Qualifier>,
    /// Whether it is only asked if the last qualifier leads anywhere.
    pub(crate) test: bool,
}

pub(crate) enum Base {
    /// A variable, by its place in the environment.
    Variable(usize),
    /// A variable of a fold, by its place on the stack.
    Local(usize),
    Conditional(Box<[Node; 3]>),
    Value(Node),
}

pub(crate) struct Qualifier {
    pub(crate) key: QualifierKey,
    pub(crate) optional: bool,
}

pub(crate) enum QualifierKey {
    Field(Name),
    Const(Value<'static>),
    Dynamic(Node),
}

pub(crate) struct Call {
    pub(crate) function: Fun,
    pub(crate) args: Vec<Node>,
    pub(crate) price: Price,
}

pub(crate) struct PatternCall {
    pub(crate) search: Search,
    pub(crate) regex: Regex,
    pub(crate) args: Vec<Node>,
    pub(crate) price: Price,
}

pub(crate) struct ListNode {
    pub(crate) elements: Vec<(Node, bool)>,
}

pub(crate) struct MapNode {
    pub(crate) key: Node,
    pub(crate) value: Node,
    pub(crate) optional: bool,
}

pub(crate) struct ObjectNode {
    pub(crate) name: Arc<str>,
    pub(crate) fields: Vec<(Arc<str>, Node, bool)>,
}

pub(crate) struct Quantifier {
    pub(crate) range: Node,
    pub(crate) two: bool,
    /// Whether all must hold, or one must.
    pub(crate) all: bool,
    pub(crate) predicate: Node,
}

pub(crate) struct FoldNode {
    pub(crate) range: Node,
    pub(crate) two: bool,
    pub(crate) init: Node,
    /// `None` if it goes over everything.
    pub(crate) condition: Option<Node>,
    pub(crate) step: Node,
    pub(crate) result: Node,
}

/// Makes the program of a checked expression.
pub(crate) fn plan(
    env: &Env,
    parsed: &Parsed,
    checked: &Checked,
    estimate: Range,
) -> Result<Program, CompileError> {
    let root = Planner { checked, locals: Vec::new() }.node(&parsed.root)?;
    let used = (0..env.variables().len()).map(|index| checked.refers_to(index)).collect();
    let names = env.variables().iter().map(|variable| Arc::clone(&variable.name)).collect();
    let result = checked.type_of(&parsed.root).clone();
    Ok(Program { root, result, estimate, names, used, depth: parsed.depth })
}

type Planned = Result<Node, CompileError>;

struct Planner<'c> {
    checked: &'c Checked,
    /// Names of the places on the stack.
    locals: Vec<Name>,
}

fn refused<T>(why: impl std::fmt::Display) -> Result<T, CompileError> {
    Err(CompileError::Program(why.to_string()))
}

impl Planner<'_> {
    fn node(&mut self, expr: &Expr) -> Planned {
        match &expr.kind {
            Kind::Literal(literal) => Ok(Node::Const(literal_value(literal))),
            Kind::Broken => refused("the expression is broken"),
            Kind::Ident(name) => self.ident(expr, name),
            Kind::Select { operand, field, test } => {
                let mut attribute = self.attribute(operand)?;
                let key = QualifierKey::Field(Arc::clone(field));
                attribute.qualifiers.push(Qualifier { key, optional: false });
                attribute.test = *test;
                Ok(Node::Attribute(Box::new(attribute)))
            }
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List { elements, optional } => {
                let planned = self.list(elements, optional)?;
                Ok(folded_list(planned))
            }
            Kind::Map(entries) => {
                let mut planned = Vec::with_capacity(entries.len());
                for entry in entries {
                    let (key, value) = (self.node(&entry.key)?, self.node(&entry.value)?);
                    planned.push(MapNode { key, value, optional: entry.optional });
                }
                folded_map(planned)
            }
            Kind::Struct { name, fields } => {
                let mut planned = Vec::with_capacity(fields.len());
                for field in fields {
                    planned.push((Arc::clone(&field.name), self.node(&field.value)?, field.optional));
                }
                Ok(Node::Object(Box::new(ObjectNode { name: Arc::clone(name), fields: planned })))
            }
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&self, expr: &Expr, name: &str) -> Planned {
        let base = match self.checked.reference(expr.id) {
            Some(Reference::Type(name)) => return Ok(Node::Const(Value::Type(Arc::clone(name)))),
            Some(Reference::Variable(index)) => Base::Variable(*index),
            _ => match self.locals.iter().rposition(|local| &**local == name) {
                Some(place) => Base::Local(place),
                None => return refused(format!("no such attribute(s): {name}")),
            },
        };
        Ok(Node::Attribute(Box::new(Attribute { base, qualifiers: Vec::new(), test: false })))
    }

    /// A part as something to pick out of.
    fn attribute(&mut self, expr: &Expr) -> Result<Attribute, CompileError> {
        Ok(match self.node(expr)? {
            Node::Attribute(attribute) if !attribute.test => *attribute,
            other => Attribute { base: Base::Value(other), qualifiers: Vec::new(), test: false },
        })
    }

    fn list(&mut self, elements: &[Expr], optional: &[usize]) -> Result<ListNode, CompileError> {
        let mut planned = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            planned.push((self.node(element)?, optional.contains(&index)));
        }
        Ok(ListNode { elements: planned })
    }

    fn pair(&mut self, args: &[Expr]) -> Result<Box<[Node; 2]>, CompileError> {
        match args {
            [a, b] => Ok(Box::new([self.node(a)?, self.node(b)?])),
            _ => refused("an operator has two operands"),
        }
    }

    fn call(&mut self, expr: &Expr, function: &str, target: Option<&Expr>, args: &[Expr]) -> Planned {
        match function {
            op::AND => return Ok(Node::And(self.pair(args)?)),
            op::OR => return Ok(Node::Or(self.pair(args)?)),
            op::EQUALS | op::NOT_EQUALS => {
                let negated = function == op::NOT_EQUALS;
                let price = Price::of(function, Some(if negated { "not_equals" } else { "equals" }));
                return Ok(Node::Equal { args: self.pair(args)?, negated, price });
            }
            op::CONDITIONAL => return self.conditional(args),
            op::INDEX => return self.index(args, false),
            op::OPT_INDEX | op::OPT_SELECT => return self.index(args, true),
            op::NOT_STRICTLY_FALSE => {
                let [arg] = args else { return refused("an operator has one operand") };
                return Ok(Node::NotStrictlyFalse(Box::new(self.node(arg)?)));
            }
            _ => {}
        }
        if let (Some(target), "or" | "orValue", [arg]) = (target, function, args) {
            let otherwise = if function == "or" { Otherwise::Optional } else { Otherwise::Value };
            return Ok(Node::Otherwise(Box::new([self.node(target)?, self.node(arg)?]), otherwise));
        }
        if let Some(constant) = named::constant_value(function) {
            return Ok(Node::Call(Box::new(Call {
                function: match constant {
                    Value::Opaque(_) => |args| Ok(args.get(0).clone()),
                    _ => return refused(format!("no such overload: {function}()")),
                },
                args: vec![Node::Const(constant)],
                price: Price::Fixed(1),
            })));
        }
        let mut planned = Vec::with_capacity(args.len() + 1);
        for arg in target.into_iter().chain(args) {
            planned.push(self.node(arg)?);
        }
        self.function(expr, function, planned)
    }

    fn function(&self, expr: &Expr, function: &str, args: Vec<Node>) -> Planned {
        let overload = match self.checked.overloads(expr.id) {
            [overload] => Some(*overload),
            _ => None,
        };
        let price = Price::of(function, overload);
        if let (Some(search), Some(Node::Const(Value::String(text)))) = (Search::of(function), args.get(1)) {
            let regex = match pattern::compile(text) {
                Ok(regex) => regex,
                Err(why) => return refused(why),
            };
            return Ok(Node::Search(Box::new(PatternCall { search, regex, args, price })));
        }
        let call: Fun = match overload {
            Some("list_uint_sum_uint") => |args| lists::sum(args, &Value::Uint(0)),
            Some("list_double_sum_double") => |args| lists::sum(args, &Value::Double(0.0)),
            Some("list_duration_sum_duration") => |args| lists::sum(args, &Value::Duration(0)),
            _ => match functions::lookup(function) {
                Some(found) => found,
                None => return refused(format!("no such overload: {function}")),
            },
        };
        if let ("in_list", [_, Node::Const(Value::List(list))]) = (overload.unwrap_or(""), args.as_slice()) {
            return Ok(match fixed_set(list) {
                Some(set) if set.is_empty() => Node::Const(Value::Bool(false)),
                Some(set) => {
                    let mut args = args;
                    Node::Among(Box::new(args.swap_remove(0)), set)
                }
                None => Node::Call(Box::new(Call { function: call, args, price })),
            });
        }
        let converts = matches!(
            function,
            "bool"
                | "bytes"
                | "double"
                | "duration"
                | "dyn"
                | "int"
                | "string"
                | "timestamp"
                | "type"
                | "uint"
        );
        if let (true, [Node::Const(arg)]) = (converts, args.as_slice()) {
            let values = [arg.clone()];
            let mut meter = Meter::new(u64::MAX);
            return match call(&mut Args { values: &values, meter: &mut meter }) {
                Ok(value) => Ok(Node::Const(value)),
                Err(why) => refused(why),
            };
        }
        Ok(Node::Call(Box::new(Call { function: call, args, price })))
    }

    fn conditional(&mut self, args: &[Expr]) -> Planned {
        let [condition, yes, no] = args else { return refused("a conditional has three operands") };
        let parts = Box::new([self.node(condition)?, self.node(yes)?, self.node(no)?]);
        let base = Base::Conditional(parts);
        Ok(Node::Attribute(Box::new(Attribute { base, qualifiers: Vec::new(), test: false })))
    }

    fn index(&mut self, args: &[Expr], optional: bool) -> Planned {
        let [operand, index] = args else { return refused("an index has one operand") };
        let mut attribute = self.attribute(operand)?;
        let key = match self.node(index)? {
            Node::Const(Value::String(Str::Shared(name))) => QualifierKey::Field(name),
            Node::Const(value) => QualifierKey::Const(value),
            other => QualifierKey::Dynamic(other),
        };
        attribute.qualifiers.push(Qualifier { key, optional });
        Ok(Node::Attribute(Box::new(attribute)))
    }

    fn fold(&mut self, fold: &Fold) -> Planned {
        let range = self.node(&fold.range)?;
        if crate::cost::is_bind(fold) {
            let init = self.node(&fold.init)?;
            self.locals.push(Arc::clone(&fold.accu));
            let result = self.node(&fold.result);
            self.locals.pop();
            return Ok(Node::Bind(Box::new([init, result?])));
        }
        let init = self.node(&fold.init)?;
        let depth = self.locals.len();
        self.locals.push(Arc::clone(&fold.accu));
        self.locals.push(Arc::clone(&fold.var));
        self.locals.extend(fold.var2.clone());
        let two = fold.var2.is_some();
        if let Some((all, predicate)) = quantified(fold) {
            let predicate = self.node(predicate)?;
            self.locals.truncate(depth);
            return Ok(Node::Quantifier(Box::new(Quantifier { range, two, all, predicate })));
        }
        let condition = match fold.condition.kind {
            Kind::Literal(Literal::Bool(true)) => None,
            _ => Some(self.node(&fold.condition)?),
        };
        let step = self.step(&fold.step, depth, &fold.accu)?;
        self.locals.truncate(depth + 1);
        let result = self.node(&fold.result)?;
        self.locals.truncate(depth);
        Ok(Node::Fold(Box::new(FoldNode { range, two, init, condition, step, result })))
    }

    /// The step of a fold; an accumulator that only grows is grown in place.
    fn step(&mut self, step: &Expr, place: usize, accu: &str) -> Planned {
        let Kind::Call { function, target: None, args } = &step.kind else { return self.node(step) };
        let grows = |first: &Expr| matches!(&first.kind, Kind::Ident(name) if &**name == accu);
        match (&**function, args.as_slice()) {
            (op::ADD, [first, Expr { kind: Kind::List { elements, optional }, .. }]) if grows(first) => {
                Ok(Node::Append(place, Box::new(self.list(elements, optional)?)))
            }
            (op::MAP_INSERT, [first, more @ ..]) if grows(first) => {
                let more = more.iter().map(|arg| self.node(arg)).collect::<Result<Vec<_>, _>>()?;
                Ok(Node::Insert(place, more.into()))
            }
            (op::CONDITIONAL, [condition, yes, no]) => {
                let parts = Box::new([self.node(condition)?, self.step(yes, place, accu)?, self.node(no)?]);
                let base = Base::Conditional(parts);
                Ok(Node::Attribute(Box::new(Attribute { base, qualifiers: Vec::new(), test: false })))
            }
            _ => self.node(step),
        }
    }
}

/// Whether a fold is what `all` (or, if not, `exists`) expands to, and its predicate.
fn quantified(fold: &Fold) -> Option<(bool, &Expr)> {
    let (Kind::Literal(Literal::Bool(init)), Kind::Call { function, args, .. }) =
        (&fold.init.kind, &fold.step.kind)
    else {
        return None;
    };
    let [_, predicate] = args.as_slice() else { return None };
    match (init, &**function) {
        (true, op::AND) => Some((true, predicate)),
        (false, op::OR) => Some((false, predicate)),
        _ => None,
    }
}

fn literal_value(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::String(Str::Shared(Arc::clone(text))),
        Literal::Bytes(bytes) => Value::Bytes(Bytes::Shared(Arc::clone(bytes))),
    }
}

/// The list itself, if nothing in it depends on anything.
fn folded_list(list: ListNode) -> Node {
    let constant = list.elements.iter().all(|(node, optional)| matches!(node, Node::Const(_)) && !optional);
    if !constant {
        return Node::List(Box::new(list));
    }
    let values = list.elements.into_iter().filter_map(|(node, _)| match node {
        Node::Const(value) => Some(value),
        _ => None,
    });
    Node::Const(Value::from(values.collect::<Vec<_>>()))
}

fn folded_map(entries: Vec<MapNode>) -> Planned {
    let constant = entries.iter().all(|entry| {
        matches!((&entry.key, &entry.value), (Node::Const(_), Node::Const(_))) && !entry.optional
    });
    if !constant {
        return Ok(Node::Map(entries.into()));
    }
    let mut members = std::collections::BTreeMap::new();
    for entry in entries {
        if let (Node::Const(key), Node::Const(value)) = (entry.key, entry.value) {
            let Some(key) = Key::of(&key) else {
                return refused(format!("unsupported key type: {}", key.type_name()));
            };
            members.insert(key, value);
        }
    }
    Ok(Node::Const(Value::Map(Map::Made(Arc::new(members)))))
}

/// The elements of a list that can be told apart for good.
fn fixed_set(list: &crate::value::List<'static>) -> Option<HashSet<Vec<u8>>> {
    let mut meter = Meter::new(u64::MAX);
    list.iter()
        .map(|element| match element.ok()? {
            element @ (Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::String(_)) => compare::identity(&element, &mut meter).ok(),
            _ => None,
        })
        .collect()
}
