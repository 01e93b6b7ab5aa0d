//! Label and field selectors: parsed once, matched against many objects.
//!
//! Label selectors come as text (`a=b,c in (d,e),!f`) in URLs and as objects (`matchLabels`, `matchExpressions`) in
//! specs; both become one [`Selector`]. Field selectors know only equality.

use std::fmt;

use crate::{FieldPath, Map, Value, error::Cause, names};

/// How many requirements one selector may have.
pub const MAX_REQUIREMENTS: usize = 256;

/// What a requirement asks of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of these.
    In(Vec<String>),
    /// The key is absent, or its value none of these.
    NotIn(Vec<String>),
    /// The key is there.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value is an integer above this.
    GreaterThan(i64),
    /// The value is an integer below this.
    LessThan(i64),
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
}

impl Requirement {
    /// Whether a label with this value (or absent) meets the requirement.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            Operator::NotIn(values) => value.is_none_or(|v| values.iter().all(|w| w != v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => number().is_some_and(|n| n > *bound),
            Operator::LessThan(bound) => number().is_some_and(|n| n < *bound),
        }
    }
}

/// A conjunction of requirements on labels. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// A selector's text that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse requirement: {0}")]
pub struct ParseError(String);

impl Selector {
    /// Whether it matches everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements.
    #[must_use]
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// Whether labels, looked up by key, meet all requirements.
    pub fn matches<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| r.matches(lookup(&r.key)))
    }

    /// Whether the labels of an object (`metadata.labels`) meet all requirements.
    #[must_use]
    pub fn matches_labels(&self, labels: Option<&Map>) -> bool {
        self.matches(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// The text is malformed, a key or value breaks the rules for labels, or there are more than
    /// [`MAX_REQUIREMENTS`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut parser = Parser { rest: text.trim_start() };
        let mut requirements = Vec::new();
        while !parser.rest.is_empty() {
            requirements.push(parser.requirement()?);
            if requirements.len() > MAX_REQUIREMENTS {
                return Err(ParseError(format!("a selector has at most {MAX_REQUIREMENTS} requirements")));
            }
            if parser.rest.is_empty() {
                break;
            }
            parser.expect(',')?;
            if parser.rest.is_empty() {
                return Err(ParseError("found '', expected: identifier after ','".into()));
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// Reads a `LabelSelector` object (meta/v1). An absent selector is the caller's to interpret.
    ///
    /// # Errors
    /// One cause per broken rule, below `path`.
    pub fn from_object(selector: &Value, path: &FieldPath) -> Result<Self, Vec<Cause>> {
        let mut requirements = Vec::new();
        let mut causes = Vec::new();
        for (key, value) in selector.object_at(&["matchLabels"]).into_iter().flat_map(Map::iter) {
            let value = value.as_str().unwrap_or_default();
            let path = path.field("matchLabels");
            if let Err(fault) = names::qualified(key) {
                causes.push(Cause::invalid(path.clone(), key, &fault));
            }
            if let Err(fault) = names::label_value(value) {
                causes.push(Cause::invalid(path.key(key), value, &fault));
            }
            requirements.push(Requirement { key: key.into(), operator: Operator::In(vec![value.into()]) });
        }
        for (i, expression) in selector.array_at(&["matchExpressions"]).iter().enumerate() {
            match expression_requirement(expression, &path.field("matchExpressions").index(i)) {
                Ok(requirement) => requirements.push(requirement),
                Err(cause) => causes.push(cause),
            }
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        if causes.is_empty() { Ok(Self { requirements }) } else { Err(causes) }
    }
}

fn expression_requirement(expression: &Value, path: &FieldPath) -> Result<Requirement, Cause> {
    let key = expression.str_at(&["key"]).unwrap_or_default();
    names::qualified(key).map_err(|fault| Cause::invalid(path.field("key"), key, &fault))?;
    let values: Vec<String> =
        expression.array_at(&["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let text = expression.str_at(&["operator"]).unwrap_or_default();
    let operator = match text {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            return Err(Cause::required(path.field("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            return Err(Cause::forbidden(path.field("values"), detail));
        }
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return Err(Cause::invalid(path.field("operator"), text, "not a valid selector operator")),
    };
    Ok(Requirement { key: key.into(), operator })
}

impl fmt::Display for Selector {
    /// The text form, requirements in the order of their keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}")?;
            match &r.operator {
                Operator::In(values) if values.len() == 1 => write!(f, "{}={}", r.key, values[0])?,
                Operator::NotIn(values) if values.len() == 1 => write!(f, "{}!={}", r.key, values[0])?,
                Operator::In(values) => write!(f, "{} in ({})", r.key, values.join(","))?,
                Operator::NotIn(values) => write!(f, "{} notin ({})", r.key, values.join(","))?,
                Operator::Exists => f.write_str(&r.key)?,
                Operator::DoesNotExist => write!(f, "!{}", r.key)?,
                Operator::GreaterThan(n) => write!(f, "{}>{n}", r.key)?,
                Operator::LessThan(n) => write!(f, "{}<{n}", r.key)?,
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        if let Some(rest) = found {
            self.rest = rest;
            self.skip_space();
        }
        found.is_some()
    }

    fn expect(&mut self, token: char) -> Result<(), ParseError> {
        let mut buffer = [0; 4];
        if self.take(token.encode_utf8(&mut buffer)) {
            return Ok(());
        }
        Err(ParseError(format!("found '{}', expected: '{token}'", self.rest)))
    }

    /// Characters up to a separator; may be empty.
    fn word(&mut self) -> &'a str {
        let end =
            self.rest.find(|c: char| c.is_whitespace() || "=!<>(),".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_space();
        word
    }

    fn key(&mut self) -> Result<String, ParseError> {
        let key = self.word();
        names::qualified(key).map_err(|fault| ParseError(format!("key: Invalid value: {key:?}: {fault}")))?;
        Ok(key.to_owned())
    }

    fn value(&mut self, key: &str) -> Result<String, ParseError> {
        let value = self.word();
        names::label_value(value)
            .map_err(|fault| ParseError(format!("values[0][{key}]: Invalid value: {value:?}: {fault}")))?;
        Ok(value.to_owned())
    }

    fn values(&mut self, key: &str) -> Result<Vec<String>, ParseError> {
        self.expect('(')?;
        let mut values = vec![self.value(key)?];
        while self.take(",") {
            values.push(self.value(key)?);
        }
        self.expect(')')?;
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn requirement(&mut self) -> Result<Requirement, ParseError> {
        if self.take("!") {
            return Ok(Requirement { key: self.key()?, operator: Operator::DoesNotExist });
        }
        let key = self.key()?;
        let operator = if self.take("==") || self.take("=") {
            Operator::In(vec![self.value(&key)?])
        } else if self.take("!=") {
            Operator::NotIn(vec![self.value(&key)?])
        } else if self.take(">") {
            Operator::GreaterThan(self.bound()?)
        } else if self.take("<") {
            Operator::LessThan(self.bound()?)
        } else if self.rest.is_empty() || self.rest.starts_with(',') {
            Operator::Exists
        } else {
            match self.word() {
                "in" => Operator::In(self.values(&key)?),
                "notin" => Operator::NotIn(self.values(&key)?),
                other => {
                    let text = format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt");
                    return Err(ParseError(text));
                }
            }
        };
        Ok(Requirement { key, operator })
    }

    fn bound(&mut self) -> Result<i64, ParseError> {
        let word = self.word();
        let text = "for 'Gt', 'Lt' operators, the value must be an integer";
        word.parse().map_err(|_| ParseError(text.into()))
    }
}

/// One condition of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field's path, `status.phase`.
    pub field: String,
    /// The value it is compared with.
    pub value: String,
    /// Whether it must equal the value, or must not.
    pub equal: bool,
}

/// A conjunction of conditions on fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// The conditions.
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Reads `a=b,c!=d`; `\`, `,` and `=` inside a value are escaped by `\`.
    ///
    /// # Errors
    /// A term without `=`, `==` or `!=`, a bad escape, or more than [`MAX_REQUIREMENTS`] terms.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let requirements = split_terms(text)
            .into_iter()
            .filter(|term| !term.is_empty())
            .map(parse_term)
            .collect::<Result<Vec<_>, _>>()?;
        if requirements.len() > MAX_REQUIREMENTS {
            return Err(ParseError(format!("a selector has at most {MAX_REQUIREMENTS} requirements")));
        }
        Ok(Self { requirements })
    }

    /// The value that the field must equal, if the selector says so.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }

    /// Whether fields, looked up by path, meet all conditions; an absent field is the empty string.
    pub fn matches<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| (lookup(&r.field).unwrap_or_default() == r.value) == r.equal)
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_term(term: &str) -> Result<FieldRequirement, ParseError> {
    let bad = || ParseError(format!("invalid selector: '{term}'; can't understand '{term}'"));
    let at = term.find(['=', '!']).ok_or_else(bad)?;
    let (field, rest) = term.split_at(at);
    let (equal, value) = match rest {
        _ if rest.starts_with("!=") => (false, &rest[2..]),
        _ if rest.starts_with("==") => (true, &rest[2..]),
        _ if rest.starts_with('=') => (true, &rest[1..]),
        _ => return Err(bad()),
    };
    Ok(FieldRequirement { field: field.to_owned(), value: unescape(value).ok_or_else(bad)?, equal })
}

fn unescape(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| matches!(c, '\\' | ',' | '='))?),
            '=' => return None,
            _ => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn label_selectors_print_canonically() {
        let check = |text: &str, want: &str| {
            assert_eq!(Selector::parse(text).expect(text).to_string(), want, "{text}");
        };
        check("", "");
        check("a=b", "a=b");
        check(" a == b , c!=d ", "a=b,c!=d");
        check("x in (c, a,b),y notin (z)", "x in (a,b,c),y!=z");
        check("k8s.io/a,!b", "!b,k8s.io/a");
        check("a=", "a=");
        check("n>3,m<5", "m<5,n>3");
        check("a in (,b)", "a in (,b)");
        for bad in
            ["a=b,", "=b", "a=b=c", "a in b", "a in (b", "a foo (b)", "a,,b", "!", "-a=b", "a=b c", "n>x"]
        {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn label_selectors_match() {
        let labels = object!({"app": "web", "tier": "front", "n": "5"});
        let check = |text: &str, want: bool| {
            assert_eq!(Selector::parse(text).expect(text).matches_labels(labels.as_object()), want, "{text}");
        };
        check("", true);
        check("app=web,tier=front", true);
        check("app!=web", false);
        check("other!=web", true);
        check("app in (x,web)", true);
        check("app notin (x)", true);
        check("!app", false);
        check("other", false);
        check("n>4,n<6", true);
        check("app>1", false);
    }

    #[test]
    fn selector_objects() {
        let path = FieldPath::new("spec.selector");
        let good = object!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "x", "operator": "Exists"}]
        });
        assert_eq!(
            Selector::from_object(&good, &path).expect("valid").to_string(),
            "app=web,tier in (a,b),x"
        );
        let bad = object!({"matchExpressions": [{"key": "tier", "operator": "In"}, {"key": "x", "operator": "Is"}]});
        let causes = Selector::from_object(&bad, &path).expect_err("invalid");
        let texts: Vec<String> = causes.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.selector.matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
                "spec.selector.matchExpressions[1].operator: Invalid value: \"Is\": not a valid selector operator",
            ]
        );
    }

    #[test]
    fn field_selectors() {
        let selector = FieldSelector::parse(r"spec.nodeName=n1,status.phase!=Failed,metadata.name==a\,b")
            .expect("valid");
        assert_eq!(selector.exact("metadata.name"), Some("a,b"));
        assert_eq!(selector.exact("status.phase"), None);
        let lookup = |f: &str| match f {
            "spec.nodeName" => Some("n1"),
            "metadata.name" => Some("a,b"),
            _ => None,
        };
        assert!(selector.matches(lookup));
        for bad in ["a", "a!b", r"a=b\x", "a=b=c"] {
            assert!(FieldSelector::parse(bad).is_err(), "{bad}");
        }
        assert!(FieldSelector::parse("").expect("empty").requirements.is_empty());
    }
}
