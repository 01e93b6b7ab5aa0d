//! The options in a request's query, one struct per kind of request (meta/v1 `ListOptions`, `PatchOptions`, …).
//!
//! Unknown parameters are ignored, as upstream does; known ones with a value that cannot be read are a 400.

use std::num::{IntErrorKind, ParseIntError};

use xebec_api::selector::{FieldSelector, Selector};
use xebec_api::{Cause, FieldPath, Status, fields};

/// A query string, decoded; parameters in their order.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Decodes a query string (`application/x-www-form-urlencoded`).
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        Self { pairs: pairs.map(|(k, v)| (k.into_owned(), v.into_owned())).collect() }
    }

    /// The first value of `name`; an empty value counts as absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// The value of `name` as Go reads a number of 64 bits; `None` if absent.
    ///
    /// # Errors
    /// 400 in the words of Go.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let bad = |text: &str, error: &ParseIntError| {
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {}", go_error(error)))
        };
        self.get(name).map(|text| text.parse().map_err(|error| bad(text, &error))).transpose()
    }

    /// A boolean as upstream reads it: whatever is neither `0` nor `false` is true, nothing at all included; `None` if absent.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        let value = self.all(name).next()?;
        Some(value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// What is wrong with the options that all writes have.
    #[must_use]
    pub fn write_faults(&self) -> Vec<Cause> {
        let mut causes = fields::validate_manager(
            self.get("fieldManager").unwrap_or_default(),
            &FieldPath::new("fieldManager"),
        );
        let dry: Vec<&str> = self.all("dryRun").filter(|v| !v.is_empty()).collect();
        causes.extend(dry_run_fault(&dry));
        let words = ["", "Ignore", "Strict", "Warn"];
        if let Some(other) = self.get("fieldValidation").filter(|word| !words.contains(word)) {
            causes.push(Cause::not_supported(FieldPath::new("fieldValidation"), other, &words));
        }
        causes
    }

    /// Whether the write is only tried; what is wrong with that [`Query::write_faults`] tells.
    #[must_use]
    pub fn dry_run(&self) -> bool {
        self.all("dryRun").any(|value| value == "All")
    }
}

/// What Go says of a number that cannot be read.
fn go_error(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// What is wrong with the values of `dryRun`.
#[must_use]
pub fn dry_run_fault(values: &[&str]) -> Option<Cause> {
    let is_known = values.iter().all(|value| *value == "All");
    (!is_known).then(|| Cause::not_supported(FieldPath::new("dryRun"), values.to_vec(), &["All"]))
}

/// The refusal of options of this kind.
#[must_use]
pub fn invalid_options(kind: &str, causes: Vec<Cause>) -> Status {
    Status::invalid("meta.k8s.io", kind, "", causes)
}

/// What becomes of unknown and duplicate fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped in silence.
    Ignore,
    /// They are dropped, and a `Warning` header names them.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

impl FieldValidation {
    /// Reads the parameter; what is wrong with it [`Query::write_faults`] tells.
    #[must_use]
    pub fn from_query(query: &Query) -> Self {
        match query.get("fieldValidation") {
            Some("Ignore") => Self::Ignore,
            Some("Strict") => Self::Strict,
            _ => Self::Warn,
        }
    }
}

/// Which state of the data a read wants (`resourceVersion` and `resourceVersionMatch`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The newest state.
    #[default]
    Newest,
    /// Any state (`resourceVersion=0`); for a watch, everything from now on after the present objects.
    Any,
    /// A state not older than this.
    NotOlderThan(u64),
    /// Exactly this state.
    Exact(u64),
}

/// What a list or watch asks for.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Which labels objects must have.
    pub labels: Selector,
    /// Which fields objects must have.
    pub fields: FieldSelector,
    /// Which state is wanted; of a watch, the state it starts after.
    pub at: At,
    /// Whether `resourceVersionMatch` was given.
    pub matched: bool,
    /// At most this many objects in one answer; 0 for all.
    pub limit: usize,
    /// Where an earlier answer ended.
    pub continue_token: Option<String>,
    /// Whether a watch wants bookmarks.
    pub bookmarks: bool,
    /// Whether a watch begins with the present objects, then a bookmark that says so.
    pub initial_events: Option<bool>,
    /// How long a watch lasts; 0 is as if it were not given, less has ended already.
    pub timeout_seconds: Option<i64>,
    /// Whether changes are wanted.
    pub watch: bool,
}

impl ListOptions {
    /// Reads the options.
    ///
    /// # Errors
    /// 400 for values that cannot be read; 422 for combinations that the API forbids.
    pub fn from_query(query: &Query) -> Result<Self, Status> {
        let selector = |name: &str| query.get(name).unwrap_or_default();
        let bad = |e: xebec_api::selector::ParseError| Status::bad_request(e.to_string());
        let watch = query.flag("watch").unwrap_or_default();
        let limit = query.number("limit")?;
        let options = Self {
            labels: Selector::parse(selector("labelSelector")).map_err(bad)?,
            fields: FieldSelector::parse(selector("fieldSelector")).map_err(bad)?,
            at: At::Newest,
            matched: query.get("resourceVersionMatch").is_some(),
            limit: limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or_default(),
            continue_token: query.get("continue").map(str::to_owned),
            bookmarks: query.flag("allowWatchBookmarks").unwrap_or_default(),
            initial_events: query.flag("sendInitialEvents"),
            timeout_seconds: query.number("timeoutSeconds")?,
            watch,
        };
        let at = options.read_at(query)?;
        Ok(Self { at, ..options })
    }

