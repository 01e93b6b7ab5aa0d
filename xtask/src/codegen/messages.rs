//! Reads the protobuf messages that `k8s-pb` has as structs: the number and the type of each field.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::markers::{join_name, modules};

/// Messages by name, as [`join_name`] makes it of the published name.
pub(super) type Messages = BTreeMap<String, Message>;

/// A message's fields by name, as [`join_name`] makes it.
pub(super) type Message = BTreeMap<String, Field>;

/// A field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u16,
    pub(super) label: Label,
    /// `string`, `int32`; of a message its name, joined; of a map the type of its values.
    pub(super) ty: String,
}

/// How often a field may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    Optional,
    Repeated,
    Map,
}

/// Reads all messages under `src`.
pub(super) fn read(src: &Path) -> Result<Messages> {
    let mut messages = Messages::new();
    for (package, text) in modules(src)? {
        read_module(&package, &text, &mut messages).with_context(|| format!("in {package}"))?;
    }
    ensure!(messages.len() > 900, "only {} messages were found", messages.len());
    Ok(messages)
}

fn read_module(package: &str, text: &str, messages: &mut Messages) -> Result<()> {
    let (mut message, mut attribute) = (String::new(), None);
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.split([' ', '{']).next().unwrap_or_default();
            message = join_name(&format!("{package}.{name}"));
            messages.insert(message.clone(), Message::new());
        } else if let Some(rest) = line.strip_prefix("#[prost(") {
            attribute = rest.strip_suffix(")]");
        } else if let Some((name, ty)) = line.strip_prefix("pub ").and_then(|l| l.split_once(':'))
            && let Some(attribute) = attribute.take()
        {
            // The type may take further lines.
            let mut ty = ty.to_owned();
            while !ty.ends_with(',') || ty.matches('<').count() != ty.matches('>').count() {
                ty.push_str(lines.next().context("the file ends in a field")?);
            }
            let field = field(attribute, &ty).with_context(|| format!("in {message} {name}"))?;
            messages.entry(message.clone()).or_default().insert(join_name(name), field);
        }
    }
    Ok(())
}

/// Reads what stands in `#[prost(…)]`, and of the type only the name of a message.
fn field(attribute: &str, ty: &str) -> Result<Field> {
    let (kind, number) = attribute.rsplit_once("tag = \"").context("a field has a tag")?;
    let number = number.trim_end_matches('"').parse().context("a tag is a number")?;
    let kind = kind.trim_end_matches([',', ' ']);
    let (kind, label) = match kind.strip_prefix("btree_map = \"string, ") {
        Some(values) => (values.trim_end_matches('"'), Label::Map),
        None => match kind.split_once(", ") {
            Some((kind, "optional" | "optional, boxed")) => (kind, Label::Optional),
            Some((kind, "repeated" | "repeated, packed = \"false\"")) => (kind, Label::Repeated),
            _ => bail!("the attribute {attribute}"),
        },
    };
    let ty = match kind {
        "message" => {
            let last = ty.trim_end_matches([',', '>']).rsplit(['<', ' ', ':']).next().unwrap_or_default();
            join_name(last)
        }
        "bytes = \"vec\"" | "bytes" => "bytes".to_owned(),
        "string" | "int32" | "int64" | "bool" | "double" => kind.to_owned(),
        other => bail!("the type {other}"),
    };
    Ok(Field { number, label, ty })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read() {
        let check = |attribute: &str, ty: &str, number: u16, label: Label, want: &str| {
            let got = field(attribute, ty).expect(attribute);
            assert_eq!(got, Field { number, label, ty: want.to_owned() }, "{attribute}");
        };
        check("string, optional, tag = \"1\"", "Option<String>,", 1, Label::Optional, "string");
        check("int32, repeated, packed = \"false\", tag = \"7\"", "Vec<i32>,", 7, Label::Repeated, "int32");
        check(
            "message, optional, boxed, tag = \"19\"",
            "::core::option::Option<Box<super::v1::JsonSchemaProps>>,",
            19,
            Label::Optional,
            "jsonschemaprops",
        );
        check("btree_map = \"string, bytes\", tag = \"2\"", "Map<String, Vec<u8>>,", 2, Label::Map, "bytes");
        check(
            "btree_map = \"string, message\", tag = \"2\"",
            "Map<String, super::api::Quantity>,",
            2,
            Label::Map,
            "quantity",
        );
        assert!(field("sint32, optional, tag = \"1\"", "Option<i32>,").is_err());
        assert!(field("string, optional", "Option<String>,").is_err());
    }
}
