//! Rules for texts that are no names of objects: ports, environment variables, paths, headers.

use crate::names::{self, Fault};

/// A named port: 1 to 15 lower-case letters, digits and single hyphens, with a letter among them.
pub(super) fn port_name(text: &str) -> Result<(), Fault> {
    let fault = if text.len() > 15 {
        "must be no more than 15 characters"
    } else if text.is_empty()
        || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    } else if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        "must contain at least one letter (a-z)"
    } else if text.contains("--") {
        "must not contain consecutive hyphens"
    } else if text.starts_with('-') || text.ends_with('-') {
        "must not begin or end with a hyphen"
    } else {
        return Ok(());
    };
    Err(fault.into())
}

/// A name of an environment variable: printable ASCII but `=`.
pub(super) fn env_name(text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        return Err("environment variable name must be non-empty".into());
    }
    let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=');
    printable.then_some(()).ok_or_else(|| {
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .into()
    })
}

/// A percentage: digits and `%`.
pub(super) fn percent(text: &str) -> Result<(), Fault> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    let ok = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    ok.then_some(()).ok_or_else(|| {
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used \
         for validation is '[0-9]+%')"
            .into()
    })
}

/// The name of an HTTP header.
pub(super) fn http_header(text: &str) -> Result<(), Fault> {
    let ok = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    ok.then_some(()).ok_or_else(|| {
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
         validation is '[-A-Za-z0-9]+')"
            .into()
    })
}

/// A path that does not climb: no element is `..`.
pub(super) fn no_backsteps(text: &str) -> Result<(), Fault> {
    let climbs = text.split('/').any(|part| part == "..");
    if climbs { Err("must not contain '..'".into()) } else { Ok(()) }
}

/// A relative path that does not climb.
pub(super) fn local_path(text: &str) -> Result<(), Fault> {
    if text.starts_with('/') { Err("must be a relative path".into()) } else { no_backsteps(text) }
}

/// A relative path that does not climb and does not start as if it did.
pub(super) fn local_file(text: &str) -> Result<(), Fault> {
    local_path(text)?;
    let dotted = text.starts_with("..") && !text.starts_with("../");
    if dotted { Err("must not start with '..'".into()) } else { Ok(()) }
}

/// A subdomain, or one after `*.`.
pub(super) fn wildcard_subdomain(text: &str) -> Result<(), Fault> {
    let ok =
        text.len() <= 253 && text.strip_prefix("*.").is_some_and(|rest| names::dns_subdomain(rest).is_ok());
    ok.then_some(()).ok_or_else(|| {
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
         lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', \
         regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            .into()
    })
}

/// A subdomain of at least three labels.
pub(super) fn three_labels(text: &str) -> Result<(), Fault> {
    names::dns_subdomain(text)?;
    if text.split('.').count() < 3 {
        return Err("should be a domain with at least three segments separated by dots".into());
    }
    Ok(())
}

/// A path below a domain: `example.com/path`.
pub(super) fn prefixed_path(text: &str) -> Result<(), Fault> {
    let parts = text.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty());
    let Some((host, path)) = parts else {
        return Err("must be a domain-prefixed path (such as \"acme.io/foo\")".into());
    };
    names::dns_subdomain(host)?;
    if path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b)) {
        return Ok(());
    }
    Err("Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')".into())
}

/// An identifier of the C language.
pub(super) fn c_identifier(text: &str) -> Result<(), Fault> {
    let ok = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    ok.then_some(()).ok_or_else(|| {
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
         characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is \
         '[A-Za-z_][A-Za-z0-9_]*')"
            .into()
    })
}

/// The name of a kind: a label but for its case.
pub(super) fn kind_name(text: &str) -> Result<(), Fault> {
    names::dns_1035_label(&text.to_ascii_lowercase())
        .map_err(|fault| format!("may have mixed case, but should otherwise match: {fault}"))
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
        check(port_name, &["http", "a-1"], &["", "HTTP", "1", "a--b", "-a", "a-", "a234567890123456"]);
        check(env_name, &["A", "a.b", "1", "a b", "..x"], &["", "a=b", "é", "a\n"]);
        check(percent, &["1%", "100%"], &["", "%", "1", "-1%", "1.5%"]);
        check(http_header, &["X-A"], &["", "X A", "X_A"]);
        check(no_backsteps, &["/a/..b", "a"], &["..", "a/../b"]);
        check(local_path, &["a/b", "..a"], &["/a", "a/.."]);
        check(local_file, &["a/b"], &["..a", "../a", "/a"]);
        check(wildcard_subdomain, &["*.a.b"], &["a.b", "*", "*.*.a", "*."]);
        check(three_labels, &["a.b.c"], &["a.b", "A.b.c", ""]);
        check(prefixed_path, &["a.b/c", "a/b/c:d"], &["", "a", "/a", "a/", "A/b", "a/b c"]);
        check(kind_name, &["Pod", "pod"], &["", "a_b", "1a"]);
        check(c_identifier, &["_a1"], &["", "1a", "a-b"]);
    }
}
