//! That nothing is lost: examples of every version are converted to every other one and back.
//!
//! It is no proof in the sense of logic, but it is one that finds what people forget: fields without a counterpart, values
//! without a name, texts that a rule does not expect, lists of which it takes the first element only. Examples come from the
//! schemas, are valid by them and their rules, and are the same each time.

use std::fmt;

use xebec_cel::Budget;

use super::example::{self, Random, Share};
use super::{Declaration, keep, rule};
use crate::structural;
use crate::{Map, Value, json};

/// How many examples of each version there are.
const EXAMPLES: usize = 32;
/// How many are made to have so many that are valid.
const ATTEMPTS: usize = 4 * EXAMPLES;
/// How many conversions there and back are tried at most, of all versions together.
const MAX_TRIPS: usize = 512;
/// What all expressions may cost meanwhile, in the units of CEL.
const BUDGET: u64 = 2 * xebec_cel::limits::PER_OBJECT;
/// How many losses are told of.
const MAX_LOSSES: usize = 16;
/// How much of a value is shown.
const MAX_SHOWN: usize = 120;

/// What the examples showed.
#[derive(Debug, Default)]
pub struct Proof {
    /// How often an example went to another version and back.
    pub trips: usize,
    /// What was lost, without what may be.
    pub losses: Vec<Loss>,
}

/// Something that does not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A field is another one afterwards.
    Field {
        /// The version that it is of.
        of: String,
        /// The version that it went to.
        by: String,
        /// Where it is.
        field: String,
        /// What it was, and what it is: JSON, cut when it is long.
        values: [String; 2],
    },
    /// An example cannot be converted.
    Stuck {
        /// The version that it is of.
        of: String,
        /// The version that it went to.
        by: String,
        /// What is wrong.
        why: String,
    },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field { of, by, field, values: [was, is] } => write!(
                f,
                "{field} of {of} is lost on the way to {by} and back: {was} becomes {is}; a rule may say what it is there, \
                 preserve: {{{of}: [{field}]}} keeps it, acknowledgeLossy: [{field}] accepts that"
            ),
            Self::Stuck { of, by, why } => write!(f, "an example of {of} cannot go to {by} and back: {why}"),
        }
    }
}

/// How many examples of a version go to each other one, where there are so many.
fn trips_of_a_pair(versions: usize) -> Result<usize, String> {
    let pairs = versions * versions.saturating_sub(1);
    if pairs > MAX_TRIPS {
        return Err(format!(
            "conversion of {versions} versions is {pairs} ways, which are more than the {MAX_TRIPS} that are tried; stop serving \
             old versions, and remove them"
        ));
    }
    Ok((MAX_TRIPS / pairs.max(1)).min(EXAMPLES))
}

impl Declaration {
    /// Tries examples of every version.
    ///
    /// # Errors
    /// No example can be made of a version; there are too many versions for an example of each.
    pub fn prove(&self) -> Result<Proof, String> {
        let (mut proof, mut budget) = (Proof::default(), Budget::new(BUDGET));
        let each = trips_of_a_pair(self.forms.len())?;
        for of in 0..self.forms.len() {
            let examples = self.examples(of)?;
            for by in (0..self.forms.len()).filter(|by| *by != of) {
                for example in examples.iter().take(each) {
                    if proof.losses.len() >= MAX_LOSSES {
                        return Ok(proof);
                    }
                    proof.trips += 1;
                    self.trip(of, by, example, &mut budget, &mut proof.losses);
                }
            }
        }
        Ok(proof)
    }

    /// Valid objects of a version.
    fn examples(&self, of: usize) -> Result<Vec<Value>, String> {
        let form = &self.forms[of];
        let root = form.version.root();
        let mut random = Random::new(of as u64);
        let mut made = Vec::new();
        let mut why = None;
        for n in 0..ATTEMPTS {
            if made.len() == EXAMPLES {
                break;
            }
            let share = match n % 8 {
                0 => Share::Least,
                1 => Share::All,
                _ => Share::Some,
            };
            let mut object = example::whole(&form.schema, share, &mut random);
            object.set(&["apiVersion"], form.api_version.as_str());
            object.set(&["kind"], "Example");
            self.settle(&mut object, of);
            let mut causes = structural::validate(&object, root);
            if let Some(rules) = form.version.rules.as_ref().filter(|_| causes.is_empty()) {
                causes = rules.validate(&object, None, root).causes;
            }
            match causes.first() {
                None => made.push(object),
                Some(cause) => why = Some(cause.to_string()),
            }
        }
        if made.is_empty() {
            let why = why.unwrap_or_default();
            let name = self.name(of);
            return Err(format!(
                "no valid example of {name} can be made, so that nothing can be tried ({why}); a schema's `example` helps"
            ));
        }
        Ok(made)
    }

