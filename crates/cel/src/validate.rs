//! What is refused of expressions whose types are right: literals that no duration, timestamp or pattern can be made of, lists
//! and maps of mixed types, and format strings that do not go with their arguments.

use crate::ast::{Expr, Id, Kind, Literal};
use crate::check::Checked;
use crate::functions::format::{Clause, Verb, clauses};
use crate::issues::Issues;
use crate::parser::Parsed;
use crate::pattern;
use crate::time::{Timestamp, parse_duration};
use crate::types::Type;

/// Refuses what cannot work.
pub(crate) fn validate(parsed: &Parsed, checked: &Checked) -> Result<(), Issues> {
    let mut validator = Validator { parsed, checked, issues: Issues::new() };
    validator.visit(&parsed.root, false);
    validator.issues.into_result()
}

struct Validator<'p> {
    parsed: &'p Parsed,
    checked: &'p Checked,
    issues: Issues,
}

impl Validator<'_> {
    fn report(&mut self, at: Id, message: String) {
        self.issues.report(&self.parsed.source, self.parsed.location(at), message);
    }

    fn visit(&mut self, expr: &Expr, formats: bool) {
        let mut formats = formats;
        match &expr.kind {
            Kind::Call { function, target, args } => {
                self.literal(function, args);
                if &**function == "format" {
                    formats = true;
                    if let Some(target) = target {
                        self.format(expr.id, target, args);
                    }
                }
            }
            Kind::List { elements, optional } if !formats => {
                let entries = elements.iter().enumerate().map(|(at, e)| (e, optional.contains(&at)));
                self.homogeneous(entries, true);
            }
            Kind::Map(entries) if !formats => {
                self.homogeneous(entries.iter().map(|entry| (&entry.key, false)), false);
                self.homogeneous(entries.iter().map(|entry| (&entry.value, entry.optional)), false);
            }
            _ => {}
        }
        let mut below = Vec::new();
        expr.children(&mut |child| below.push(child));
        for child in below {
            self.visit(child, formats);
        }
    }

    fn literal(&mut self, function: &str, args: &[Expr]) {
        let Some(arg) = args.first() else { return };
        let Kind::Literal(literal) = &arg.kind else { return };
        let holds = match (function, literal) {
            ("duration", Literal::String(text)) => parse_duration(text).is_some(),
            ("timestamp", Literal::String(text)) => Timestamp::parse(text).is_some(),
            ("timestamp", Literal::Int(seconds)) => Timestamp::from_unix(*seconds).is_ok(),
            ("matches", Literal::String(text)) => pattern::compile(text).is_ok(),
            _ => true,
        };
        if !holds {
            self.report(arg.id, format!("invalid {function} argument"));
        }
    }

    /// Refuses the first, or each, of the entries that has another type than the first of all.
    fn homogeneous<'e>(&mut self, entries: impl Iterator<Item = (&'e Expr, bool)>, once: bool) {
        let mut first: Option<Type> = None;
        for (entry, optional) in entries {
            let mut type_of = self.checked.type_of(entry).clone();
            if optional && let Some(inner) = type_of.unwrap_optional() {
                type_of = inner.clone();
            }
            match &first {
                None => first = Some(type_of),
                Some(first) if first.is_equivalent(&type_of) => {}
                Some(first) => {
                    let message = format!("expected type '{first}' but found '{type_of}'");
                    self.report(entry.id, message);
                    if once {
                        return;
                    }
                }
            }
        }
    }

    fn format(&mut self, id: Id, target: &Expr, args: &[Expr]) {
        let Kind::Literal(Literal::String(text)) = &target.kind else { return };
        let [Expr { kind: Kind::List { elements, .. }, .. }] = args else { return };
        if !self.checked.overloads(id).contains(&"string_format") {
            return;
        }
        let clauses = match clauses(text, |index| index < elements.len()) {
            Ok(clauses) => clauses,
            Err(why) => return self.report(id, why),
        };
        let verbs: Vec<Verb> = clauses
            .iter()
            .filter_map(|clause| match clause {
                Clause::Verb(verb) => Some(*verb),
                Clause::Text(_) => None,
            })
            .collect();
        for (verb, element) in verbs.iter().zip(elements) {
            if let Some(bad) = self.refused(*verb, element) {
                let name = self.checked.type_of(bad).runtime_name().to_owned();
                return self.report(bad.id, format!("error during formatting: {}", verb.refusal(&name)));
            }
        }
        if elements.len() > verbs.len() {
            let message = format!(
                "too many arguments supplied to string.format (expected {}, got {})",
                verbs.len(),
                elements.len()
            );
            self.report(id, message);
        }
    }

    /// The part of an argument that a clause cannot show.
    fn refused<'e>(&self, verb: Verb, arg: &'e Expr) -> Option<&'e Expr> {
        let type_of = self.checked.type_of(arg);
        let fits = match (verb, type_of) {
            (_, Type::Dyn) => true,
            (Verb::String, Type::Object(_) | Type::Opaque(..)) => false,
            (Verb::String, _) => true,
            (Verb::Decimal | Verb::Octal, Type::Int | Type::Uint) => true,
            (Verb::Fixed(_) | Verb::Scientific(_), Type::Double | Type::String) => true,
            (Verb::Binary, Type::Int | Type::Uint | Type::Bool) => true,
            (Verb::Hex | Verb::UpperHex, Type::Int | Type::Uint | Type::String | Type::Bytes) => true,
            _ => false,
        };
        if !fits {
            return Some(arg);
        }
        match (verb, &arg.kind) {
            (Verb::String, Kind::List { elements, .. }) => {
                elements.iter().find_map(|element| self.refused(verb, element))
            }
            (Verb::String, Kind::Map(entries)) => entries.iter().find_map(|entry| {
                self.refused(verb, &entry.key).or_else(|| self.refused(verb, &entry.value))
            }),
            _ => None,
        }
    }
}
