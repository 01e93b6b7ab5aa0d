//! The static estimate: cel-go's cost model over the checked tree, sizes from the schemas of variables.

use std::collections::HashMap;

use super::library::{self, Call};
use super::range::Range;
use super::{LIST, MAP, OBJECT, PATTERN, SELECT, TRAVERSAL};
use crate::ast::{ACCU, Expr, Fold, Kind, Literal, op};
use crate::check::Checked;
use crate::env::Env;
use crate::schema::{Schema, SchemaKind};
use crate::types::Type;

/// Estimates what an expression costs.
pub(crate) fn estimate(env: &Env, root: &Expr, checked: &Checked) -> Range {
    let schema = env.variables().iter().find_map(|variable| variable.schema.as_deref());
    let mut estimator = Estimator {
        env,
        root: schema,
        checked,
        places: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    estimator.cost(root)
}

/// Where in the host's values a node is, if it is in one.
#[derive(Clone, Copy)]
enum Place<'e> {
    Nowhere,
    Schema(&'e Schema),
    /// A key of a map.
    Key,
}

impl<'e> Place<'e> {
    fn step(self, of: impl FnOnce(&'e SchemaKind) -> Option<Self>) -> Self {
        match self {
            Self::Schema(schema) => of(&schema.kind).unwrap_or(Self::Nowhere),
            Self::Nowhere | Self::Key => Self::Nowhere,
        }
    }

    fn element(self) -> Self {
        self.step(|kind| match kind {
            SchemaKind::List(below, _) | SchemaKind::Map(below) => Some(Self::Schema(below)),
            _ => None,
        })
    }

    fn key(self) -> Self {
        self.step(|kind| matches!(kind, SchemaKind::Map(_)).then_some(Self::Key))
    }

    fn field(self, name: &str) -> Self {
        self.step(|kind| match kind {
            SchemaKind::Object(object) => {
                object.field(name).filter(|field| field.declared).map(|field| Self::Schema(&field.schema))
            }
            _ => None,
        })
    }

    fn size(self) -> Option<Range> {
        match self {
            Self::Nowhere => None,
            Self::Schema(schema) => Some(Range::new(0, schema.max_elements)),
            Self::Key => Some(Range::ZERO),
        }
    }
}

/// What a call's estimate is made from: a part of the expression, or an element of one.
pub(super) struct Node<'e> {
    pub(super) type_of: Type,
    pub(super) size: Option<Range>,
    expr: Option<&'e Expr>,
    place: Place<'e>,
}

impl<'e> Node<'e> {
    pub(super) fn size_or_unknown(&self) -> Range {
        self.size.or_else(|| self.place.size()).unwrap_or(Range::UNKNOWN)
    }

    pub(super) fn literal(&self) -> Option<&'e Literal> {
        match self.expr?.kind {
            Kind::Literal(ref literal) => Some(literal),
            _ => None,
        }
    }

    /// An element of the list, or of whatever else has parameters.
    pub(super) fn element(&self) -> Option<Self> {
        let type_of = self.type_of.parts().first()?.clone();
        Some(Self { type_of, size: None, expr: None, place: self.place.element() })
    }
}

/// Sizes of the entries of a list or a map.
#[derive(Clone, Copy)]
struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

/// A variable of a fold.
struct Local<'e> {
    name: &'e str,
    place: Place<'e>,
    size: Option<Range>,
    entries: Option<Entries>,
}

struct Estimator<'e> {
    env: &'e Env,
    root: Option<&'e Schema>,
    checked: &'e Checked,
    places: HashMap<u32, Place<'e>>,
    sizes: HashMap<u32, Range>,
    entries: HashMap<u32, Entries>,
    locals: Vec<Local<'e>>,
}