    fn read_at(&self, query: &Query) -> Result<At, Status> {
        let text = query.get("resourceVersion").unwrap_or_default();
        let forbidden = |field: &str, why: &str| {
            let cause = Cause::forbidden(FieldPath::new(field), why);
            Status::invalid("meta.k8s.io", "ListOptions", "", vec![cause])
        };
        let rule = query.get("resourceVersionMatch");
        if self.watch {
            self.check_watch(rule, &forbidden)?;
        } else if self.initial_events.is_some() {
            return Err(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        } else if rule.is_some() && self.continue_token.is_some() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            return Err(forbidden("resourceVersionMatch", why));
        } else if rule.is_some() && text.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            return Err(forbidden("resourceVersionMatch", why));
        }
        let version = || parse_version(text);
        match (rule, text) {
            (_, "") => Ok(At::Newest),
            (Some("Exact"), "0") => {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                Err(forbidden("resourceVersionMatch", why))
            }
            (_, "0") => Ok(At::Any),
            (Some("Exact"), _) => version().map(At::Exact),
            // Before `resourceVersionMatch` existed, a limited list at a version meant exactly that version.
            (None, _) if self.limit > 0 && !self.watch => version().map(At::Exact),
            (None | Some("NotOlderThan"), _) => version().map(At::NotOlderThan),
            (Some(other), _) => {
                let field = FieldPath::new("resourceVersionMatch");
                let cause = Cause::not_supported(field, other, &["Exact", "NotOlderThan", ""]);
                Err(invalid_options("ListOptions", vec![cause]))
            }
        }
    }

    fn check_watch(
        &self,
        rule: Option<&str>,
        forbidden: &dyn Fn(&str, &str) -> Status,
    ) -> Result<(), Status> {
        match (self.initial_events, rule) {
            (Some(true), Some("NotOlderThan")) if self.bookmarks => Ok(()),
            (Some(true), Some("NotOlderThan")) => {
                Err(forbidden("sendInitialEvents", "sendInitialEvents requires allowWatchBookmarks"))
            }
            (Some(_), None) => Err(forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (Some(_), Some("NotOlderThan")) | (None, None) => Ok(()),
            (Some(_), Some(_)) => Err(forbidden(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            )),
            (None, Some(_)) => Err(forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )),
        }
    }
}

/// Reads a resource version: the decimal text of a revision.
///
/// # Errors
/// 400 for anything else.
pub fn parse_version(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|error: ParseIntError| {
        let why = format!("strconv.ParseUint: parsing {text:?}: {}", go_error(&error));
        let cause = Cause::invalid(FieldPath::new("resourceVersion"), text, &why);
        Status::bad_request(format!("invalid resource version: {cause}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_their_match() {
        let check = |query: &str, want: Result<At, u16>| {
            let got = ListOptions::from_query(&Query::parse(query)).map(|o| o.at).map_err(|e| e.code());
            assert_eq!(got, want, "{query}");
        };
        check("", Ok(At::Newest));
        check("resourceVersion=0", Ok(At::Any));
        check("resourceVersion=5", Ok(At::NotOlderThan(5)));
        check("resourceVersion=5&limit=2", Ok(At::Exact(5)));
        check("resourceVersion=5&resourceVersionMatch=Exact", Ok(At::Exact(5)));
        check("resourceVersion=5&limit=2&resourceVersionMatch=NotOlderThan", Ok(At::NotOlderThan(5)));
        check("resourceVersion=0&resourceVersionMatch=Exact", Err(422));
        check("resourceVersionMatch=Exact", Err(422));
        check("resourceVersionMatch=Exact&resourceVersion=1&continue=x", Err(422));
        check("resourceVersion=x", Err(400));
        check("watch=1&resourceVersion=7", Ok(At::NotOlderThan(7)));
        check("watch=1&resourceVersionMatch=NotOlderThan", Err(422));
        check(
            "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1",
            Ok(At::Newest),
        );
        check("watch=1&sendInitialEvents=true", Err(422));
        check("sendInitialEvents=true", Err(422));
        check("limit=-1", Ok(At::Newest));
        check("limit=x", Err(400));
        check("resourceVersion=5&resourceVersionMatch=x", Err(422));
        check("labelSelector=a=b=c", Err(400));
    }

    #[test]
    fn flags() {
        let faults = |q: &str| {
            let causes = Query::parse(q).write_faults();
            causes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert!(Query::parse("dryRun=All").dry_run() && !Query::parse("").dry_run());
        assert_eq!(faults("dryRun=All&fieldValidation=Strict&fieldManager=a"), "");
        assert_eq!(faults("dryRun=x"), r#"dryRun: Unsupported value: ["x"]: supported values: "All""#);
        assert_eq!(
            faults("fieldValidation=x"),
            r#"fieldValidation: Unsupported value: "x": supported values: "", "Ignore", "Strict", "Warn""#
        );
        assert_eq!(Query::parse("a=%2Fx+y").get("a"), Some("/x y"));
        let flag = |q: &str| Query::parse(q).flag("a");
        assert_eq!(
            ["", "a=0", "a=FALSE", "a=", "a=yes"].map(flag),
            [None, Some(false), Some(false), Some(true), Some(true)]
        );
        let number = |q: &str| Query::parse(q).number("a").map_err(|e| e.message.into_owned());
        assert_eq!(number("a=-7"), Ok(Some(-7)));
        assert_eq!(number("a=x"), Err("strconv.ParseInt: parsing \"x\": invalid syntax".into()));
        let large = "99999999999999999999";
        let range = format!("strconv.ParseInt: parsing \"{large}\": value out of range");
        assert_eq!(number(&format!("a={large}")), Err(range));
        assert_eq!(
            parse_version("x").map_err(|e| e.message.into_owned()),
            Err("invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax".into())
        );
    }
}
