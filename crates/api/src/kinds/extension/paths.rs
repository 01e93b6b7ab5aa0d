//! Paths to fields within a schema: `.spec.replicas`, `.metadata.labels['a/b']`.

use crate::{FieldPath, Value};

static NOTHING: Value = Value::Null;

/// Follows a path from the schema `root`: the steps of it, and the schema at its end. Names in brackets are allowed only
/// with `brackets`.
pub(super) fn follow<'v>(
    root: &'v Value,
    path: &str,
    brackets: bool,
) -> Result<(Vec<String>, &'v Value), String> {
    let (mut steps, mut at) = (Vec::new(), root);
    let mut tokens = tokens(path).into_iter();
    let mut next = |wanted: &mut dyn FnMut(&str) -> Result<String, String>| match tokens.next() {
        Some(token) => wanted(token).map(Some),
        None => Ok(None),
    };
    while let Some(delimiter) = next(&mut |token| Ok(token.to_owned()))? {
        const ENDS: &str = "unexpected end of JSON path";
        let name = match delimiter.as_str() {
            "." => next(&mut |token| Ok(token.to_owned()))?.ok_or(ENDS)?,
            "[" if !brackets => return Err("array notation is not allowed".into()),
            "[" => {
                let name = next(&mut unquote)?.ok_or(ENDS)?;
                next(&mut |token| match token {
                    "]" => Ok(String::new()),
                    other => Err(format!("expected ] but got {other}")),
                })?
                .ok_or(ENDS)?;
                name
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        at = step(at, &name).ok_or("does not refer to a valid field")?;
        steps.push(name);
    }
    Ok((steps, at))
}

/// How messages spell the field that a path leads to from the schema `root`; `None` if there is no such field.
pub(crate) fn spelled(root: &Value, path: &str) -> Option<String> {
    let (steps, _) = follow(root, path, true).ok()?;
    let mut spelled = FieldPath::root();
    let mut at = root;
    for name in &steps {
        let named = at.object_at(&["properties"]).is_some_and(|properties| !properties.is_empty());
        spelled = if named { spelled.field(name) } else { spelled.key(name) };
        at = step(at, name)?;
    }
    Some(spelled.as_str().to_owned()).filter(|spelled| !spelled.is_empty())
}

fn step<'v>(schema: &'v Value, name: &str) -> Option<&'v Value> {
    match schema.object_at(&["properties"]).filter(|properties| !properties.is_empty()) {
        Some(properties) => properties.get(name),
        None => match schema.get("additionalProperties")? {
            Value::Null => None,
            each @ Value::Object(_) => Some(each),
            _ => Some(&NOTHING),
        },
    }
}

fn unquote(token: &str) -> Result<String, String> {
    let inner = token.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let inner = inner.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
    Ok(inner.replace("\\'", "'"))
}

/// Parts a path at `.`, `[` and `]`, which are tokens themselves, but not within quotes.
fn tokens(path: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '.' | '[' | ']' => 1,
            '\'' => quoted(rest),
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        out.push(token);
        rest = after;
    }
    out
}

/// How long the quoted text is that `text` starts with.
fn quoted(text: &str) -> usize {
    let bytes = text.as_bytes();
    let end = (1..bytes.len()).find(|&i| bytes[i] == b'\'' && bytes[i - 1] != b'\\');
    end.map_or(text.len(), |i| i + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::json;

    #[test]
    fn paths_are_followed() {
        let schema = json(
            r#"{"properties": {"a": {"properties": {"b.c": {"type": "string"}}},
                "m": {"additionalProperties": {"type": "integer"}}, "o": {"additionalProperties": true}}}"#,
        );
        let check = |path: &str, brackets: bool, want: Result<&str, &str>| {
            let got = follow(&schema, path, brackets)
                .map(|(_, at)| at.str_at(&["type"]).unwrap_or_default().to_owned());
            assert_eq!(got, want.map(str::to_owned).map_err(str::to_owned), "{path}");
        };
        check("", true, Ok(""));
        check(".a['b.c']", true, Ok("string"));
        check(".m['it\\'s']", true, Ok("integer"));
        check(".o.x", false, Ok(""));
        check(".a['b.c']", false, Err("array notation is not allowed"));
        check(".a.b.c", false, Err("does not refer to a valid field"));
        check(".a.", false, Err("unexpected end of JSON path"));
        check(".a[", true, Err("unexpected end of JSON path"));
        check(".a['b.c'", true, Err("unexpected end of JSON path"));
        check(".a['b.c'.", true, Err("expected ] but got ."));
        check(".a[b]", true, Err("expected single quoted string but got b"));
        check("a", true, Err("expected [ or . but got: a"));
        check(".x", true, Err("does not refer to a valid field"));
    }
}
