//! The macros that Kubernetes enables: `has`, the quantifiers, `map`, `filter`, their two-variable forms, `optMap`,
//! `optFlatMap` and `sortBy`. They become folds and calls, as cel-go's do, because types, costs and errors follow from that.

use std::sync::Arc;

use crate::ast::{ACCU, Expr, Fold, Kind, Literal, MapEntry, Name, UNUSED, op};
use crate::parser::Parser;

/// Why a call was not expanded.
pub(crate) enum Refusal {
    /// It is no macro: its parts come back.
    None(Option<Expr>, Vec<Expr>),
    /// It is a macro with a wrong argument: where, and what is wrong.
    Error(usize, String),
}

/// Expands a call that stands at `offset`, if it is a macro.
pub(crate) fn expand(
    parser: &mut Parser<'_>,
    offset: usize,
    function: &str,
    target: Option<Expr>,
    args: Vec<Expr>,
) -> Result<Expr, Refusal> {
    let mut make = Maker { parser, offset };
    let Some(target) = target else {
        return match (function, args.len()) {
            ("has", 1) => make.has(args),
            _ => Err(Refusal::None(None, args)),
        };
    };
    match (function, args.len()) {
        ("all" | "exists" | "exists_one", 2) | ("all" | "exists" | "exists_one" | "existsOne", 3) => {
            make.quantifier(function, target, args)
        }
        ("map", 2 | 3) | ("filter", 2) => make.list(function, target, args),
        ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => {
            make.transform(function, target, args)
        }
        ("optMap" | "optFlatMap", 2) => make.optional(function, target, args),
        ("sortBy", 2) => make.sort_by(target, args),
        _ => Err(Refusal::None(Some(target), args)),
    }
}

struct Maker<'p, 's> {
    parser: &'p mut Parser<'s>,
    offset: usize,
}

impl Maker<'_, '_> {
    fn node(&mut self, kind: Kind) -> Expr {
        self.parser.node(self.offset, kind)
    }

    fn literal(&mut self, literal: Literal) -> Expr {
        self.node(Kind::Literal(literal))
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.node(Kind::Ident(name.into()))
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.node(Kind::Call { function: function.into(), target: None, args })
    }

    fn member(&mut self, function: &str, target: Expr, args: Vec<Expr>) -> Expr {
        self.node(Kind::Call { function: function.into(), target: Some(Box::new(target)), args })
    }

    fn list_of(&mut self, elements: Vec<Expr>) -> Expr {
        self.node(Kind::List { elements, optional: Vec::new() })
    }

    fn error<T>(&self, at: &Expr, message: impl Into<String>) -> Result<T, Refusal> {
        Err(Refusal::Error(self.parser.offset(at.id), message.into()))
    }

    /// The name that an argument declares.
    fn variable(&self, arg: &Expr, otherwise: &str) -> Result<Name, Refusal> {
        let Kind::Ident(name) = &arg.kind else { return self.error(arg, otherwise) };
        if &**name == ACCU || &**name == "__result__" {
            return self.error(arg, "iteration variable overwrites accumulator variable");
        }
        Ok(Arc::clone(name))
    }

    /// The names that the first arguments declare, and the arguments after them.
    fn variables(&self, mut args: Vec<Expr>, two: bool) -> Result<(Name, Option<Name>, Vec<Expr>), Refusal> {
        const SIMPLE: &str = "argument must be a simple name";
        let rest = args.split_off(if two { 2 } else { 1 });
        let first = self.variable(&args[0], SIMPLE)?;
        let Some(arg) = args.get(1) else { return Ok((first, None, rest)) };
        let second = self.variable(arg, SIMPLE)?;
        if first == second {
            return self.error(arg, format!("duplicate variable name: {first}"));
        }
        Ok((first, Some(second), rest))
    }

    fn has(&mut self, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let arg = args.remove(0);
        match arg.kind {
            Kind::Select { operand, field, .. } => Ok(self.node(Kind::Select { operand, field, test: true })),
            _ => self.error(&arg, "invalid argument to has() macro"),
        }
    }

