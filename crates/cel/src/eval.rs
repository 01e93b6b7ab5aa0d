//! Carries out a plan. An error is the value of what it happened in, until `&&`, `||`, `all` or `exists` have no need for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cost::{self, price};
use crate::error::{EvalError, fail, no_overload};
use crate::functions::{Args, compare, lists, search};
use crate::meter::Meter;
use crate::plan::{
    Attribute, Base, Call, FoldNode, ListNode, MapNode, Node, ObjectNode, Otherwise, PatternCall,
    QualifierKey, Quantifier,
};
use crate::value::{Key, List, Map, Object, Str, Value};

/// Gives the value of a variable by its place.
pub(crate) type Lookup<'a, 'f> = &'f dyn Fn(usize) -> Option<Result<Value<'a>, EvalError>>;

/// A variable of a fold.
enum Slot<'a> {
    Ready(Value<'a>),
    Failed(EvalError),
    /// To be found when it is asked for.
    Pending(&'a Node),
}

/// One evaluation.
pub(crate) struct Frame<'a, 'f> {
    lookup: Lookup<'a, 'f>,
    names: &'a [Arc<str>],
    slots: Vec<Slot<'a>>,
    meter: Meter,
}

type Outcome<'a> = Result<Value<'a>, EvalError>;

/// What a fold goes over.
enum Elements<'a> {
    List(List<'a>),
    Keys(Map<'a>, Vec<Value<'a>>),
}

impl<'a> Elements<'a> {
    fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Keys(_, keys) => keys.len(),
        }
    }

    /// What one variable stands for.
    fn one(&self, index: usize) -> Slot<'a> {
        match self {
            Self::List(list) => slot(list.get(index)),
            Self::Keys(_, keys) => Slot::Ready(keys.get(index).cloned().unwrap_or(Value::Null)),
        }
    }

    /// What the second of two variables stands for.
    fn second(&self, index: usize) -> Slot<'a> {
        match self {
            Self::List(list) => slot(list.get(index)),
            Self::Keys(map, keys) => slot(keys.get(index).map_or(Ok(None), |key| map.find(key))),
        }
    }
}

fn slot<'a>(found: Result<Option<Value<'a>>, EvalError>) -> Slot<'a> {
    match found {
        Ok(value) => Slot::Ready(value.unwrap_or(Value::Null)),
        Err(error) => Slot::Failed(error),
    }
}

fn settled<'a>(found: Outcome<'a>) -> Result<Slot<'a>, EvalError> {
    match found {
        Ok(value) => Ok(Slot::Ready(value)),
        Err(error @ EvalError::Failed(_)) => Ok(Slot::Failed(error)),
        Err(other) => Err(other),
    }
}

impl<'a, 'f> Frame<'a, 'f> {
    pub(crate) const fn new(lookup: Lookup<'a, 'f>, names: &'a [Arc<str>], meter: Meter) -> Self {
        Self { lookup, names, slots: Vec::new(), meter }
    }

    pub(crate) const fn cost(&self) -> u64 {
        self.meter.cost()
    }

