//! Sets of paths to fields: a trie whose nodes are sorted.

use std::cmp::Ordering;

use super::element::Element;

/// A set of paths to fields. The empty path is never a member: nobody owns the object itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// Sorted by element, each once; none is neither owned nor has nodes below.
    pub(super) nodes: Vec<Node>,
}

/// The paths of a set that share their first step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) element: Element,
    /// Whether the path that ends here is a member.
    pub(super) owned: bool,
    /// The paths that go on from here.
    pub(super) below: FieldSet,
}

impl Node {
    pub(super) fn leaf(element: Element) -> Self {
        Self { element, owned: true, below: FieldSet::new() }
    }

    fn is_empty(&self) -> bool {
        !self.owned && self.below.is_empty()
    }
}

impl FieldSet {
    /// The set of no paths.
    #[must_use]
    pub const fn new() -> Self {
        Self { nodes: Vec::new() }
    }

    /// The set of some paths of plain fields: `[&["status"], &["metadata", "labels"]]`.
    #[must_use]
    pub fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let path: Vec<Element> = path.iter().map(|name| Element::Field((*name).into())).collect();
            set.insert(&path);
        }
        set
    }

    /// Whether no path is a member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many paths are members.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.iter().map(|node| usize::from(node.owned) + node.below.len()).sum()
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.element.cmp(element))
    }

    pub(super) fn node(&self, element: &Element) -> Option<&Node> {
        self.find(element).ok().map(|at| &self.nodes[at])
    }

    /// The node of the member `name`; found without making an [`Element`].
    pub(super) fn field_mut(&mut self, name: &str) -> Option<&mut Node> {
        let at = self.nodes.binary_search_by(|node| match &node.element {
            Element::Field(field) => field.as_str().cmp(name),
            _ => Ordering::Greater,
        });
        at.ok().map(|at| &mut self.nodes[at])
    }

    /// Makes `path` a member.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let at = self.find(first).unwrap_or_else(|at| {
            self.nodes.insert(at, Node { owned: false, ..Node::leaf(first.clone()) });
            at
        });
        if rest.is_empty() {
            self.nodes[at].owned = true;
        } else {
            self.nodes[at].below.insert(rest);
        }
    }

    /// Whether `path` is a member.
    #[must_use]
    pub fn has(&self, path: &[Element]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        self.node(first).is_some_and(|node| if rest.is_empty() { node.owned } else { node.below.has(rest) })
    }

    /// Adds a node behind all others, as walks in order do; nothing if it holds no path.
    pub(super) fn push(&mut self, node: Node) {
        if !node.is_empty() {
            debug_assert!(self.nodes.last().is_none_or(|last| last.element < node.element));
            self.nodes.push(node);
        }
    }

    /// Makes the paths of `other` members too.
    pub fn add(&mut self, other: Self) {
        if self.nodes.is_empty() {
            *self = other;
            return;
        }
        let mut old = std::mem::take(&mut self.nodes).into_iter().peekable();
        for mut node in other.nodes {
            while let Some(before) = old.next_if(|o| o.element < node.element) {
                self.nodes.push(before);
            }
            if let Some(mut equal) = old.next_if(|o| o.element == node.element) {
                equal.below.add(std::mem::take(&mut node.below));
                node = Node { owned: node.owned || equal.owned, ..equal };
            }
            self.nodes.push(node);
        }
        self.nodes.extend(old);
    }

    /// Takes the paths of `other` out; what lies below them stays.
    pub fn remove(&mut self, other: &Self) {
        self.remove_with(other, &|node, gone| {
            node.owned &= !gone.owned;
            node.below.remove(&gone.below);
        });
    }

    /// Takes the paths of `other` out together with all that lies below them.
    pub fn remove_trees(&mut self, other: &Self) {
        self.remove_with(other, &|node, gone| {
            if gone.owned {
                node.owned = false;
                node.below = Self::new();
            } else {
                node.below.remove_trees(&gone.below);
            }
        });
    }

    fn remove_with(&mut self, other: &Self, take: &dyn Fn(&mut Node, &Node)) {
        let mut gone = other.nodes.iter().peekable();
        self.nodes.retain_mut(|node| {
            while gone.next_if(|g| g.element < node.element).is_some() {}
            if let Some(equal) = gone.next_if(|g| g.element == node.element) {
                take(node, equal);
            }
            !node.is_empty()
        });
    }

    /// The paths that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut common = Self::new();
        let mut theirs = other.nodes.iter().peekable();
        for node in &self.nodes {
            while theirs.next_if(|t| t.element < node.element).is_some() {}
            if let Some(equal) = theirs.next_if(|t| t.element == node.element) {
                common.push(Node {
                    element: node.element.clone(),
                    owned: node.owned && equal.owned,
                    below: node.below.intersection(&equal.below),
                });
            }
        }
        common
    }

    /// Whether all paths are in `other` too.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let mut theirs = other.nodes.iter().peekable();
        self.nodes.iter().all(|node| {
            while theirs.next_if(|t| t.element < node.element).is_some() {}
            theirs
                .next_if(|t| t.element == node.element)
                .is_some_and(|t| (t.owned || !node.owned) && node.below.is_within(&t.below))
        })
    }

    /// Calls `visit` for each path: at each level those that end there, then those that go on.
    pub fn for_each(&self, visit: &mut dyn FnMut(&[Element])) {
        self.visit_below(&mut Vec::new(), visit);
    }

    fn visit_below(&self, path: &mut Vec<Element>, visit: &mut dyn FnMut(&[Element])) {
        for node in self.nodes.iter().filter(|node| node.owned) {
            path.push(node.element.clone());
            visit(path);
            path.pop();
        }
        for node in &self.nodes {
            path.push(node.element.clone());
            node.below.visit_below(path, visit);
            path.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::element::PathText;

    fn set(paths: &[&str]) -> FieldSet {
        let paths: Vec<Vec<&str>> = paths.iter().map(|p| p.split('.').collect()).collect();
        let paths: Vec<&[&str]> = paths.iter().map(Vec::as_slice).collect();
        FieldSet::of(&paths)
    }

    #[test]
    fn algebra() {
        let check = |a: &[&str], b: &[&str], both: &[&str], only_a: &[&str], common: &[&str]| {
            let (a, b) = (set(a), set(b));
            let mut union = a.clone();
            union.add(b.clone());
            assert_eq!(union, set(both), "union");
            let mut other_way = b.clone();
            other_way.add(a.clone());
            assert_eq!(other_way, union);
            let mut difference = a.clone();
            difference.remove(&b);
            assert_eq!(difference, set(only_a), "difference");
            assert_eq!(a.intersection(&b), set(common), "intersection");
            assert_eq!(b.intersection(&a), set(common));
            assert_eq!(a.is_within(&b), difference.is_empty());
            assert!(a.is_within(&union) && b.is_within(&union) && set(common).is_within(&a));
            assert_eq!(union.len(), difference.len() + b.len());
        };
        check(&["a", "b.c"], &["b.c", "d"], &["a", "b.c", "d"], &["a"], &["b.c"]);
        check(&["b", "b.c"], &["b"], &["b", "b.c"], &["b.c"], &["b"]);
        check(&["b"], &["b.c"], &["b", "b.c"], &["b"], &[]);
        check(&[], &["x.y.z"], &["x.y.z"], &[], &[]);
        check(&["x.y.z", "x.y"], &["x.y.z", "x.y", "x"], &["x", "x.y", "x.y.z"], &[], &["x.y", "x.y.z"]);
        check(&["a.b", "a.c", "m"], &["a.c", "a.d"], &["a.b", "a.c", "a.d", "m"], &["a.b", "m"], &["a.c"]);
    }

    #[test]
    fn whole_trees_can_be_removed() {
        let check = |a: &[&str], b: &[&str], want: &[&str]| {
            let mut left = set(a);
            left.remove_trees(&set(b));
            assert_eq!(left, set(want), "{a:?} - {b:?}");
        };
        check(&["status.a", "status.b.c", "spec"], &["status"], &["spec"]);
        check(&["status", "status.b"], &["status.b"], &["status"]);
        check(&["a.b.c"], &["a.b.c.d"], &["a.b.c"]);
    }

    #[test]
    fn paths_that_end_come_first() {
        let mut seen = Vec::new();
        set(&["b", "a.c", "b.a", "a.b"]).for_each(&mut |path| seen.push(PathText(path).to_string()));
        assert_eq!(seen, [".b", ".a.b", ".a.c", ".b.a"]);
    }

    #[test]
    fn membership() {
        let set = set(&["a.b", "c"]);
        let path = |text: &str| -> Vec<Element> {
            text.split('.').filter(|s| !s.is_empty()).map(|s| Element::Field(s.into())).collect()
        };
        for (text, want) in [("a", false), ("a.b", true), ("c", true), ("c.d", false), ("", false)] {
            assert_eq!(set.has(&path(text)), want, "{text}");
        }
    }
}
