//! The type checker: what each part of an expression is, which overloads a call means, and what does not fit.

use std::sync::Arc;

use crate::ast::{Expr, Fold, Id, Kind, Literal, MapEntry, Name, op};
use crate::decls::Overload;
use crate::env::{Env, Ident};
use crate::issues::Issues;
use crate::parser::Parsed;
use crate::types::{Param, Type};
use crate::unify::{Unifier, most_general};

/// What the checker found out, by the ids of nodes.
#[derive(Debug)]
pub(crate) struct Checked {
    types: Vec<Option<Type>>,
    references: Vec<Option<Reference>>,
}

/// What a node refers to.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    /// A variable of the environment, by its place.
    Variable(usize),
    /// A type as a value.
    Type(Arc<str>),
    /// The overloads that a call can mean.
    Overloads(Vec<&'static str>),
}

impl Checked {
    pub(crate) fn type_of(&self, expr: &Expr) -> &Type {
        self.types.get(expr.id.0 as usize).and_then(Option::as_ref).unwrap_or(&Type::Dyn)
    }

    pub(crate) fn reference(&self, id: Id) -> Option<&Reference> {
        self.references.get(id.0 as usize).and_then(Option::as_ref)
    }

    pub(crate) fn overloads(&self, id: Id) -> &[&'static str] {
        match self.reference(id) {
            Some(Reference::Overloads(overloads)) => overloads,
            _ => &[],
        }
    }

    /// Whether a variable is referred to anywhere.
    pub(crate) fn refers_to(&self, variable: usize) -> bool {
        self.references.iter().any(|found| matches!(found, Some(Reference::Variable(at)) if *at == variable))
    }
}

/// Checks an expression. Names in it that turn out to be qualified become one node.
pub(crate) fn check(env: &Env, parsed: &mut Parsed) -> Result<Checked, Issues> {
    let count = parsed.offsets.len();
    let placeholder = Expr { id: Id(0), kind: Kind::Broken };
    let mut root = std::mem::replace(&mut parsed.root, placeholder);
    let mut checker = Checker {
        env,
        parsed,
        types: vec![None; count],
        references: vec![None; count],
        locals: Vec::new(),
        unifier: Unifier::default(),
        issues: Issues::new(),
    };
    checker.check(&mut root);
    let Checker { types, references, unifier, issues, .. } = checker;
    parsed.root = root;
    issues.into_result()?;
    let types = types.into_iter().map(|found| found.map(|found| unifier.resolve_fully(&found))).collect();
    Ok(Checked { types, references })
}

struct Checker<'e> {
    env: &'e Env,
    parsed: &'e Parsed,
    types: Vec<Option<Type>>,
    references: Vec<Option<Reference>>,
    /// Variables of the folds around, the innermost last.
    locals: Vec<(Name, Type)>,
    unifier: Unifier,
    issues: Issues,
}

