//! Parts of timestamps and durations.

use super::{Args, Fun, Outcome};
use crate::error::no_overload;
use crate::time::{Civil, Timestamp, zone_offset};
use crate::value::Value;

pub(super) fn lookup(name: &str) -> Option<Fun> {
    Some(match name {
        "getFullYear" => |args| civil(args, |_, civil| civil.year),
        "getMonth" => |args| civil(args, |_, civil| civil.month - 1),
        "getDate" => |args| civil(args, |_, civil| civil.day),
        "getDayOfMonth" => |args| civil(args, |_, civil| civil.day - 1),
        "getDayOfWeek" => |args| civil(args, |_, civil| civil.weekday),
        "getDayOfYear" => |args| civil(args, |_, civil| civil.day_of_year),
        "getHours" => |args| either(args, 3_600_000_000_000, |_, civil| civil.hour),
        "getMinutes" => |args| either(args, 60_000_000_000, |_, civil| civil.minute),
        "getSeconds" => |args| either(args, 1_000_000_000, |_, civil| civil.second),
        "getMilliseconds" => |args| either(args, 1_000_000, |at, _| i64::from(at.nanos / 1_000_000)),
        _ => return None,
    })
}

type Part = fn(Timestamp, &Civil) -> i64;

fn civil<'a>(args: &mut Args<'_, 'a>, part: Part) -> Outcome<'a> {
    let Value::Timestamp(at) = args.get(0) else { return no_overload() };
    let offset = if args.len() > 1 { zone_offset(args.str(1)?, *at)? } else { 0 };
    args.meter.work(200)?;
    Ok(Value::Int(part(*at, &at.civil(offset))))
}

/// A part of a timestamp, or a whole duration in a unit.
fn either<'a>(args: &mut Args<'_, 'a>, unit: i64, part: Part) -> Outcome<'a> {
    match args.get(0) {
        Value::Duration(nanos) if args.len() == 1 => Ok(Value::Int(nanos / unit)),
        _ => civil(args, part),
    }
}
