//! Profiles in the format of the OCI runtime specification (`linux.seccomp`).
//!
//! Each action of a profile becomes a filter of its own; the kernel applies the
//! strictest answer, so a call that two entries judge differently gets the
//! stricter of the two. Names that this architecture does not have are skipped,
//! as other runtimes do. What would weaken the profile by being ignored is refused.

use std::collections::BTreeMap;

use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use serde::Deserialize;

use super::{Filter, Rules, SeccompError, names};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Argument>,
    /// Conditions of a Docker profile, which the OCI format does not have.
    includes: Option<serde_json::Value>,
    excludes: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

pub(super) fn filter(json: &str) -> Result<Filter, SeccompError> {
    let profile: Profile = serde_json::from_str(json)?;
    if profile.listener_path.is_some_and(|path| !path.is_empty()) {
        return Err(SeccompError::Unsupported("listenerPath".to_owned()));
    }
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut by_action: BTreeMap<u32, (SeccompAction, Rules)> = BTreeMap::new();
    for entry in &profile.syscalls {
        let verdict = entry.verdict()?;
        if verdict == default {
            continue;
        }
        let (_, rules) =
            by_action.entry(u32::from(verdict.clone())).or_insert_with(|| (verdict, Rules::new()));
        entry.add_to(rules)?;
    }
    assemble(default, by_action)
}

fn assemble(
    default: SeccompAction,
    by_action: BTreeMap<u32, (SeccompAction, Rules)>,
) -> Result<Filter, SeccompError> {
    let mut filter = Filter::default();
    if default != SeccompAction::Allow {
        // Whatever has a verdict of its own is let through here.
        let mut judged = Rules::new();
        for (_, rules) in by_action.values() {
            for (number, alternatives) in rules {
                merge(&mut judged, *number, alternatives.clone());
            }
        }
        filter.push(judged, SeccompAction::Allow, default)?;
    }
    for (verdict, rules) in by_action.into_values() {
        if verdict != SeccompAction::Allow {
            filter.push(rules, verdict, SeccompAction::Allow)?;
        }
    }
    Ok(filter)
}

/// Adds alternatives to those of a call; none at all means "with any arguments".
fn merge(rules: &mut Rules, number: i64, alternatives: Vec<SeccompRule>) {
    match rules.get_mut(&number) {
        None => {
            rules.insert(number, alternatives);
        }
        Some(known) if known.is_empty() || alternatives.is_empty() => known.clear(),
        Some(known) => known.extend(alternatives),
    }
}

impl Entry {
    fn verdict(&self) -> Result<SeccompAction, SeccompError> {
        let empty = |value: &serde_json::Value| match value {
            serde_json::Value::Object(fields) => fields.is_empty(),
            other => other.is_null(),
        };
        for (name, condition) in [("includes", &self.includes), ("excludes", &self.excludes)] {
            if !condition.as_ref().is_none_or(empty) {
                return Err(SeccompError::Unsupported(format!("{name} of a Docker profile")));
            }
        }
        action(&self.action, self.errno_ret)
    }

    fn add_to(&self, rules: &mut Rules) -> Result<(), SeccompError> {
        let conditions =
            self.args.iter().map(Argument::condition).collect::<Result<Vec<_>, SeccompError>>()?;
        let repeated = self.args.iter().enumerate().any(|(position, argument)| {
            self.args[..position].iter().any(|earlier| earlier.index == argument.index)
        });
        let alternatives = if conditions.is_empty() {
            Vec::new()
        } else if repeated {
            // Several conditions on one argument are alternatives.
            conditions
                .into_iter()
                .map(|condition| SeccompRule::new(vec![condition]))
                .collect::<Result<_, _>>()?
        } else {
            vec![SeccompRule::new(conditions)?]
        };
        for number in self.names.iter().filter_map(|name| names::number(name)) {
            merge(rules, number, alternatives.clone());
        }
        Ok(())
    }
}

impl Argument {
    fn condition(&self) -> Result<SeccompCondition, SeccompError> {
        let (operator, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, self.value),
            "SCMP_CMP_NE" => (SeccompCmpOp::Ne, self.value),
            "SCMP_CMP_LT" => (SeccompCmpOp::Lt, self.value),
            "SCMP_CMP_LE" => (SeccompCmpOp::Le, self.value),
            "SCMP_CMP_GT" => (SeccompCmpOp::Gt, self.value),
            "SCMP_CMP_GE" => (SeccompCmpOp::Ge, self.value),
            "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(self.value), self.value_two),
            other => return Err(SeccompError::Unsupported(other.to_owned())),
        };
        Ok(SeccompCondition::new(self.index, SeccompCmpArgLen::Qword, operator, value)?)
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<SeccompAction, SeccompError> {
    let errno = errno.unwrap_or(libc::EPERM.unsigned_abs());
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(errno),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_TRACE" => SeccompAction::Trace(errno),
        other => return Err(SeccompError::Unsupported(other.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        let check = |json: &str, expected: Result<usize, &str>| match (filter(json), expected) {
            (Ok(filter), Ok(programs)) => assert_eq!(filter.programs.len(), programs, "{json}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{json}: {error}"),
            (Ok(_), Err(part)) => panic!("{json}: accepted instead of {part}"),
            (Err(error), Ok(_)) => panic!("{json}: {error}"),
        };
        check(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#, Ok(0));
        check(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}"#,
            Ok(1),
        );
        check(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
                {"names":["read","write","no_such_call"],"action":"SCMP_ACT_ALLOW"},
                {"names":["kill"],"action":"SCMP_ACT_KILL_PROCESS"},
                {"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[
                    {"index":0,"value":0,"op":"SCMP_CMP_EQ"},{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}"#,
            Ok(2),
        );
        check(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["kill"],"action":"SCMP_ACT_LOG"}]}"#,
            Ok(1),
        );
        check(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, Err("SCMP_ACT_NOTIFY"));
        check(r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/x"}"#, Err("listenerPath"));
        check(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {"names":["bpf"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_BPF"]}}]}"#,
            Err("includes"),
        );
        check(
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                {"names":["bpf"],"action":"SCMP_ACT_ALLOW","args":[{"index":9,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
            Err("cannot be compiled"),
        );
        check("{}", Err("defaultAction"));
        check("no", Err("not JSON"));
    }

    #[test]
    fn a_rule_without_arguments_covers_those_with() {
        let mut rules = Rules::new();
        let condition = || {
            SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, 1)
                .map(|condition| SeccompRule::new(vec![condition]).unwrap())
                .unwrap()
        };
        merge(&mut rules, 1, vec![condition()]);
        merge(&mut rules, 1, vec![condition()]);
        assert_eq!(rules[&1].len(), 2);
        merge(&mut rules, 1, Vec::new());
        merge(&mut rules, 1, vec![condition()]);
        assert!(rules[&1].is_empty());
    }
}
