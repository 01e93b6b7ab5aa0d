//! Whether one type may stand for another, and what that decides of types that are free.

use crate::types::{Param, Type};

/// What is known of free types. Decisions can be taken back to a [`Mark`].
#[derive(Debug, Default)]
pub(crate) struct Unifier {
    decided: Vec<Option<Type>>,
    /// What stood before each decision.
    trail: Vec<(u32, Option<Type>)>,
}

/// A moment to go back to.
struct Mark(usize);

/// How deep decisions may lead to each other; a type refers to no more.
const MAX_STEPS: u32 = 1_000;

impl Unifier {
    /// A new free type.
    pub(crate) fn free(&mut self) -> Type {
        let number = u32::try_from(self.decided.len()).unwrap_or(u32::MAX);
        self.decided.push(None);
        Type::Param(Param::Free(number))
    }

    fn find(&self, of: &Type) -> Option<&Type> {
        match of {
            Type::Param(Param::Free(number)) => self.decided.get(*number as usize)?.as_ref(),
            _ => None,
        }
    }

    fn decide(&mut self, param: &Type, to: Type) {
        if let Type::Param(Param::Free(number)) = param
            && let Some(slot) = self.decided.get_mut(*number as usize)
        {
            self.trail.push((*number, slot.replace(to)));
        }
    }

    fn undo(&mut self, Mark(to): &Mark) {
        while self.trail.len() > *to {
            if let Some((number, before)) = self.trail.pop() {
                self.decided[number as usize] = before;
            }
        }
    }

    /// Whether a value of type `from` may stand where `to` is wanted. If so, what that decides stays decided.
    pub(crate) fn assign(&mut self, from: &Type, to: &Type) -> bool {
        self.assign_all(std::slice::from_ref(from), std::slice::from_ref(to))
    }

    /// The same for several at once.
    pub(crate) fn assign_all(&mut self, from: &[Type], to: &[Type]) -> bool {
        let mark = Mark(self.trail.len());
        let fits = self.all_fit(from, to);
        if !fits {
            self.undo(&mark);
        }
        fits
    }

    fn all_fit(&mut self, from: &[Type], to: &[Type]) -> bool {
        from.len() == to.len() && from.iter().zip(to).all(|(from, to)| self.fits(from, to))
    }

    fn fits(&mut self, from: &Type, to: &Type) -> bool {
        if matches!(to, Type::Param(_)) {
            match self.stands_for(from, to) {
                Standing::Yes => return true,
                Standing::No => return false,
                Standing::Unknown => {}
            }
        }
        if matches!(from, Type::Param(_)) {
            return matches!(self.stands_for(to, from), Standing::Yes);
        }
        if from.is_dyn_or_error() || to.is_dyn_or_error() {
            return true;
        }
        match (from, to) {
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Duration | Type::Timestamp
            ),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::Opaque(a, _), Type::Opaque(b, _)) => a == b && self.all_fit(from.parts(), to.parts()),
            (Type::List(_), Type::List(_)) | (Type::Map(_), Type::Map(_)) => {
                self.all_fit(from.parts(), to.parts())
            }
            _ => from == to,
        }
    }

    /// Whether the free type `param` may be `other`; if it may, it is from now on.
    fn stands_for(&mut self, other: &Type, param: &Type) -> Standing {
        if other == param {
            return Standing::Yes;
        }
        if let Some(decided) = self.find(param).cloned() {
            if *other == decided {
                return Standing::Yes;
            }
            if !self.fits(other, &decided) {
                return Standing::No;
            }
            let general = most_general(other, &decided);
            if !self.occurs(param, &general, 0) {
                self.decide(param, general);
            }
            return Standing::Yes;
        }
        if self.occurs(param, other, 0) {
            return Standing::Unknown;
        }
        self.decide(param, other.clone());
        Standing::Yes
    }

    /// Whether `param` is a part of `within`. What is too deep to tell counts as one.
    fn occurs(&self, param: &Type, within: &Type, steps: u32) -> bool {
        if param == within || steps > MAX_STEPS {
            return true;
        }
        match within {
            Type::Param(_) => self.find(within).is_some_and(|decided| self.occurs(param, decided, steps + 1)),
            _ => within.parts().iter().any(|part| self.occurs(param, part, steps + 1)),
        }
    }

    /// The type with what is decided put in; what is not stays free.
    pub(crate) fn resolve(&self, of: &Type) -> Type {
        self.substitute(of, false)
    }

    /// The type with what is decided put in; what is not can be anything.
    pub(crate) fn resolve_fully(&self, of: &Type) -> Type {
        self.substitute(of, true)
    }

    fn substitute(&self, of: &Type, to_dyn: bool) -> Type {
        if let Some(decided) = self.find(of) {
            return self.substitute(decided, to_dyn);
        }
        match of {
            Type::Param(_) if to_dyn => Type::Dyn,
            _ if of.parts().is_empty() => of.clone(),
            _ => {
                let made = of.with_parts(|part| self.substitute(part, to_dyn));
                if made.is_too_large() { Type::Error } else { made }
            }
        }
    }
}

enum Standing {
    Yes,
    No,
    /// It is not decided yet, and cannot be decided so.
    Unknown,
}

/// The one of two types that fit that says less.
pub(crate) fn most_general(a: &Type, b: &Type) -> Type {
    if says_no_more(a, b) { a.clone() } else { b.clone() }
}

fn says_no_more(a: &Type, b: &Type) -> bool {
    if a.is_dyn() || matches!(a, Type::Param(_)) {
        return true;
    }
    if b.is_dyn() || matches!(b, Type::Param(_)) {
        return false;
    }
    match (a, b) {
        (Type::Type(_), Type::Type(_)) => true,
        (Type::Opaque(x, _), Type::Opaque(y, _)) if x != y => false,
        (Type::Opaque(..), Type::Opaque(..))
        | (Type::List(_), Type::List(_))
        | (Type::Map(_), Type::Map(_)) => {
            a.parts().len() == b.parts().len()
                && a.parts().iter().zip(b.parts()).all(|(a, b)| says_no_more(a, b))
        }
        _ => a == b,
    }
}
