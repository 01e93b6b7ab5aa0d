//! `format.dns1123Label().validate(name)` (upstream's library `kubernetes.format`).

use super::url::Url;
use super::{Args, Fun, Outcome};
use crate::error::no_overload;
use crate::opaque::Opaque;
use crate::time::Timestamp;
use crate::value::Value;

/// A format of strings that has a name.
#[derive(Debug)]
pub struct Format {
    /// Its name, as its values show it.
    pub name: &'static str,
    /// Its name in expressions.
    key: &'static str,
    /// How large the costs take its pattern to be.
    pub(crate) pattern_size: u64,
    faults: fn(&str) -> Vec<String>,
}

static FORMATS: [Format; 13] = [
    Format { name: "DNS1123Label", key: "dns1123Label", pattern_size: 30, faults: dns_label },
    Format { name: "DNS1123Subdomain", key: "dns1123Subdomain", pattern_size: 60, faults: dns_subdomain },
    Format { name: "DNS1035Label", key: "dns1035Label", pattern_size: 30, faults: dns_1035_label },
    Format { name: "QualifiedName", key: "qualifiedName", pattern_size: 60, faults: qualified_name },
    Format {
        name: "DNS1123LabelPrefix",
        key: "dns1123LabelPrefix",
        pattern_size: 30,
        faults: |text| dns_label(&prefix_as_name(text)),
    },
    Format {
        name: "DNS1123SubdomainPrefix",
        key: "dns1123SubdomainPrefix",
        pattern_size: 60,
        faults: |text| dns_subdomain(&prefix_as_name(text)),
    },
    Format {
        name: "DNS1035LabelPrefix",
        key: "dns1035LabelPrefix",
        pattern_size: 30,
        faults: |text| dns_1035_label(&prefix_as_name(text)),
    },
    Format { name: "LabelValue", key: "labelValue", pattern_size: 40, faults: label_value },
    Format {
        name: "URI",
        key: "uri",
        pattern_size: 1103,
        faults: |text| Url::parse(text).err().into_iter().collect(),
    },
    Format {
        name: "uuid",
        key: "uuid",
        pattern_size: 70,
        faults: |text| unless(is_uuid(text), "does not match the UUID format"),
    },
    Format {
        name: "byte",
        key: "byte",
        pattern_size: 84,
        faults: |text| unless(is_base64(text), "invalid base64"),
    },
    Format {
        name: "date",
        key: "date",
        pattern_size: 71,
        faults: |text| unless(Timestamp::parse_date(text).is_some(), "invalid date"),
    },
    Format {
        name: "datetime",
        key: "datetime",
        pattern_size: 71,
        faults: |text| unless(Timestamp::parse(text).is_some(), "invalid datetime"),
    },
];

fn unless(holds: bool, message: &str) -> Vec<String> {
    if holds { Vec::new() } else { vec![message.to_owned()] }
}

/// A prefix of a name may end where a name may not.
fn prefix_as_name(prefix: &str) -> String {
    match prefix.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => format!("{rest}a"),
        _ => prefix.to_owned(),
    }
}

fn too_long(text: &str, most: usize) -> Option<String> {
    (text.len() > most).then(|| format!("must be no more than {most} bytes"))
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str, first: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(begin), Some(end)) => {
            first(*begin) && lower_alnum(*end) && bytes.iter().all(|b| lower_alnum(*b) || *b == b'-')
        }
        _ => false,
    }
}

fn dns_label(text: &str) -> Vec<String> {
    let wrong = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    too_long(text, 63).into_iter().chain(unless(is_label(text, lower_alnum), wrong)).collect()
}

fn dns_subdomain(text: &str) -> Vec<String> {
    let wrong = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let holds = text.split('.').all(|label| is_label(label, lower_alnum));
    too_long(text, 253).into_iter().chain(unless(holds, wrong)).collect()
}

fn dns_1035_label(text: &str) -> Vec<String> {
    let wrong = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let holds = is_label(text, |b| b.is_ascii_lowercase());
    too_long(text, 63).into_iter().chain(unless(holds, wrong)).collect()
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(begin), Some(end)) => {
            begin.is_ascii_alphanumeric()
                && end.is_ascii_alphanumeric()
                && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
        }
        _ => false,
    }
}

fn qualified_name(text: &str) -> Vec<String> {
    let wrong = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let mut faults = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(dns_subdomain(prefix).into_iter().map(|why| format!("prefix part {why}")));
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {wrong} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if let Some(long) = too_long(name, 63) {
        faults.push(format!("name part {long}"));
    }
    if !is_name(name) {
        faults.push(format!("name part {wrong}"));
    }
    faults
}

fn label_value(text: &str) -> Vec<String> {
    let wrong = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    too_long(text, 63).into_iter().chain(unless(text.is_empty() || is_name(text), wrong)).collect()
}

fn is_uuid(text: &str) -> bool {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let dashes = text.len() - digits.len();
    let sizes: Vec<usize> = text.split('-').map(str::len).collect();
    digits.len() == 32
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && (dashes == 0 || sizes == [8, 4, 4, 4, 12])
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    !text.is_empty()
        && text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

/// The format that a function without arguments gives.
fn constant(function: &str) -> Option<&'static Format> {
    let key = function.strip_prefix("format.")?;
    FORMATS.iter().find(|format| format.key == key)
}

/// The value that a call without arguments always has.
pub(crate) fn constant_value(function: &str) -> Option<Value<'static>> {
    constant(function).map(|format| Value::Opaque(Opaque::Format(format)))
}

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "format.named" => named,
        "validate" => validate,
        _ => return None,
    })
}

fn named<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let key = args.str(0)?;
    let found = FORMATS.iter().find(|format| format.key == key);
    Ok(found.map_or(Value::Optional(None), |format| Value::some(Value::Opaque(Opaque::Format(format)))))
}

fn validate<'a>(args: &mut Args<'_, 'a>) -> Outcome<'a> {
    let Value::Opaque(Opaque::Format(format)) = args.get(0) else { return no_overload() };
    let text = args.str(1)?;
    args.meter.work(text.len())?;
    let faults = (format.faults)(text);
    if faults.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::from(faults.into_iter().map(Value::from).collect::<Vec<_>>())))
}
