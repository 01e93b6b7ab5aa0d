//! What calls of Kubernetes' and the extension libraries are estimated to cost, and how large their results can be.

use super::estimate::Node;
use super::range::Range;
use super::{AUTHORIZATION, LIST, OBJECT, PATTERN, TRAVERSAL};
use crate::ast::Literal;
use crate::types::Type;

/// The estimate of a call: its own cost, and the size of its result where that is known.
pub(super) struct Call {
    pub(super) cost: Range,
    pub(super) size: Option<Range>,
}

impl Call {
    pub(super) const fn of(cost: Range) -> Self {
        Self { cost, size: None }
    }

    pub(super) const fn sized(cost: Range, size: Range) -> Self {
        Self { cost, size: Some(size) }
    }
}

/// The extensions' estimates, by overload.
pub(super) fn by_overload(overload: &str, target: Option<&Node<'_>>, args: &[Node<'_>]) -> Option<Call> {
    let allocating =
        |factor: f64, size: Range| Call::sized(size.scaled(factor).plus(Range::fixed(1 + LIST)), size);
    let squared = |node: &Node<'_>, factor: f64| {
        let size = node.size_or_unknown();
        allocating(factor, size.times(size))
    };
    Some(match (overload, target, args) {
        ("list_slice", Some(target), [start, end]) => {
            let start = int_literal(start, 0);
            let end = int_literal(end, target.size_or_unknown().max);
            allocating(1.0, Range::fixed(end.wrapping_sub(start)))
        }
        ("list_flatten", Some(target), []) => allocating(1.0, target.size_or_unknown()),
        #[expect(clippy::cast_precision_loss, reason = "the model is one of doubles")]
        ("list_flatten_int", Some(target), [depth]) => {
            allocating(int_literal(depth, u64::MAX) as f64, target.size_or_unknown())
        }
        ("lists_range", None, [count]) => allocating(1.0, Range::fixed(int_literal(count, u64::MAX))),
        ("list_reverse", Some(target), []) => allocating(1.0, target.size_or_unknown()),
        ("list_distinct", Some(target), []) => squared(target, 2.0),
        (
            "list_sets_contains_list" | "list_sets_intersects_list" | "list_sets_equivalent_list",
            None,
            [a, b],
        ) => {
            let factor = if overload == "list_sets_equivalent_list" { 2.0 } else { 1.0 };
            let size = a.size_or_unknown().times(b.size_or_unknown());
            Call::of(size.scaled(factor).plus(Range::fixed(1)))
        }
        _ if overload.ends_with("_sort") || overload.ends_with("_sortByAssociatedKeys") => {
            let text = overload.starts_with("list_string_") || overload.starts_with("list_bytes_");
            let factor = if text { 2.0 + TRAVERSAL } else { 2.0 };
            squared(args.first().or(target)?, factor)
        }
        _ => return None,
    })
}

fn int_literal(node: &Node<'_>, otherwise: u64) -> u64 {
    match node.literal() {
        Some(Literal::Int(value)) => u64::try_from(*value).unwrap_or(0),
        _ => otherwise,
    }
}

/// Kubernetes' estimates, by function.
pub(super) fn by_function(
    function: &str,
    overload: &str,
    target: Option<&Node<'_>>,
    args: &[Node<'_>],
) -> Option<Call> {
    const ONE: Range = Range::fixed(1);
    let traversal = |node: &Node<'_>| node.size_or_unknown().scaled(TRAVERSAL);
    Some(match (function, target, args) {
        ("check", ..) => Call::of(Range::fixed(AUTHORIZATION)),
        (
            "serviceAccount" | "path" | "group" | "resource" | "subresource" | "namespace" | "name"
            | "allowed" | "reason" | "error" | "errored",
            ..,
        ) => Call::of(ONE),
        ("fieldSelector" | "labelSelector", _, [selector]) => {
            Call::of(selector_cost(selector.size_or_unknown()))
        }
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", Some(target), _) => {
            Call::of(over_elements(target))
        }
        ("url" | "jsonpatch.escapeKey", _, [text]) => Call::sized(traversal(text), text.size_or_unknown()),
        ("lowerAscii" | "upperAscii" | "substring" | "trim", Some(target), _) => {
            Call::sized(traversal(target), target.size_or_unknown())
        }
        ("replace", Some(target), [from, to, ..]) => replace(target, from, to),
        ("split", Some(target), _) => {
            let size = target.size_or_unknown();
            let mut most = size.max;
            if let Some(Literal::Int(limit)) = args.get(1).and_then(Node::literal) {
                most = limit.cast_unsigned();
            }
            Call::sized(size.scaled(2.0 * TRAVERSAL), Range::new(0, most))
        }
        ("join", Some(target), _) => join(target, args.first()),
        ("find" | "findAll", Some(target), [pattern, ..]) => {
            let size = target.size_or_unknown();
            let text = size.plus(ONE).scaled(TRAVERSAL);
            let cost = text.times(pattern.size_or_unknown().scaled(PATTERN));
            Call::sized(cost, Range::new(0, size.max))
        }
        ("cidr" | "isIP" | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver", _, [text, ..]) => {
            Call::of(traversal(text))
        }
        ("ip", ..) if overload == "cidr_ip" => Call::of(ONE),
        ("ip", _, [text, ..]) => Call::of(traversal(text)),
        ("ip.isCanonical", _, [text, ..]) => Call::of(text.size_or_unknown().scaled(2.0 * TRAVERSAL)),
        (
            "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery",
            ..,
        ) => Call::of(ONE),
        ("containsIP" | "containsCIDR", _, [other, ..]) => Call::of(containment(function, overload, other)),
        ("validate", _, [text, ..]) => Call::of(traversal(text).scaled(128.0 * PATTERN)),
        ("_==_", None, [a, b]) => equality(a, b)?,
        _ => return None,
    })
}

