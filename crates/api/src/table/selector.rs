//! Labels and label selectors as one line of text.

use crate::{Map, Value};

/// `a=1,b=2`; `<none>` if there are no labels.
pub(super) fn labels(labels: Option<&Map>) -> String {
    let pairs = labels.into_iter().flat_map(Map::iter);
    let text: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if text.is_empty() { "<none>".to_owned() } else { text.join(",") }
}

/// A `LabelSelector` in the syntax of selectors: `app=web,tier in (a,b),!old`. Empty if it selects everything or nothing;
/// `None` if it is invalid.
pub(super) fn label_selector(selector: Option<&Value>) -> Option<String> {
    let Some(selector) = selector else { return Some(String::new()) };
    let mut requirements: Vec<(&str, String)> = Vec::new();
    for (key, value) in selector.object_at(&["matchLabels"]).into_iter().flat_map(Map::iter) {
        requirements.push((key, format!("{key}={}", value.as_str().unwrap_or_default())));
    }
    for expression in selector.array_at(&["matchExpressions"]) {
        let key = expression.str_at(&["key"])?;
        let mut values: Vec<&str> =
            expression.array_at(&["values"]).iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        let text = match expression.str_at(&["operator"])? {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            "DoesNotExist" => format!("!{key}"),
            _ => return None,
        };
        requirements.push((key, text));
    }
    requirements.sort_by_key(|(key, _)| *key);
    Some(requirements.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(","))
}

/// As [`label_selector`], with words for what it cannot say.
pub(super) fn label_selector_or_none(selector: Option<&Value>) -> String {
    match label_selector(selector) {
        None => "<error>".to_owned(),
        Some(text) if text.is_empty() => "<none>".to_owned(),
        Some(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn selectors_are_written_in_the_order_of_keys() {
        let check = |selector: Value, want: Option<&str>| {
            assert_eq!(label_selector(Some(&selector)).as_deref(), want, "{selector:?}");
        };
        check(object!({}), Some(""));
        check(object!({"matchLabels": {"b": "2", "a": "1"}}), Some("a=1,b=2"));
        let all = object!({
            "matchLabels": {"tier": "x"},
            "matchExpressions": [
                {"key": "z", "operator": "NotIn", "values": ["q"]},
                {"key": "app", "operator": "In", "values": ["b", "a"]},
                {"key": "old", "operator": "DoesNotExist"},
                {"key": "new", "operator": "Exists"}
            ]
        });
        check(all, Some("app in (a,b),new,!old,tier=x,z notin (q)"));
        check(object!({"matchExpressions": [{"key": "a", "operator": "Like"}]}), None);
    }
}