    fn quantifier(&mut self, function: &str, range: Expr, args: Vec<Expr>) -> Result<Expr, Refusal> {
        let two = args.len() == 3;
        let (var, var2, mut rest) = self.variables(args, two)?;
        let predicate = rest.remove(0);
        let accu = self.ident(ACCU);
        let (init, condition, step, result) = match function {
            "all" => {
                let condition = self.call(op::NOT_STRICTLY_FALSE, vec![accu]);
                let accu = self.ident(ACCU);
                (Literal::Bool(true), condition, self.call(op::AND, vec![accu, predicate]), self.ident(ACCU))
            }
            "exists" => {
                let not = self.call(op::NOT, vec![accu]);
                let condition = self.call(op::NOT_STRICTLY_FALSE, vec![not]);
                let accu = self.ident(ACCU);
                (Literal::Bool(false), condition, self.call(op::OR, vec![accu, predicate]), self.ident(ACCU))
            }
            _ => {
                let one = self.literal(Literal::Int(1));
                let more = self.call(op::ADD, vec![accu, one]);
                let same = self.ident(ACCU);
                let step = self.call(op::CONDITIONAL, vec![predicate, more, same]);
                let (accu, one) = (self.ident(ACCU), self.literal(Literal::Int(1)));
                let result = self.call(op::EQUALS, vec![accu, one]);
                (Literal::Int(0), self.literal(Literal::Bool(true)), step, result)
            }
        };
        let init = self.literal(init);
        let fold = Fold { range, var, var2, accu: ACCU.into(), init, condition, step, result };
        Ok(self.node(Kind::Fold(Box::new(fold))))
    }

    fn list(&mut self, function: &str, range: Expr, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let var = self.variable(&args[0], "argument is not an identifier")?;
        let (filter, element) = match (function, args.pop(), args.pop(), args.pop()) {
            ("filter", Some(filter), Some(element), _) => (Some(filter), element),
            (_, Some(element), Some(filter), Some(_)) => (Some(filter), element),
            (_, Some(element), ..) => (None, element),
            (_, None, ..) => unreachable!("a macro has at least two arguments"),
        };
        let grown = self.list_of(vec![element]);
        let init = self.list_of(Vec::new());
        Ok(self.collect(range, (var, None), init, op::ADD, vec![grown], filter))
    }

    fn transform(&mut self, function: &str, range: Expr, args: Vec<Expr>) -> Result<Expr, Refusal> {
        let (var, var2, mut rest) = self.variables(args, true)?;
        let element = rest.pop().unwrap_or_else(|| unreachable!("it has at least three arguments"));
        let filter = rest.pop();
        let (init, grow, args) = match function {
            "transformList" => {
                let grown = self.list_of(vec![element]);
                (self.list_of(Vec::new()), op::ADD, vec![grown])
            }
            "transformMap" => {
                let key = self.ident(&var);
                (self.node(Kind::Map(Vec::new())), op::MAP_INSERT, vec![key, element])
            }
            _ => (self.node(Kind::Map(Vec::new())), op::MAP_INSERT, vec![element]),
        };
        Ok(self.collect(range, (var, var2), init, grow, args, filter))
    }

    /// A fold whose accumulator grows by a call with `args` for each element that passes `filter`.
    fn collect(
        &mut self,
        range: Expr,
        (var, var2): (Name, Option<Name>),
        init: Expr,
        grow: &str,
        mut args: Vec<Expr>,
        filter: Option<Expr>,
    ) -> Expr {
        args.insert(0, self.ident(ACCU));
        let mut step = self.call(grow, args);
        if let Some(filter) = filter {
            let same = self.ident(ACCU);
            step = self.call(op::CONDITIONAL, vec![filter, step, same]);
        }
        let condition = self.literal(Literal::Bool(true));
        let result = self.ident(ACCU);
        let fold = Fold { range, var, var2, accu: ACCU.into(), init, condition, step, result };
        self.node(Kind::Fold(Box::new(fold)))
    }