fn selector_cost(length: Range) -> Range {
    // Each requirement takes at least two characters, and is a list within an object.
    #[expect(clippy::cast_precision_loss, reason = "they are small")]
    let requirements = length.scaled(0.5).scaled((LIST + OBJECT) as f64);
    Range::fixed(LIST).plus(length.scaled(TRAVERSAL)).plus(requirements)
}

fn over_elements(target: &Node<'_>) -> Range {
    let size = target.size_or_unknown();
    let Some(element) = target.element() else { return size.scaled(TRAVERSAL) };
    let mut each = Range::fixed(1);
    if matches!(element.type_of, Type::String | Type::Bytes) {
        each = each.plus(element.size_or_unknown().scaled(TRAVERSAL));
    }
    size.times(each)
}

fn join(target: &Node<'_>, separator: Option<&Node<'_>>) -> Call {
    let count = target.size_or_unknown();
    let mut size = target.element().map_or(Range::ZERO, |element| count.times(element.size_or_unknown()));
    if let Some(separator) = separator {
        let between = Range::new(count.min.saturating_sub(1), count.max.saturating_sub(1));
        size = size.plus(separator.size_or_unknown().times(between));
    }
    Call::sized(size.scaled(TRAVERSAL), size)
}

fn containment(function: &str, overload: &str, other: &Node<'_>) -> Range {
    let bytes = Range::new(4, 16);
    let mut cost = bytes.plus(bytes).scaled(TRAVERSAL);
    if function == "containsCIDR" {
        cost = cost.plus(bytes.scaled(TRAVERSAL)).plus(Range::fixed(1));
    }
    if overload.ends_with("_string") {
        cost = cost.plus(other.size_or_unknown().scaled(TRAVERSAL));
    }
    cost
}

fn equality(a: &Node<'_>, b: &Node<'_>) -> Option<Call> {
    if a.type_of != b.type_of {
        return None;
    }
    let name = match &a.type_of {
        Type::Opaque(name, _) | Type::Object(name) => &**name,
        _ => return None,
    };
    Some(Call::of(match name {
        "net.IP" | "net.CIDR" | "kubernetes.Quantity" | "kubernetes.Semver" => Range::fixed(1),
        "kubernetes.NamedFormat" => Range::new(1, 64).scaled(TRAVERSAL),
        "kubernetes.URL" => {
            let most = b.size.map_or(1, |size| size.max);
            Range::new(1, most).scaled(TRAVERSAL)
        }
        other if other.starts_with("kubernetes.authorization.") => Range::fixed(1),
        _ => return None,
    }))
}

fn replace(target: &Node<'_>, from: &Node<'_>, to: &Node<'_>) -> Call {
    let (size, from, to) = (target.size_or_unknown(), from.size_or_unknown(), to.size_or_unknown());
    let most = |size: u64, each: u64| size.div_ceil(each);
    // How often something is put in, and how much stays of what was there: at most, and at least.
    let (count_max, kept_max) = if from.min == 0 {
        (size.max.saturating_add(1), size.max)
    } else if to.max <= from.min {
        (0, size.max)
    } else {
        (most(size.max, from.min), 0)
    };
    let (count_min, kept_min) = if from.max == 0 {
        (size.min.saturating_add(1), size.min)
    } else if from.max <= to.min {
        (0, size.min)
    } else {
        (most(size.min, from.max), 0)
    };
    let result = Range::new(count_min, count_max).times(to).plus(Range::new(kept_min, kept_max));
    Call::sized(size.scaled(2.0 * TRAVERSAL), result)
}
