//! What Go's types say of a field, and no package does: whether it is a pointer, and whether JSON leaves its zero value
//! out. The file beside this one lists only what differs from the rule in [`super::protobuf`].

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::protobuf::Presence;

/// By definition and property.
pub(super) type Presences = BTreeMap<(String, String), Presence>;

/// Reads the list.
pub(super) fn read() -> Result<Presences> {
    parse(include_str!("presence.txt"))
}

fn parse(text: &str) -> Result<Presences> {
    let mut marks = Presences::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split(' ');
        let definition = words.next().context("a line starts with a definition")?;
        for word in words {
            let (presence, property) = match word.split_at_checked(1) {
                Some(("*", property)) => (Presence::Optional, property),
                Some(("=", property)) => (Presence::Kept, property),
                Some(("?", property)) => (Presence::Dropped, property),
                _ => bail!("{definition}: the mark {word:?}"),
            };
            let key = (format!("io.k8s.{definition}"), property.to_owned());
            ensure!(marks.insert(key, presence).is_none(), "{definition} {property} is marked twice");
        }
    }
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read() {
        let marks = parse("# rule\napi.core.v1.A *b =c\napi.core.v1.D ?e\n").expect("marks");
        let check = |definition: &str, property: &str, want| {
            let key = (format!("io.k8s.api.core.v1.{definition}"), property.to_owned());
            assert_eq!(marks.get(&key).copied(), want, "{definition} {property}");
        };
        check("A", "b", Some(Presence::Optional));
        check("A", "c", Some(Presence::Kept));
        check("D", "e", Some(Presence::Dropped));
        check("D", "b", None);
        for bad in ["a.B c", "a.B *c =c", "a.B "] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
