//! Rules for names, label keys and values, with the messages that Kubernetes gives.
//!
//! Each check answers `Ok` or the text of what is wrong, for a [`crate::Cause`] to carry.

/// What is wrong with a name.
pub type Fault = String;

const DNS_LABEL_MAX: usize = 63;
const DNS_SUBDOMAIN_MAX: usize = 253;

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn starts_and_ends(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    matches!((text.bytes().next(), text.bytes().last()), (Some(a), Some(z)) if allowed(a) && allowed(z))
}

/// Names count characters and labels bytes, so the texts say; it is bytes for both.
fn length(text: &str, max: usize, unit: &str) -> Result<(), Fault> {
    if text.len() > max { Err(format!("must be no more than {max} {unit}")) } else { Ok(()) }
}

/// RFC 1123 label: lower-case letters, digits and `-`, at most 63 bytes.
///
/// # Errors
/// The rule that is broken.
pub fn dns_label(text: &str) -> Result<(), Fault> {
    length(text, DNS_LABEL_MAX, "characters")?;
    let ok = starts_and_ends(text, is_lower_alnum) && text.bytes().all(|b| is_lower_alnum(b) || b == b'-');
    ok.then_some(()).ok_or_else(|| {
        "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end \
         with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            .into()
    })
}

/// RFC 1035 label: as [`dns_label`], but it starts with a letter.
///
/// # Errors
/// The rule that is broken.
pub fn dns_1035_label(text: &str) -> Result<(), Fault> {
    length(text, DNS_LABEL_MAX, "characters")?;
    let ok = dns_label(text).is_ok() && text.as_bytes()[0].is_ascii_lowercase();
    ok.then_some(()).ok_or_else(|| {
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
         character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation \
         is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            .into()
    })
}

/// RFC 1123 subdomain: labels separated by dots, at most 253 bytes.
///
/// # Errors
/// The rule that is broken.
pub fn dns_subdomain(text: &str) -> Result<(), Fault> {
    length(text, DNS_SUBDOMAIN_MAX, "characters")?;
    let label =
        |l: &str| starts_and_ends(l, is_lower_alnum) && l.bytes().all(|b| is_lower_alnum(b) || b == b'-');
    text.split('.').all(label).then_some(()).ok_or_else(|| {
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
         start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .into()
    })
}

/// A name that may stand as one segment of a URL path (RBAC objects are named so).
///
/// # Errors
/// The rule that is broken.
pub fn path_segment(text: &str) -> Result<(), Fault> {
    match text {
        "." | ".." => Err(format!("may not be '{text}'")),
        _ if text.contains('/') => Err("may not contain '/'".into()),
        _ if text.contains('%') => Err("may not contain '%'".into()),
        _ => Ok(()),
    }
}

/// The name part of a qualified name, and a label's value when it is not empty.
fn word(text: &str) -> bool {
    starts_and_ends(text, |b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `name` or `prefix/name`: keys of labels and annotations, names of resources and finalizers.
///
/// # Errors
/// The rule that is broken.
pub fn qualified(text: &str) -> Result<(), Fault> {
    let mut parts = text.split('/');
    let (prefix, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => (None, name),
        (Some(prefix), Some(name), None) => (Some(prefix), name),
        _ => {
            let how = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return Err(format!("a valid label key {QUALIFIED} {how}"));
        }
    };
    if let Some(prefix) = prefix {
        if prefix.is_empty() {
            return Err("prefix part must be non-empty".into());
        }
        dns_subdomain(prefix).map_err(|e| format!("prefix part {e}"))?;
    }
    if name.is_empty() {
        return Err("name part must be non-empty".into());
    }
    length(name, DNS_LABEL_MAX, "bytes").map_err(|e| format!("name part {e}"))?;
    word(name).then_some(()).ok_or_else(|| format!("name part {QUALIFIED}"))
}

const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                         validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// A label's value: empty, or at most 63 bytes of letters, digits, `-`, `_`, `.`.
///
/// # Errors
/// The rule that is broken.
pub fn label_value(text: &str) -> Result<(), Fault> {
    length(text, DNS_LABEL_MAX, "bytes")?;
    (text.is_empty() || word(text)).then_some(()).ok_or_else(|| {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
         and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
         validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            .into()
    })
}

/// A key of a ConfigMap or Secret, used as a file name.
///
/// # Errors
/// The rule that is broken.
pub fn config_key(text: &str) -> Result<(), Fault> {
    length(text, DNS_SUBDOMAIN_MAX, "characters")?;
    let ok = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !ok {
        return Err(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
                    or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .into(),
        );
    }
    match text {
        "." => Err("must not be '.'".into()),
        _ if text.starts_with("..") => Err("must not start with '..'".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule() {
        let check = |rule: fn(&str) -> Result<(), Fault>, good: &[&str], bad: &[&str]| {
            good.iter().for_each(|t| assert_eq!(rule(t), Ok(()), "{t}"));
            bad.iter().for_each(|t| assert!(rule(t).is_err(), "{t}"));
        };
        let long = "a".repeat(64);
        let longer = "a".repeat(254);
        check(dns_label, &["a", "my-name", "123-abc"], &["", "-a", "a-", "A", "a.b", "a_b", &long]);
        check(dns_1035_label, &["a", "abc-123"], &["", "1a", "A"]);
        check(dns_subdomain, &["a", "a.b-c", "1.2"], &["", ".a", "a..b", "a.", "a.-b", &longer]);
        check(path_segment, &["a", "system:node", "..."], &[".", "..", "a/b", "a%b"]);
        check(qualified, &["a", "A_b.c", "k8s.io/name"], &["", "/a", "a/", "a/b/c", "A.B/c", "-a", &long]);
        check(label_value, &["", "a", "A.b_c-1"], &["-", "a b", "a/b", &long]);
        check(config_key, &["a", ".hidden", "A-b_c.d"], &["", ".", "..", "..a", "a b", &longer]);
    }
}
