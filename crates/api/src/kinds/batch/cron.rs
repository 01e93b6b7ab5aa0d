//! The syntax of a schedule: five fields, or a name such as `@daily` (the standard form of `cron`).

/// Lowest and highest value of a field, and names that stand for values from the lowest on.
struct Field {
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { min: 0, max: 59, names: &[] },
    Field { min: 0, max: 23, names: &[] },
    Field { min: 1, max: 31, names: &[] },
    Field {
        min: 1,
        max: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Field { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Checks a schedule.
///
/// # Errors
/// What is wrong with it, in the words that upstream uses.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if schedule.is_empty() {
        return Err("empty spec string".into());
    }
    let schedule = without_zone(schedule);
    if schedule.starts_with('@') {
        return descriptor(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        text.split(',').filter(|part| !part.is_empty()).try_for_each(|part| range(part, field))?;
    }
    Ok(())
}

/// What follows a leading time zone, which older schedules have.
fn without_zone(schedule: &str) -> &str {
    let zoned = schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=");
    schedule.split_once(' ').filter(|_| zoned).map_or(schedule, |(_, rest)| rest.trim())
}

fn descriptor(schedule: &str) -> Result<(), String> {
    if let Some(duration) = schedule.strip_prefix("@every ") {
        let bad = || format!("failed to parse duration {schedule}: time: invalid duration {duration:?}");
        return is_duration(duration).then_some(()).ok_or_else(bad);
    }
    let known = DESCRIPTORS.contains(&schedule);
    known.then_some(()).ok_or_else(|| format!("unrecognized descriptor: {schedule}"))
}

/// Whether a text is a duration: numbers with units, `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(number);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let counted = digits.bytes().any(|b| b.is_ascii_digit()) && digits.matches('.').count() <= 1;
        if !counted || !matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        rest = tail;
        parts += 1;
    }
    parts > 0
}

fn range(text: &str, field: &Field) -> Result<(), String> {
    let mut parts = text.split('/');
    let bounds = parts.next().unwrap_or_default();
    let step = parts.next();
    if parts.next().is_some() {
        return Err(format!("too many slashes: {text}"));
    }
    let (low, high) = match bounds.split_once('-') {
        _ if matches!(bounds.split('-').next(), Some("*" | "?")) => (field.min, field.max),
        None => {
            let value = value(bounds, field)?;
            (value, if step.is_some() { field.max } else { value })
        }
        Some((low, high)) if !high.contains('-') => (value(low, field)?, value(high, field)?),
        Some(_) => return Err(format!("too many hyphens: {text}")),
    };
    let step = step.map(number).transpose()?;
    if low < field.min {
        return Err(format!("beginning of range ({low}) below minimum ({}): {text}", field.min));
    }
    if high > field.max {
        return Err(format!("end of range ({high}) above maximum ({}): {text}", field.max));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {text}"));
    }
    if step == Some(0) {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn value(text: &str, field: &Field) -> Result<u64, String> {
    let lower = text.to_lowercase();
    match field.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(field.min + at as u64),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u64, String> {
    let number: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "*/5 0-6/2 1,15 JAN-dec sun",
            "0 0 ? * *",
            "@daily",
            "@every 1h30m",
            "@every 0",
            "TZ=UTC 0 0 * * *",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        let bad =
            |schedule: &str, want: &str| assert_eq!(check(schedule), Err(want.to_owned()), "{schedule}");
        bad("", "empty spec string");
        bad("* * * *", "expected exactly 5 fields, found 4: [* * * *]");
        bad("error", "expected exactly 5 fields, found 1: [error]");
        bad("60 * * * *", "end of range (60) above maximum (59): 60");
        bad("* * 0 * *", "beginning of range (0) below minimum (1): 0");
        bad("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1");
        bad("*/0 * * * *", "step of range should be a positive number: */0");
        bad("1-2-3 * * * *", "too many hyphens: 1-2-3");
        bad("1/2/3 * * * *", "too many slashes: 1/2/3");
        bad("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax");
        bad("@x", "unrecognized descriptor: @x");
        bad("@every x", "failed to parse duration @every x: time: invalid duration \"x\"");
    }
}