    pub(crate) fn eval(&mut self, node: &'a Node) -> Outcome<'a> {
        match node {
            Node::Const(value) => Ok(value.clone()),
            Node::Attribute(attribute) => {
                let value = self.resolve(attribute)?;
                if !attribute.test && !matches!(attribute.base, Base::Conditional(_)) {
                    self.meter.charge(cost::SELECT)?;
                }
                Ok(value)
            }
            Node::Call(call) => self.call(call),
            Node::Equal { args, negated, price } => {
                let values = self.both(args)?;
                let equal = compare::equals(&values[0], &values[1], &mut self.meter);
                self.pay(*price, &values, &Value::Null)?;
                equal.map(|equal| Value::Bool(equal != *negated))
            }
            Node::And(terms) => self.logic(terms, false),
            Node::Or(terms) => self.logic(terms, true),
            Node::Search(call) => self.search(call),
            Node::NotStrictlyFalse(inner) => {
                let value = self.eval(inner);
                self.meter.charge(1)?;
                match value {
                    Ok(value) => Ok(Value::Bool(!matches!(value, Value::Bool(false)))),
                    Err(EvalError::Failed(_)) => Ok(Value::Bool(true)),
                    Err(other) => Err(other),
                }
            }
            Node::Otherwise(parts, otherwise) => self.otherwise(parts, *otherwise),
            Node::Among(inner, set) => {
                let value = self.eval(inner)?;
                let identity = compare::identity(&value, &mut self.meter)?;
                Ok(Value::Bool(set.contains(&identity)))
            }
            Node::List(list) => self.list(list),
            Node::Map(entries) => self.map(entries),
            Node::Object(object) => self.object(object),
            Node::Quantifier(quantifier) => self.quantifier(quantifier),
            Node::Fold(fold) => self.fold(fold),
            Node::Bind(parts) => {
                self.slots.push(Slot::Pending(&parts[0]));
                let result = self.eval(&parts[1]);
                self.slots.pop();
                result
            }
            Node::Append(place, list) => self.append(*place, list),
            Node::Insert(place, args) => self.insert(*place, args),
        }
    }

    fn both(&mut self, args: &'a [Node; 2]) -> Result<[Value<'a>; 2], EvalError> {
        let left = self.eval(&args[0]);
        let right = self.eval(&args[1]);
        Ok([left?, right?])
    }

    fn pay(
        &mut self,
        price: price::Price,
        values: &[Value<'a>],
        result: &Value<'a>,
    ) -> Result<(), EvalError> {
        let cost = match price {
            price::Price::Fixed(cost) => cost,
            price => {
                for value in values {
                    price::counting(value, &mut self.meter)?;
                }
                price.cost(&Args { values, meter: &mut self.meter }, result)
            }
        };
        self.meter.charge(cost)
    }

    fn call(&mut self, call: &'a Call) -> Outcome<'a> {
        match call.args.as_slice() {
            [only] => {
                let values = [self.eval(only)?];
                self.apply(call, &values)
            }
            [first, second] => {
                let (left, right) = (self.eval(first), self.eval(second));
                let values = [left?, right?];
                self.apply(call, &values)
            }
            args => {
                let values = args.iter().map(|arg| self.eval(arg)).collect::<Result<Vec<_>, _>>()?;
                self.apply(call, &values)
            }
        }
    }

    fn apply(&mut self, call: &'a Call, values: &[Value<'a>]) -> Outcome<'a> {
        let result = (call.function)(&mut Args { values, meter: &mut self.meter });
        self.pay(call.price, values, result.as_ref().unwrap_or(&Value::Null))?;
        result
    }

    fn search(&mut self, call: &'a PatternCall) -> Outcome<'a> {
        let values = call.args.iter().map(|arg| self.eval(arg)).collect::<Result<Vec<_>, _>>()?;
        self.pay(call.price, &values, &Value::Null)?;
        search::run(call.search, &call.regex, &mut Args { values: &values, meter: &mut self.meter })
    }

    /// `&&`, or `||`: `decides` is the value that needs no other.
    fn logic(&mut self, terms: &'a [Node; 2], decides: bool) -> Outcome<'a> {
        let mut failed = None;
        for term in terms {
            match self.eval(term) {
                Ok(Value::Bool(value)) if value == decides => return Ok(Value::Bool(decides)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| no_overload::<()>().err()),
                Err(error @ EvalError::Failed(_)) => failed = failed.or(Some(error)),
                Err(other) => return Err(other),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn otherwise(&mut self, parts: &'a [Node; 2], otherwise: Otherwise) -> Outcome<'a> {
        match (self.eval(&parts[0])?, otherwise) {
            (Value::Optional(None), _) => self.eval(&parts[1]),
            (Value::Optional(Some(value)), Otherwise::Value) => Ok((*value).clone()),
            (other, _) => Ok(other),
        }
    }

    // ---- picking out of values ----

    fn local(&mut self, place: usize) -> Outcome<'a> {
        match self.slots.get(place) {
            Some(Slot::Ready(value)) => Ok(value.clone()),
            Some(Slot::Failed(error)) => Err(error.clone()),
            Some(Slot::Pending(node)) => {
                let node: &'a Node = node;
                // It was planned to be found where it is named: with nothing above it on the stack.
                let above = self.slots.split_off(place);
                let found = settled(self.eval(node));
                self.slots.truncate(place);
                self.slots.extend(above);
                self.slots[place] = found?;
                match &self.slots[place] {
                    Slot::Ready(value) => Ok(value.clone()),
                    Slot::Failed(error) => Err(error.clone()),
                    Slot::Pending(_) => unreachable!("it was just found"),
                }
            }
            None => unreachable!("the plan numbers its places"),
        }
    }

    fn resolve(&mut self, attribute: &'a Attribute) -> Outcome<'a> {
        let value = match &attribute.base {
            Base::Variable(index) => match (self.lookup)(*index) {
                Some(value) => value?,
                None => {
                    let name = self.names.get(*index).map_or("", |name| name);
                    return fail(format!("no such attribute(s): {name}"));
                }
            },
            Base::Local(place) => self.local(*place)?,
            Base::Conditional(parts) => {
                let chosen = match self.eval(&parts[0])? {
                    Value::Bool(true) => &parts[1],
                    Value::Bool(false) => &parts[2],
                    _ => return no_overload(),
                };
                self.resolve_node(chosen)?
            }
            Base::Value(node) => self.eval(node)?,
        };
        if attribute.qualifiers.is_empty() { Ok(value) } else { self.qualify(value, attribute) }
    }

    /// The value of a node that is a part of another's attribute, and costs less for it.
    fn resolve_node(&mut self, node: &'a Node) -> Outcome<'a> {
        match node {
            Node::Attribute(attribute) => self.resolve(attribute),
            other => self.eval(other),
        }
    }

    fn qualify(&mut self, mut value: Value<'a>, attribute: &'a Attribute) -> Outcome<'a> {
        let mut optional = false;
        if let Value::Optional(inner) = &value {
            let Some(inner) = inner else {
                return Ok(if attribute.test { Value::Bool(false) } else { value });
            };
            value = (**inner).clone();
            optional = true;
        }
        let last = attribute.qualifiers.len() - 1;
        for (index, qualifier) in attribute.qualifiers.iter().enumerate() {
            optional |= qualifier.optional;
            if attribute.test
                && index == last
                && let QualifierKey::Field(name) = &qualifier.key
            {
                self.meter.charge(cost::SELECT)?;
                return Ok(Value::Bool(has(&value, name)));
            }
            let found = match &qualifier.key {
                QualifierKey::Field(name) => field(&value, name),
                QualifierKey::Const(key) => element(&value, key),
                QualifierKey::Dynamic(node) => {
                    let key = self.resolve_node(node)?;
                    element(&value, &key)
                }
            };
            match (found, optional) {
                (Ok(Found::Value(found)), _) => {
                    self.meter.charge(cost::SELECT)?;
                    value = found;
                }
                (Ok(Found::Missing(_)), true) => {
                    return Ok(if attribute.test { Value::Bool(false) } else { Value::Optional(None) });
                }
                (Ok(Found::Missing(why)), false) => {
                    self.meter.charge(cost::SELECT)?;
                    return fail(why);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(if optional { Value::some(value) } else { value })
    }

    // ---- making values ----

    /// Adds the elements of a list that are there.
    fn collect(&mut self, list: &'a ListNode, elements: &mut Vec<Value<'a>>) -> Result<(), EvalError> {
        for (node, optional) in &list.elements {
            let value = self.eval(node)?;
            if !optional {
                elements.push(value);
                continue;
            }
            match value {
                Value::Optional(Some(value)) => elements.push((*value).clone()),
                Value::Optional(None) => {}
                other => {
                    return fail(format!(
                        "cannot initialize optional list element from non-optional value {other:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn list(&mut self, list: &'a ListNode) -> Outcome<'a> {
        let mut elements = Vec::with_capacity(list.elements.len());
        self.collect(list, &mut elements)?;
        self.meter.charge(cost::LIST)?;
        Ok(Value::from(elements))
    }

    /// What an entry is given; nothing if it is optional and missing.
    fn entry(
        &mut self,
        node: &'a Node,
        optional: bool,
        name: &dyn std::fmt::Debug,
    ) -> Result<Option<Value<'a>>, EvalError> {
        let value = self.eval(node)?;
        if !optional {
            return Ok(Some(value));
        }
        match value {
            Value::Optional(value) => Ok(value.map(|value| (*value).clone())),
            other => {
                fail(format!("cannot initialize optional entry '{name:?}' from non-optional value {other:?}"))
            }
        }
    }

    fn map(&mut self, entries: &'a [MapNode]) -> Outcome<'a> {
        let mut members = BTreeMap::new();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let Some(made) = Key::of(&key) else {
                return fail(format!("unsupported key type: {}", key.type_name()));
            };
            match self.entry(&entry.value, entry.optional, &key)? {
                Some(value) => members.insert(made, value),
                None => members.remove(&made),
            };
        }
        self.meter.charge(cost::MAP)?;
        Ok(Value::Map(Map::Made(Arc::new(members))))
    }

    fn object(&mut self, object: &'a ObjectNode) -> Outcome<'a> {
        let mut fields = BTreeMap::new();
        for (name, node, optional) in &object.fields {
            if let Some(value) = self.entry(node, *optional, name)? {
                fields.insert(Arc::clone(name), value);
            }
        }
        self.meter.charge(cost::OBJECT)?;
        if &*object.name == "JSONPatch" {
            for name in ["op", "path", "from"] {
                if let Some(value) = fields.get(name)
                    && value.as_str().is_none()
                {
                    let found = value.type_name();
                    return fail(format!("unexpected type {found} for JSONPatchType '{name}' field"));
                }
            }
        }
        Ok(Value::Object(Arc::new(Object { name: Arc::clone(&object.name), fields })))
    }

    // ---- going over lists and maps ----

    fn elements(&mut self, range: &'a Node, two: bool) -> Result<Elements<'a>, EvalError> {
        match self.eval(range)? {
            Value::List(list) => Ok(Elements::List(list)),
            Value::Map(map) => {
                self.meter.work(map.len())?;
                let keys = map.keys();
                Ok(Elements::Keys(map, keys))
            }
            other if two => fail(format!("unsupported comprehension range type: {}", other.type_name())),
            other => fail(format!("got '{}', expected iterable type", other.type_name())),
        }
    }

    /// Sets the variables at `place` for the element at an index.
    fn advance(&mut self, elements: &Elements<'a>, index: usize, place: usize, two: bool) {
        self.slots.truncate(place);
        match (two, elements) {
            (true, Elements::List(_)) => {
                let number = i64::try_from(index).unwrap_or(i64::MAX);
                self.slots.push(Slot::Ready(Value::Int(number)));
            }
            _ => self.slots.push(elements.one(index)),
        }
        if two {
            self.slots.push(elements.second(index));
        }
    }

    fn quantifier(&mut self, quantifier: &'a Quantifier) -> Outcome<'a> {
        let elements = self.elements(&quantifier.range, quantifier.two)?;
        let base = self.slots.len();
        // The place of the accumulator, which the predicate cannot name.
        self.slots.push(Slot::Ready(Value::Null));
        let result = self.quantify(quantifier, &elements, base + 1);
        self.slots.truncate(base);
        self.meter.charge(cost::SELECT)?;
        result
    }

    fn quantify(&mut self, quantifier: &'a Quantifier, elements: &Elements<'a>, place: usize) -> Outcome<'a> {
        // What looking at the accumulator costs, in the condition and in the step.
        let looking = if quantifier.all { 3 } else { 4 };
        let decides = !quantifier.all;
        let mut failed = None;
        for index in 0..elements.len() {
            self.meter.charge(looking)?;
            self.advance(elements, index, place, quantifier.two);
            match self.eval(&quantifier.predicate) {
                Ok(Value::Bool(value)) if value == decides => {
                    if index + 1 < elements.len() {
                        self.meter.charge(looking - 1)?;
                    }
                    return Ok(Value::Bool(decides));
                }
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| no_overload::<()>().err()),
                Err(error @ EvalError::Failed(_)) => failed = failed.or(Some(error)),
                Err(other) => return Err(other),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn fold(&mut self, fold: &'a FoldNode) -> Outcome<'a> {
        let elements = self.elements(&fold.range, fold.two)?;
        let base = self.slots.len();
        let init = settled(self.eval(&fold.init))?;
        self.slots.push(init);
        let result = self.fold_over(fold, &elements, base);
        self.slots.truncate(base);
        result
    }

    fn fold_over(&mut self, fold: &'a FoldNode, elements: &Elements<'a>, base: usize) -> Outcome<'a> {
        for index in 0..elements.len() {
            self.advance(elements, index, base + 1, fold.two);
            if let Some(condition) = &fold.condition {
                match self.eval(condition) {
                    Ok(Value::Bool(false)) => break,
                    Ok(_) | Err(EvalError::Failed(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            let next = settled(self.eval(&fold.step))?;
            let failed = matches!(next, Slot::Failed(_));
            self.slots[base] = next;
            // Without a condition nothing makes an error go away again.
            if failed && fold.condition.is_none() {
                break;
            }
        }
        self.slots.truncate(base + 1);
        self.eval(&fold.result)
    }

    /// Takes the accumulator out of its place, so that it can grow without being copied.
    fn take(&mut self, place: usize) -> Outcome<'a> {
        self.meter.charge(cost::SELECT)?;
        match self.slots.get_mut(place) {
            Some(Slot::Ready(value)) => Ok(std::mem::replace(value, Value::Null)),
            Some(Slot::Failed(error)) => Err(error.clone()),
            _ => unreachable!("an accumulator is there from the start"),
        }
    }

    fn append(&mut self, place: usize, list: &'a ListNode) -> Outcome<'a> {
        // The elements come first: they may ask for the accumulator of a fold around this one, never for this one.
        let mut more = Vec::with_capacity(list.elements.len());
        self.collect(list, &mut more)?;
        self.meter.charge(cost::LIST + 1)?;
        match self.take(place)? {
            Value::List(List::Made { mut elements, schema }) => {
                if Arc::get_mut(&mut elements).is_none() {
                    self.meter.work(4 * elements.len())?;
                }
                Arc::make_mut(&mut elements).extend(more);
                Ok(Value::List(List::Made { elements, schema }))
            }
            _ => no_overload(),
        }
    }

    fn insert(&mut self, place: usize, args: &'a [Node]) -> Outcome<'a> {
        let more = args.iter().map(|arg| self.eval(arg)).collect::<Result<Vec<_>, _>>()?;
        self.meter.charge(1)?;
        match self.take(place)? {
            Value::Map(Map::Made(mut members)) => {
                if Arc::get_mut(&mut members).is_none() {
                    self.meter.work(8 * members.len())?;
                }
                lists::insert_all(Arc::make_mut(&mut members), &more)?;
                Ok(Value::Map(Map::Made(members)))
            }
            _ => no_overload(),
        }
    }
}

enum Found<'a> {
    Value(Value<'a>),
    /// There is none, and what to say of that.
    Missing(String),
}

fn has(value: &Value<'_>, name: &str) -> bool {
    match value {
        Value::Map(map) => map.has(name),
        Value::Object(object) => object.fields.contains_key(name),
        _ => false,
    }
}

fn missing_key<'a>(key: &str) -> Result<Found<'a>, EvalError> {
    Ok(Found::Missing(format!("no such key: {key}")))
}

fn field<'a>(value: &Value<'a>, name: &str) -> Result<Found<'a>, EvalError> {
    match value {
        Value::Map(map) => match map.member(name)? {
            Some(found) => Ok(Found::Value(found)),
            None => missing_key(name),
        },
        Value::Object(object) => match object.fields.get(name) {
            Some(found) => Ok(Found::Value(found.clone())),
            None if &*object.name == "JSONPatch" && name != "value" => {
                Ok(Found::Value(Value::String(Str::Borrowed(""))))
            }
            None => missing_key(name),
        },
        Value::List(_) => fail("unsupported index type 'string' in list"),
        _ => missing_key(name),
    }
}

fn element<'a>(value: &Value<'a>, key: &Value<'a>) -> Result<Found<'a>, EvalError> {
    match value {
        Value::List(list) => {
            let Some(Key::Int(_) | Key::Uint(_)) = Key::of(key) else {
                return fail(format!("unsupported index type '{}' in list", key.type_name()));
            };
            let index = match Key::of(key) {
                Some(Key::Int(index)) => usize::try_from(index).ok(),
                Some(Key::Uint(index)) => usize::try_from(index).ok(),
                _ => None,
            };
            match index.map_or(Ok(None), |index| list.get(index))? {
                Some(found) => Ok(Found::Value(found)),
                None => Ok(Found::Missing(format!("index out of bounds: {}", shown(key)))),
            }
        }
        Value::Map(map) => match map.find(key)? {
            Some(found) => Ok(Found::Value(found)),
            None => missing_key(&shown(key)),
        },
        other => match key {
            Value::String(name) => field(other, name),
            _ => missing_key(&shown(key)),
        },
    }
}

fn shown(key: &Value<'_>) -> String {
    crate::functions::convert::show(key).unwrap_or_else(|| key.type_name().to_owned())
}