    fn trip(&self, of: usize, by: usize, example: &Value, budget: &mut Budget, losses: &mut Vec<Loss>) {
        let there = self.convert_within(example.clone(), &self.forms[by].api_version, budget);
        let back = there.and_then(|there| self.convert_within(there, &self.forms[of].api_version, budget));
        // What a rule gives by default is as good as there, as what a schema does is.
        let mut example = example.clone();
        for bridge in &self.bridges {
            let side = bridge.ends.iter().position(|end| *end == of);
            side.into_iter().for_each(|side| rule::fill(&bridge.rules, side, &mut example));
        }
        let (of, by) = (self.name(of).to_owned(), self.name(by).to_owned());
        let back = match back {
            Ok(back) => back,
            Err(error) => {
                let known =
                    |loss: &Loss| matches!(loss, Loss::Stuck { of: o, by: b, .. } if (o, b) == (&of, &by));
                if !losses.iter().any(known) {
                    losses.push(Loss::Stuck { of, by, why: error.to_string() });
                }
                return;
            }
        };
        let (was, is) = (keep::without_empty(example), keep::without_empty(back));
        let mut differences = Vec::new();
        differ(&mut Vec::new(), was.as_ref(), is.as_ref(), &mut differences);
        for (path, was, is) in differences {
            let field = path.join(".");
            let known = |loss: &Loss| matches!(loss, Loss::Field { of: o, by: b, field: f, .. } if (o, b, f) == (&of, &by, &field));
            if self.may_lose(&path) || losses.iter().any(known) || losses.len() >= MAX_LOSSES {
                continue;
            }
            losses.push(Loss::Field { of: of.clone(), by: by.clone(), field, values: [show(was), show(is)] });
        }
    }

    fn may_lose(&self, path: &[String]) -> bool {
        let within =
            |lossy: &Vec<String>| lossy.len() <= path.len() && lossy.iter().zip(path).all(|(a, b)| a == b);
        self.lossy.iter().any(within)
    }
}

type Difference<'v> = (Vec<String>, Option<&'v Value>, Option<&'v Value>);

/// The fields in which two trees differ; an element of a list is the list.
fn differ<'v>(
    path: &mut Vec<String>,
    was: Option<&'v Value>,
    is: Option<&'v Value>,
    found: &mut Vec<Difference<'v>>,
) {
    if was == is {
        return;
    }
    static NONE: Map = Map::new();
    // A part of the object that is missing as a whole is told of by what is in it.
    let near = path.len() < 2;
    let (a, b) = match (was, is) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => (a, b),
        (Some(Value::Object(a)), None) if near => (a, &NONE),
        (None, Some(Value::Object(b))) if near => (&NONE, b),
        _ => return found.push((path.clone(), was, is)),
    };
    let more = b.keys().filter(|key| !a.contains(key));
    for key in a.keys().chain(more) {
        path.push(key.to_owned());
        differ(path, a.get(key), b.get(key), found);
        path.pop();
    }
}

fn show(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".into() };
    let text = String::from_utf8_lossy(&json::to_vec(value)).into_owned();
    if text.len() <= MAX_SHOWN {
        return text;
    }
    text.chars().take(MAX_SHOWN).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_versions_is_tried() {
        for (versions, want) in [(1, 32), (2, 32), (4, 32), (5, 25), (6, 17), (23, 1)] {
            assert_eq!(trips_of_a_pair(versions), Ok(want), "{versions}");
        }
        assert!(trips_of_a_pair(24).expect_err("too many").contains("552 ways"));
    }
}