impl<'e> Estimator<'e> {
    fn cost(&mut self, expr: &'e Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) | Kind::Broken => Range::ZERO,
            Kind::Ident(name) => {
                let place = match self.local(name) {
                    Some(local) => local.place,
                    None => self.variable(name),
                };
                self.places.insert(expr.id.0, place);
                Range::fixed(SELECT)
            }
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => {
                let mut sum = self.cost(operand);
                if matches!(self.checked.type_of(operand), Type::Map(_) | Type::Object(_) | Type::Param(_)) {
                    sum = sum.plus(Range::fixed(SELECT));
                }
                let place = self.place(operand).field(field);
                self.places.insert(expr.id.0, place);
                sum
            }
            Kind::Call { function, target, args } => self.call(expr, function, target.as_deref(), args),
            Kind::List { elements, .. } => {
                let mut sum = Range::fixed(LIST);
                let mut value = empty(elements.len());
                for element in elements {
                    sum = sum.plus(self.cost(element));
                    value = value.union(self.size_or_unknown(element));
                }
                self.entries.insert(expr.id.0, Entries { list: true, key: Range::fixed(1), value });
                sum
            }
            Kind::Map(members) => {
                let mut sum = Range::fixed(MAP);
                let (mut key, mut value) = (empty(members.len()), empty(members.len()));
                for member in members {
                    sum = sum.plus(self.cost(&member.key)).plus(self.cost(&member.value));
                    key = key.union(self.size_or_unknown(&member.key));
                    value = value.union(self.size_or_unknown(&member.value));
                }
                self.entries.insert(expr.id.0, Entries { list: false, key, value });
                sum
            }
            Kind::Struct { fields, .. } => {
                fields.iter().fold(Range::fixed(OBJECT), |sum, field| sum.plus(self.cost(&field.value)))
            }
            Kind::Fold(fold) if is_bind(fold) => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn variable(&self, name: &str) -> Place<'e> {
        let declared = self.env.variables().iter().rev().find(|variable| &*variable.name == name);
        let schema = match declared {
            Some(variable) => variable.schema.as_deref(),
            None => self.root,
        };
        schema.map_or(Place::Nowhere, Place::Schema)
    }

