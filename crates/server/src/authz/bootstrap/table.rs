//! The form of the table of roles, which the table itself describes.

use crate::authz::Rule;

/// One role with its binding.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Empty: a role of the cluster.
    pub(super) namespace: String,
    pub(super) rules: Vec<Rule>,
    /// The aggregated roles that have its rules too.
    pub(super) joins: Vec<String>,
    /// Whose members it gathers.
    pub(super) gathers: Option<String>,
    /// Whom it is bound to; `None`: there is no binding.
    pub(super) subjects: Option<Vec<Subject>>,
    /// The binding's name, if it is not the role's.
    pub(super) binding: Option<String>,
}

/// Somebody that a role is bound to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// `User`, `Group` or `ServiceAccount`.
    pub(super) kind: &'static str,
    /// Of a service account.
    pub(super) namespace: &'static str,
    pub(super) name: String,
}

/// Reads the table; `Err` has the line that cannot be read.
pub(super) fn read(table: &'static str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        if let Some(head) = line.strip_prefix("role ") {
            entries.push(entry(head).ok_or_else(|| line.to_owned())?);
            continue;
        }
        let mut words: Vec<&'static str> = line.split_whitespace().collect();
        while let Some(more) = lines.next_if(|line| line.starts_with("    ")) {
            words.extend(more.split_whitespace());
        }
        let read = entries.last_mut().and_then(|entry| entry.read(&words));
        read.ok_or_else(|| line.to_owned())?;
    }
    Ok(entries)
}

fn entry(head: &str) -> Option<Entry> {
    let mut words = head.split_whitespace();
    let mut entry = Entry { name: words.next()?.to_owned(), ..Entry::default() };
    for word in words {
        if let Some(namespace) = word.strip_prefix('@') {
            namespace.clone_into(&mut entry.namespace);
        } else if let Some(role) = word.strip_prefix("joins:") {
            entry.joins.push(role.to_owned());
        } else {
            entry.gathers = Some(word.strip_prefix("gathers:")?.to_owned());
        }
    }
    Some(entry)
}

impl Entry {
    fn read(&mut self, words: &[&'static str]) -> Option<()> {
        let Some((&"to", subjects)) = words.split_first() else {
            self.rules.push(rule(words)?);
            return Some(());
        };
        let mut bound = Vec::new();
        for word in subjects {
            match word.split_once(':') {
                Some(("by", name)) => self.binding = Some(name.to_owned()),
                Some((kind, name)) => bound.push(subject(kind, name)?),
                None if *word == "nobody" => {}
                None => return None,
            }
        }
        self.subjects = Some(bound);
        Some(())
    }
}

fn subject(kind: &str, name: &'static str) -> Option<Subject> {
    let (kind, namespace, name) = match kind {
        "user" => ("User", "", name),
        "group" => ("Group", "", name),
        "account" => {
            let (namespace, name) = name.split_once('/')?;
            ("ServiceAccount", namespace, name)
        }
        _ => return None,
    };
    Some(Subject { kind, namespace, name: name.to_owned() })
}

fn rule(words: &[&str]) -> Option<Rule> {
    let mut columns = words.split(|word| *word == "|");
    let texts = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let verbs = match columns.next()? {
        ["read"] => texts(&["get", "list", "watch"]),
        ["write"] => texts(&["create", "delete", "deletecollection", "patch", "update"]),
        ["all"] => {
            texts(&["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"])
        }
        verbs => texts(verbs),
    };
    let (groups, what) = (columns.next()?, texts(columns.next()?));
    let names = columns.next().map(texts).unwrap_or_default();
    if verbs.is_empty() || what.is_empty() || columns.next().is_some() {
        return None;
    }
    if groups == ["paths"] {
        return Some(Rule { verbs, paths: what, ..Rule::default() });
    }
    let groups = groups.iter().map(|group| if *group == "core" { "" } else { group });
    Some(Rule {
        verbs,
        groups: groups.map(str::to_owned).collect(),
        resources: what,
        names,
        ..Rule::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let entries = read(
            "# a comment\nrole a @n joins:b gathers:c\n  read | core apps | x\n    y | z\n  get | paths | /a /b\n  \
             to user:u:v group:g account:n/s by:d\nrole b\n  to nobody\n",
        )
        .expect("right");
        let [a, b] = &*entries else { panic!("{entries:?}") };
        assert_eq!(
            (&*a.name, &*a.namespace, &*a.joins, a.gathers.as_deref()),
            ("a", "n", &["b".to_owned()][..], Some("c"))
        );
        let named = Rule { names: vec!["z".into()], ..Rule::on("get list watch", "", "x y") };
        let rule = Rule { groups: vec![String::new(), "apps".into()], ..named };
        assert_eq!(a.rules, [rule, Rule::on_paths(&["/a", "/b"])]);
        let subject = |kind, namespace, name: &str| Subject { kind, namespace, name: name.into() };
        let all =
            [subject("User", "", "u:v"), subject("Group", "", "g"), subject("ServiceAccount", "n", "s")];
        assert_eq!((a.subjects.as_deref(), a.binding.as_deref()), (Some(&all[..]), Some("d")));
        assert_eq!(b.subjects.as_deref(), Some(&[][..]));
        for wrong in
            ["  read | core | x", "role a b", "role a\n  read | core", "role a\n  to u", "role a\n  to me:u"]
        {
            read(wrong).expect_err(wrong);
        }
    }
}