    /// `value` known as `name` in `result`.
    fn bind(&mut self, name: &Name, value: Expr, result: Expr) -> Expr {
        let fold = Fold {
            range: self.list_of(Vec::new()),
            var: UNUSED.into(),
            var2: None,
            accu: Arc::clone(name),
            init: value,
            condition: self.literal(Literal::Bool(false)),
            step: self.ident(name),
            result,
        };
        self.node(Kind::Fold(Box::new(fold)))
    }

    fn optional(&mut self, function: &str, target: Expr, mut args: Vec<Expr>) -> Result<Expr, Refusal> {
        let Kind::Ident(name) = &args[0].kind else {
            let message = format!("{function}() variable name must be a simple identifier");
            return self.error(&args[0], message);
        };
        let name = Arc::clone(name);
        let inner = args.remove(1);
        let again = self.copy(&target);
        let has = self.member("hasValue", target, Vec::new());
        let value = self.member("value", again, Vec::new());
        let bound = self.bind(&name, value, inner);
        let some = if function == "optMap" { self.call("optional.of", vec![bound]) } else { bound };
        let none = self.call("optional.none", Vec::new());
        Ok(self.call(op::CONDITIONAL, vec![has, some, none]))
    }

    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Result<Expr, Refusal> {
        if !matches!(
            target.kind,
            Kind::List { .. } | Kind::Select { .. } | Kind::Ident(_) | Kind::Fold(_) | Kind::Call { .. }
        ) {
            let message =
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return self.error(&target, message);
        }
        let input: Name = "@__sortBy_input__".into();
        let range = self.ident(&input);
        let keys = self.list("map", range, args)?;
        let list = self.ident(&input);
        let sorted = self.member(op::SORT_BY_KEYS, list, vec![keys]);
        Ok(self.bind(&input, target, sorted))
    }

    /// A copy with ids of its own. It stops where the expression is too large to be accepted anyway.
    fn copy(&mut self, expr: &Expr) -> Expr {
        let offset = self.parser.offset(expr.id);
        if self.parser.overflows() {
            return self.parser.node(offset, Kind::Broken);
        }
        let id = self.parser.id(offset);
        let mut all = |parts: &[Expr]| parts.iter().map(|part| self.copy(part)).collect::<Vec<_>>();
        let kind = match &expr.kind {
            Kind::Literal(_) | Kind::Ident(_) | Kind::Broken => expr.kind.clone(),
            Kind::Select { operand, field, test } => {
                Kind::Select { operand: Box::new(self.copy(operand)), field: Arc::clone(field), test: *test }
            }
            Kind::Call { function, target, args } => {
                let args = all(args);
                let target = target.as_ref().map(|target| Box::new(self.copy(target)));
                Kind::Call { function: Arc::clone(function), target, args }
            }
            Kind::List { elements, optional } => {
                Kind::List { elements: all(elements), optional: optional.clone() }
            }
            Kind::Map(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|entry| MapEntry {
                        key: self.copy(&entry.key),
                        value: self.copy(&entry.value),
                        optional: entry.optional,
                    })
                    .collect(),
            ),
            Kind::Struct { name, fields } => Kind::Struct {
                name: Arc::clone(name),
                fields: fields.iter().map(|field| self.copy_field(field)).collect(),
            },
            Kind::Fold(fold) => Kind::Fold(Box::new(Fold {
                range: self.copy(&fold.range),
                var: Arc::clone(&fold.var),
                var2: fold.var2.clone(),
                accu: Arc::clone(&fold.accu),
                init: self.copy(&fold.init),
                condition: self.copy(&fold.condition),
                step: self.copy(&fold.step),
                result: self.copy(&fold.result),
            })),
        };
        Expr { id, kind }
    }

    fn copy_field(&mut self, field: &crate::ast::FieldEntry) -> crate::ast::FieldEntry {
        crate::ast::FieldEntry {
            id: self.parser.id(self.offset),
            name: Arc::clone(&field.name),
            value: self.copy(&field.value),
            optional: field.optional,
        }
    }
}