impl Checker<'_> {
    fn report(&mut self, at: Id, message: impl Into<String>) {
        self.issues.report(&self.parsed.source, self.parsed.location(at), message);
    }

    fn set(&mut self, id: Id, type_of: Type) {
        let type_of = if type_of.is_too_large() {
            self.report(id, "the type of the expression has too many parts");
            Type::Error
        } else {
            type_of
        };
        self.types[id.0 as usize] = Some(type_of);
    }

    fn get(&self, expr: &Expr) -> Type {
        self.types[expr.id.0 as usize].clone().unwrap_or(Type::Error)
    }

    fn refer(&mut self, id: Id, to: Reference) {
        self.references[id.0 as usize] = Some(to);
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.report(id, format!("undeclared reference to '{name}' (in container '')"));
        self.set(id, Type::Error);
    }

    fn mismatch(&mut self, at: Id, expected: &Type, found: &Type) {
        self.report(at, format!("expected type '{expected}' but found '{found}'"));
    }

    fn check(&mut self, expr: &mut Expr) {
        let id = expr.id;
        match &mut expr.kind {
            Kind::Literal(literal) => {
                let type_of = match literal {
                    Literal::Null => Type::Null,
                    Literal::Bool(_) => Type::Bool,
                    Literal::Int(_) => Type::Int,
                    Literal::Uint(_) => Type::Uint,
                    Literal::Double(_) => Type::Double,
                    Literal::String(_) => Type::String,
                    Literal::Bytes(_) => Type::Bytes,
                };
                self.set(id, type_of);
            }
            Kind::Ident(name) => {
                let name = Arc::clone(name);
                if !self.resolve_name(expr, &name) {
                    self.undeclared(id, &name);
                }
            }
            Kind::Select { .. } => self.check_select(expr),
            Kind::Call { .. } => self.check_call(expr),
            Kind::List { elements, optional } => self.check_list(id, elements, optional),
            Kind::Map(entries) => self.check_map(id, entries),
            Kind::Struct { .. } => self.check_struct(expr),
            Kind::Fold(fold) => self.check_fold(id, fold),
            Kind::Broken => self.set(id, Type::Error),
        }
    }

    /// Makes the node a reference to what the name stands for, if it stands for something.
    fn resolve_name(&mut self, expr: &mut Expr, name: &str) -> bool {
        let plain = name.strip_prefix('.').unwrap_or(name);
        if let Some((local, type_of)) = self.locals.iter().rev().find(|(local, _)| &**local == plain) {
            expr.kind = Kind::Ident(Arc::clone(local));
            let type_of = type_of.clone();
            self.set(expr.id, type_of);
            return true;
        }
        match self.env.ident(name) {
            None => false,
            Some(Ident::Variable(index, type_of)) => {
                self.refer(expr.id, Reference::Variable(index));
                self.set(expr.id, type_of);
                expr.kind = Kind::Ident(plain.into());
                true
            }
            Some(Ident::Type(runtime, type_of)) => {
                self.refer(expr.id, Reference::Type(runtime));
                self.set(expr.id, type_of);
                expr.kind = Kind::Ident(plain.into());
                true
            }
        }
    }

    fn check_select(&mut self, expr: &mut Expr) {
        if let Some(name) = expr.qualified_name()
            && self.resolve_name(expr, &name)
        {
            return;
        }
        let id = expr.id;
        let Kind::Select { operand, field, test } = &mut expr.kind else { return };
        let found = self.select(id, operand, field, false);
        let type_of = if *test { Type::Bool } else { self.unifier.resolve(&found) };
        self.set(id, type_of);
    }

    /// The type of a field of an operand.
    fn select(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand = self.unifier.resolve(&self.get(operand));
        let (target, was_optional) = match operand.unwrap_optional() {
            Some(inner) => (inner.clone(), true),
            None => (operand, false),
        };
        let found = match &target {
            Type::Map(_) => target.parts()[1].clone(),
            Type::Object(name) => self.field(id, name, field).unwrap_or(Type::Error),
            Type::Param(_) => {
                self.unifier.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    self.report(id, format!("type '{other}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(found) } else { found }
    }

    fn field(&mut self, id: Id, object: &str, field: &str) -> Option<Type> {
        match self.env.field(object, field) {
            Some(Some(found)) => Some(found),
            Some(None) => {
                self.report(id, format!("undefined field '{field}'"));
                None
            }
            None => {
                self.report(id, format!("unexpected failed resolution of '{object}'"));
                None
            }
        }
    }

    fn check_call(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Kind::Call { function, target, args } = &mut expr.kind else { return };
        let name = Arc::clone(function);
        if &*name == op::OPT_SELECT
            && let [operand, field] = args.as_mut_slice()
            && let Kind::Literal(Literal::String(field_name)) = &field.kind
        {
            let field_name = Arc::clone(field_name);
            self.set(field.id, Type::String);
            let found = self.select(id, operand, &field_name, true);
            let found = self.unifier.resolve(&found);
            self.set(id, found);
            self.refer(id, Reference::Overloads(vec!["select_optional_field"]));
            return;
        }
        for arg in args.iter_mut() {
            self.check(arg);
        }
        let Some(receiver) = target else {
            let Some((full, overloads)) = self.env.function(&name) else {
                return self.undeclared(id, &name);
            };
            *function = full.into();
            let types: Vec<Type> = args.iter().map(|arg| self.get(arg)).collect();
            return self.resolve_call(id, full, overloads, args, &types, false);
        };
        if let Some(prefix) = receiver.qualified_name()
            && let Some((full, overloads)) = self.env.function(&format!("{prefix}.{name}"))
        {
            *function = full.into();
            *target = None;
            let types: Vec<Type> = args.iter().map(|arg| self.get(arg)).collect();
            return self.resolve_call(id, full, overloads, args, &types, false);
        }
        self.check(receiver);
        let Some((full, overloads)) = self.env.function(&name) else {
            return self.undeclared(id, &name);
        };
        let mut types = vec![self.get(receiver)];
        types.extend(args.iter().map(|arg| self.get(arg)));
        self.resolve_call(id, full, overloads, args, &types, true);
    }

    /// Finds the overloads that take these types.
    fn resolve_call(
        &mut self,
        id: Id,
        function: &str,
        overloads: &'static [Overload],
        args: &[Expr],
        types: &[Type],
        member: bool,
    ) {
        if function == op::AND || function == op::OR {
            return self.resolve_logic(id, overloads, args, types);
        }
        let mut found = Vec::new();
        let mut result: Option<Type> = None;
        for overload in overloads.iter().filter(|overload| overload.member == member) {
            let (wanted, gives) = self.instantiate(overload);
            if !self.unifier.assign_all(types, &wanted) {
                continue;
            }
            found.push(overload.id);
            let gives = self.unifier.resolve(&gives);
            result = Some(match result {
                None => gives,
                Some(known) if known.is_dyn() || known == gives => known,
                Some(_) => Type::Dyn,
            });
        }
        if let Some(result) = result {
            self.set(id, result);
            return self.refer(id, Reference::Overloads(found));
        }
        let shown: Vec<String> =
            types.iter().map(|type_of| self.unifier.resolve_fully(type_of).to_string()).collect();
        let signature = match (member, shown.split_first()) {
            (true, Some((target, rest))) => format!("{target}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.report(id, format!("found no matching overload for '{function}' applied to '{signature}'"));
        self.set(id, Type::Error);
    }

    fn resolve_logic(&mut self, id: Id, overloads: &'static [Overload], args: &[Expr], types: &[Type]) {
        let mut fits = true;
        for (arg, type_of) in args.iter().zip(types) {
            if !self.unifier.assign(type_of, &Type::Bool) {
                self.mismatch(arg.id, &Type::Bool, &self.unifier.resolve(type_of));
                fits = false;
            }
        }
        if fits {
            self.refer(id, Reference::Overloads(overloads.iter().map(|overload| overload.id).collect()));
        }
        self.set(id, if fits { Type::Bool } else { Type::Error });
    }

    /// The types of an overload with parameters of its own for this call.
    fn instantiate(&mut self, overload: &Overload) -> (Vec<Type>, Type) {
        if overload.params.is_empty() {
            return (overload.args.clone(), overload.result.clone());
        }
        let fresh: Vec<(&str, Type)> =
            overload.params.iter().map(|param| (*param, self.unifier.free())).collect();
        let args = overload.args.iter().map(|arg| replace(arg, &fresh)).collect();
        (args, replace(&overload.result, &fresh))
    }

    fn check_list(&mut self, id: Id, elements: &mut [Expr], optional: &[usize]) {
        let mut joined = None;
        for (index, element) in elements.iter_mut().enumerate() {
            self.check(element);
            let mut type_of = self.get(element);
            if optional.contains(&index) {
                type_of = self.unwrap_entry(element.id, type_of);
            }
            joined = Some(self.join(joined, type_of));
        }
        let element = joined.unwrap_or_else(|| self.unifier.free());
        self.set(id, Type::list(element));
    }

    /// The type within an optional entry.
    fn unwrap_entry(&mut self, id: Id, type_of: Type) -> Type {
        if let Some(inner) = type_of.unwrap_optional() {
            return inner.clone();
        }
        if !type_of.is_dyn() {
            self.mismatch(id, &Type::optional(type_of.clone()), &type_of);
        }
        type_of
    }

    fn check_map(&mut self, id: Id, entries: &mut [MapEntry]) {
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(&mut entry.key);
            let key = self.get(&entry.key);
            keys = Some(self.join(keys, key));
            self.check(&mut entry.value);
            let mut value = self.get(&entry.value);
            if entry.optional {
                value = self.unwrap_entry(entry.value.id, value);
            }
            values = Some(self.join(values, value));
        }
        let key = keys.unwrap_or_else(|| self.unifier.free());
        let value = values.unwrap_or_else(|| self.unifier.free());
        self.set(id, Type::map(key, value));
    }

    /// The type of both what came before and what comes now; what does not go together can be anything, and is refused later.
    fn join(&mut self, before: Option<Type>, now: Type) -> Type {
        match before {
            None => now,
            Some(before) if self.unifier.assign(&before, &now) => most_general(&before, &now),
            Some(_) => Type::Dyn,
        }
    }

    fn check_struct(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Kind::Struct { name, fields } = &mut expr.kind else { return };
        let plain: Name = name.strip_prefix('.').unwrap_or(name).into();
        match self.env.ident(&plain) {
            None => return self.undeclared(id, name),
            Some(Ident::Variable(_, type_of)) => {
                self.report(id, format!("'{type_of}' is not a type"));
                self.set(id, Type::Error);
            }
            Some(Ident::Type(..)) if self.env.makes(&plain) => {
                self.set(id, Type::object(Arc::clone(&plain)));
            }
            Some(Ident::Type(..)) => {
                self.report(id, format!("'{plain}' is not a message type"));
                self.set(id, Type::Error);
            }
        }
        *name = Arc::clone(&plain);
        for field in fields {
            self.check(&mut field.value);
            let wanted = self.field(field.id, &plain, &field.name).unwrap_or(Type::Error);
            let mut value = self.get(&field.value);
            if field.optional {
                value = self.unwrap_entry(field.value.id, value);
            }
            if !self.unifier.assign(&wanted, &value) {
                let message = format!(
                    "expected type of field '{}' is '{wanted}' but provided type is '{value}'",
                    field.name
                );
                self.report(field.id, message);
            }
        }
    }

    fn check_fold(&mut self, id: Id, fold: &mut Fold) {
        self.check(&mut fold.range);
        self.check(&mut fold.init);
        let range = self.unifier.resolve(&self.get(&fold.range));
        let accu = self.get(&fold.init);
        self.locals.push((Arc::clone(&fold.accu), accu.clone()));
        let (first, second) = match &range {
            Type::List(_) if fold.var2.is_some() => (Type::Int, range.parts()[0].clone()),
            Type::List(_) => (range.parts()[0].clone(), Type::Error),
            Type::Map(_) => (range.parts()[0].clone(), range.parts()[1].clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.unifier.assign(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(fold.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        let depth = self.locals.len();
        self.locals.push((Arc::clone(&fold.var), first));
        if let Some(var2) = &fold.var2 {
            self.locals.push((Arc::clone(var2), second));
        }
        self.check(&mut fold.condition);
        self.assert(&fold.condition, &Type::Bool);
        self.check(&mut fold.step);
        self.assert(&fold.step, &accu);
        self.locals.truncate(depth);
        self.check(&mut fold.result);
        self.locals.truncate(depth - 1);
        let result = self.unifier.resolve(&self.get(&fold.result));
        self.set(id, result);
    }

    fn assert(&mut self, expr: &Expr, wanted: &Type) {
        let found = self.get(expr);
        if !self.unifier.assign(wanted, &found) {
            self.mismatch(expr.id, wanted, &found);
        }
    }
}

fn replace(within: &Type, fresh: &[(&str, Type)]) -> Type {
    match within {
        Type::Param(Param::Declared(name)) => fresh
            .iter()
            .find(|(param, _)| param == name)
            .map_or_else(|| within.clone(), |(_, replacement)| replacement.clone()),
        _ if within.parts().is_empty() => within.clone(),
        _ => within.with_parts(|part| replace(part, fresh)),
    }
}