    fn local(&self, name: &str) -> Option<&Local<'e>> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn place(&self, expr: &Expr) -> Place<'e> {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.place;
        }
        self.places.get(&expr.id.0).copied().unwrap_or(Place::Nowhere)
    }

    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(known) = self.sizes.get(&expr.id.0) {
            return Some(*known);
        }
        if let Some(size) = literal_size(expr) {
            return Some(Range::fixed(size));
        }
        if let Some(size) = self.place(expr).size() {
            self.sizes.insert(expr.id.0, size);
            return Some(size);
        }
        if self.checked.type_of(expr).is_scalar() {
            return Some(Range::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    fn entries(&self, expr: &Expr) -> Option<Entries> {
        if let Some(known) = self.entries.get(&expr.id.0) {
            return Some(*known);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        }
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id.0, size);
        }
        if let Some(entries) = self.entries(from) {
            self.entries.insert(to.id.0, entries);
        }
    }

    fn node(&mut self, expr: &'e Expr) -> Node<'e> {
        let size = self.size(expr);
        let place = match &expr.kind {
            Kind::Ident(name) if &**name == ACCU => Place::Nowhere,
            _ => self.place(expr),
        };
        Node { type_of: self.checked.type_of(expr).clone(), size, expr: Some(expr), place }
    }

    fn call(&mut self, expr: &'e Expr, function: &str, target: Option<&'e Expr>, args: &'e [Expr]) -> Range {
        if function == "dyn"
            && let [arg] = args
        {
            let cost = self.cost(arg);
            self.copy_sizes(expr, arg);
            return cost.plus(Range::fixed(1));
        }
        let costs: Vec<Range> = args.iter().map(|arg| self.cost(arg)).collect();
        let nodes: Vec<Node<'e>> = args.iter().map(|arg| self.node(arg)).collect();
        let overloads = self.checked.overloads(expr.id);
        if overloads.is_empty() {
            return Range::ZERO;
        }
        let (mut sum, mut receiver) = (Range::ZERO, None);
        if let Some(target) = target {
            sum = self.cost(target);
            receiver = Some(self.node(target));
        }
        let mut own = Range { min: u64::MAX, max: 0 };
        let mut size: Option<Range> = None;
        for overload in overloads {
            let call = self.overload(expr, function, overload, receiver.as_ref(), &nodes, &costs);
            own = own.union(call.cost);
            size = match (size, call.size) {
                (Some(known), Some(more)) => Some(known.union(more)),
                (known, more) => more.or(known),
            };
            if let ("index_list" | "index_map", [container, _]) = (*overload, args) {
                size = self.entries(container).map(|entries| entries.value);
                let place = self.place(container).element();
                self.places.insert(expr.id.0, place);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id.0, size);
        }
        sum.plus(own)
    }

    fn overload(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Node<'e>>,
        args: &[Node<'e>],
        costs: &[Range],
    ) -> Call {
        let all = costs.iter().fold(Range::ZERO, |sum, cost| sum.plus(*cost));
        let known = library::by_overload(overload, target, args)
            .or_else(|| library::by_function(function, overload, target, args));
        if let Some(call) = known {
            return Call { cost: call.cost.plus(all), size: call.size };
        }
        match (function, costs, args) {
            (op::AND | op::OR, [left, right], _) => {
                return Call::of(Range::new(left.min, left.plus(*right).max));
            }
            (op::CONDITIONAL, [condition, yes, no], [_, a, b]) => {
                let cost = condition.plus(yes.union(*no));
                if let (Some(a), Some(b)) = (a.expr, b.expr) {
                    self.join_entries(expr, a, b);
                }
                return Call::sized(cost, or_unknown(a).union(or_unknown(b)));
            }
            _ => {}
        }
        if let ("add_string" | "add_bytes" | "add_list", [a, b]) = (overload, args) {
            let size = or_unknown(a).plus(or_unknown(b));
            if let (Some(a), Some(b)) = (a.expr, b.expr) {
                self.join_entries(expr, a, b);
            }
            let cost = if overload == "add_list" { Range::fixed(1) } else { size.scaled(TRAVERSAL) };
            return Call::sized(cost.plus(all), size);
        }
        let call = standard(overload, target, args);
        Call { cost: call.cost.plus(all), size: call.size }
    }

    /// The entries of a node that is made of two others.
    fn join_entries(&mut self, of: &Expr, a: &Expr, b: &Expr) {
        if let (Some(a), Some(b)) = (self.entries(a), self.entries(b)) {
            let joined = Entries { list: a.list, key: a.key.union(b.key), value: a.value.union(b.value) };
            self.entries.insert(of.id.0, joined);
        }
    }

    fn fold(&mut self, expr: &'e Expr, fold: &'e Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        let depth = self.locals.len();
        self.push_bound(&fold.accu, &fold.init);
        self.push_iteration(fold);
        let each = self.cost(&fold.condition).plus(self.cost(&fold.step));
        self.locals.truncate(depth + 1);
        sum = sum.plus(self.cost(&fold.result));
        self.locals.truncate(depth);
        let count = self.size_or_unknown(&fold.range);
        sum = sum.plus(count.times(each));
        match fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.sizes.insert(expr.id.0, size);
                }
            }
            Kind::List { .. } | Kind::Map(_) => {
                self.sizes.insert(expr.id.0, count);
                if let Some(entries) = self.entries(&fold.step) {
                    self.entries.insert(expr.id.0, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn bind(&mut self, expr: &'e Expr, fold: &'e Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        let depth = self.locals.len();
        self.push_bound(&fold.accu, &fold.init);
        sum = sum.plus(self.cost(&fold.result));
        self.copy_sizes(expr, &fold.result);
        self.locals.truncate(depth);
        sum
    }

    fn push_bound(&mut self, name: &'e str, value: &Expr) {
        let (place, size, entries) = (self.place(value), self.size(value), self.entries(value));
        self.locals.push(Local { name, place, size, entries });
    }

    fn push_iteration(&mut self, fold: &'e Fold) {
        let entries = self.entries(&fold.range);
        let place = self.place(&fold.range);
        let list = entries.map_or_else(
            || matches!(self.checked.type_of(&fold.range), Type::List(_)),
            |entries| entries.list,
        );
        let key_size = entries.map(|entries| entries.key);
        let value_size = entries.map(|entries| entries.value);
        let local = |name, place, size| Local { name, place, size, entries: None };
        let key_place = if list { Place::Nowhere } else { place.key() };
        match &fold.var2 {
            Some(var2) => {
                self.locals.push(local(&*fold.var, key_place, key_size));
                self.locals.push(local(&**var2, place.element(), value_size));
            }
            None if list => self.locals.push(local(&*fold.var, place.element(), value_size)),
            None => self.locals.push(local(&*fold.var, key_place, key_size)),
        }
    }
}

fn empty(count: usize) -> Range {
    if count == 0 { Range::ZERO } else { Range { min: u64::MAX, max: 0 } }
}

fn or_unknown(node: &Node<'_>) -> Range {
    node.size.unwrap_or(Range::UNKNOWN)
}

/// Whether a fold only gives a value a name.
pub(crate) fn is_bind(fold: &Fold) -> bool {
    matches!(&fold.range.kind, Kind::List { elements, .. } if elements.is_empty())
        && matches!(fold.condition.kind, Kind::Literal(Literal::Bool(false)))
        && &*fold.accu != "__result__"
}

fn literal_size(expr: &Expr) -> Option<u64> {
    let size = match &expr.kind {
        Kind::Literal(Literal::String(text)) => text.chars().count(),
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Kind::Literal(_) => 1,
        Kind::List { elements, .. } => elements.len(),
        Kind::Map(members) => members.len(),
        _ => return None,
    };
    Some(size as u64)
}

/// The estimates of the standard library; what is not among them costs one.
fn standard(overload: &str, target: Option<&Node<'_>>, args: &[Node<'_>]) -> Call {
    const ONE: Range = Range::fixed(1);
    let traversal = |node: &Node<'_>| or_unknown(node).scaled(TRAVERSAL);
    match (overload, target, args) {
        ("string_format", Some(target), _) => Call::of(traversal(target)),
        ("string_to_bytes", _, [text]) => {
            let size = or_unknown(text);
            Call::sized(traversal(text), Range::new(size.min, size.max.wrapping_mul(4)))
        }
        ("bytes_to_string", _, [bytes]) => {
            let size = or_unknown(bytes);
            Call::sized(traversal(bytes), Range::new(size.min / 4, size.max))
        }
        ("strings_quote", _, [text]) => {
            let size = or_unknown(text);
            let most = size.max.wrapping_mul(2).wrapping_add(2);
            Call::sized(traversal(text), Range::new(size.min.wrapping_add(2), most))
        }
        ("starts_with_string" | "ends_with_string", _, [part]) => Call::of(traversal(part)),
        ("in_list", _, [_, list]) => Call::of(or_unknown(list)),
        ("matches_string", Some(target), [pattern]) => {
            let text = or_unknown(target).plus(ONE).scaled(TRAVERSAL);
            Call::of(text.times(or_unknown(pattern).scaled(PATTERN)))
        }
        ("contains_string", Some(target), [part]) => Call::of(traversal(target).times(traversal(part))),
        (
            "less_string"
            | "greater_string"
            | "less_equals_string"
            | "greater_equals_string"
            | "less_bytes"
            | "greater_bytes"
            | "less_equals_bytes"
            | "greater_equals_bytes"
            | "equals"
            | "not_equals",
            _,
            [a, b],
        ) => {
            let most = or_unknown(a).max.min(or_unknown(b).max);
            Call::of(Range::new(u64::from(most > 0), most).scaled(TRAVERSAL))
        }
        _ => Call::of(ONE),
    }
}
