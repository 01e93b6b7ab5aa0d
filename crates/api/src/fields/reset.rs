//! Fields that a write does not change whatever it says: `status` through the main resource, all else through `status`.

use std::borrow::Cow;

use super::set::{FieldSet, Node};

/// Which fields a write can own.
#[derive(Clone, Debug)]
pub enum Filter {
    /// All but these and what is below them.
    Exclude(FieldSet),
    /// Only what these patterns lead to: the fields on the way, and everything below.
    Include(Vec<Vec<Step>>),
}

/// One step of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The member of this name.
    Field(Cow<'static, str>),
    /// Any member or element.
    Any,
}

/// The filters of a resource or subresource for each `apiVersion` of it; a version without one owns whatever it writes.
pub type ResetFields = [(Cow<'static, str>, Filter)];

/// The filter for a version.
pub(super) fn filter_for<'a>(reset: &'a ResetFields, api_version: &str) -> Option<&'a Filter> {
    reset.iter().find(|(version, _)| version == api_version).map(|(_, filter)| filter)
}

impl Filter {
    /// Takes out of `set` what a write cannot own.
    pub(super) fn apply(&self, set: &mut FieldSet) {
        match self {
            Self::Exclude(fields) => set.remove_trees(fields),
            Self::Include(patterns) => {
                let patterns: Vec<&[Step]> = patterns.iter().map(Vec::as_slice).collect();
                include(set, &patterns);
            }
        }
    }
}

fn include(set: &mut FieldSet, patterns: &[&[Step]]) {
    if patterns.iter().any(|p| p.is_empty()) {
        return;
    }
    set.nodes.retain_mut(|node| {
        let fits = |step: &Step| match step {
            Step::Any => true,
            Step::Field(name) => node.element.field() == Some(name),
        };
        let rest: Vec<&[Step]> = patterns
            .iter()
            .filter_map(|p| p.split_first())
            .filter(|(first, _)| fits(first))
            .map(|p| p.1)
            .collect();
        if rest.is_empty() {
            return false;
        }
        include(&mut node.below, &rest);
        node.owned || !node.below.is_empty()
    });
}

/// Takes out what is never owned: the object's type and the parts of its metadata that the server or the address gives.
pub(super) fn strip_system_fields(set: &mut FieldSet) {
    const METADATA: [&str; 9] = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let unmark = |node: &mut Node| {
        node.owned = false;
        !node.below.is_empty()
    };
    set.nodes.retain_mut(|node| match node.element.field() {
        Some("apiVersion" | "kind") => unmark(node),
        Some("metadata") => {
            let own = |inner: &mut Node| {
                !inner.element.field().is_some_and(|f| METADATA.contains(&f)) || unmark(inner)
            };
            node.below.nodes.retain_mut(own);
            unmark(node)
        }
        _ => true,
    });
}

/// Takes `metadata.managedFields` out, which one of two compared objects carries.
pub(super) fn forget_managed_fields(set: &mut FieldSet) {
    if let Some(metadata) = set.field_mut("metadata") {
        metadata.below.nodes.retain(|node| node.element.field() != Some("managedFields"));
        set.nodes.retain(|node| node.owned || !node.below.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::testing::tree;

    fn set(text: &str) -> FieldSet {
        FieldSet::from_value(&tree(text)).expect(text)
    }

    #[test]
    fn filters() {
        let check = |filter: &Filter, input: &str, want: &str| {
            let mut got = set(input);
            filter.apply(&mut got);
            assert_eq!(got, set(want), "{filter:?} {input}");
        };
        let exclude = Filter::Exclude(FieldSet::of(&[&["status"], &["metadata", "labels"]]));
        check(
            &exclude,
            r#"{"f:status":{".":{},"f:a":{}},"f:metadata":{"f:labels":{"f:x":{}},"f:annotations":{}},"f:spec":{}}"#,
            r#"{"f:metadata":{"f:annotations":{}},"f:spec":{}}"#,
        );
        let step = |name: &'static str| Step::Field(name.into());
        let include = Filter::Include(vec![
            vec![step("spec"), step("containers"), Step::Any, step("resources")],
            vec![step("spec"), step("extra")],
        ]);
        check(
            &include,
            r#"{"f:spec":{".":{},"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:resources":{"f:cpu":{}}},
                "k:{\"name\":\"b\"}":{"f:image":{}}},"f:extra":{"f:deep":{"f:x":{}}},"f:other":{}},"f:status":{}}"#,
            r#"{"f:spec":{".":{},"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:resources":{"f:cpu":{}}}},
                "f:extra":{"f:deep":{"f:x":{}}}}}"#,
        );
        check(&Filter::Include(vec![vec![]]), r#"{"f:a":{}}"#, r#"{"f:a":{}}"#);
    }

    #[test]
    fn what_is_never_owned() {
        let check = |input: &str, want: &str| {
            let mut got = set(input);
            strip_system_fields(&mut got);
            assert_eq!(got, set(want), "{input}");
        };
        check(r#"{"f:apiVersion":{},"f:kind":{},"f:metadata":{".":{},"f:name":{},"f:uid":{}}}"#, "{}");
        check(
            r#"{"f:metadata":{".":{},"f:labels":{".":{},"f:name":{}},"f:generation":{}},"f:spec":{"f:name":{}}}"#,
            r#"{"f:metadata":{"f:labels":{".":{},"f:name":{}}},"f:spec":{"f:name":{}}}"#,
        );
    }
}
