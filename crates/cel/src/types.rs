//! The types that the checker knows.

use std::fmt;
use std::sync::Arc;

use crate::limits::MAX_TYPE_PARTS;

/// A type of an expression or a variable.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// `null_type`.
    Null,
    /// `bool`.
    Bool,
    /// `int`, 64 bits.
    Int,
    /// `uint`, 64 bits.
    Uint,
    /// `double`.
    Double,
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Duration`.
    Duration,
    /// Any type, known only when the value is.
    Dyn,
    /// The type of what has an error already.
    Error,
    /// A list of elements of one type.
    List(Parts),
    /// A map: the types of its keys and its values.
    Map(Parts),
    /// The type of a type, if it is known which.
    Type(Option<Parts>),
    /// An object with fields, by the name that its fields are declared under.
    Object(Arc<str>),
    /// An abstract type, as `optional_type`, and what it is of.
    Opaque(Arc<str>, Parts),
    /// A parameter of a function's declaration.
    Param(Param),
}

/// The types that a type is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    list: Arc<[Type]>,
    /// Types below, themselves included.
    count: u32,
}

/// A type that is not decided yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Param {
    /// As declared.
    Declared(&'static str),
    /// One of the checker's own.
    Free(u32),
}

impl Parts {
    fn new(list: impl Into<Arc<[Type]>>) -> Self {
        let list = list.into();
        let count = list.iter().fold(0_u32, |sum, part| sum.saturating_add(part.count()));
        Self { list, count }
    }

    /// The types, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Type] {
        &self.list
    }

    fn first(&self) -> &Type {
        &self.list[0]
    }
}

pub(crate) const OPTIONAL: &str = "optional_type";

impl Type {
    /// A list of `element`.
    #[must_use]
    pub fn list(element: Self) -> Self {
        Self::List(Parts::new([element]))
    }

    /// A map from `key` to `value`.
    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Parts::new([key, value]))
    }

    /// A value that may be missing.
    #[must_use]
    pub fn optional(value: Self) -> Self {
        Self::Opaque(OPTIONAL.into(), Parts::new([value]))
    }

    /// The type of the type `of`.
    #[must_use]
    pub fn type_of(of: Self) -> Self {
        Self::Type(Some(Parts::new([of])))
    }

    /// An object with declared fields.
    #[must_use]
    pub fn object(name: impl Into<Arc<str>>) -> Self {
        Self::Object(name.into())
    }

    pub(crate) fn opaque(name: &str, parts: Vec<Self>) -> Self {
        Self::Opaque(name.into(), Parts::new(parts))
    }

    fn count(&self) -> u32 {
        1 + match self {
            Self::List(parts) | Self::Map(parts) | Self::Type(Some(parts)) | Self::Opaque(_, parts) => {
                parts.count
            }
            _ => 0,
        }
    }

    /// Whether the type has more parts than any may have.
    pub(crate) fn is_too_large(&self) -> bool {
        self.count() > MAX_TYPE_PARTS
    }

    pub(crate) fn parts(&self) -> &[Self] {
        match self {
            Self::List(parts) | Self::Map(parts) | Self::Type(Some(parts)) | Self::Opaque(_, parts) => {
                parts.as_slice()
            }
            _ => &[],
        }
    }

    /// The same type made of `change`d parts.
    pub(crate) fn with_parts(&self, change: impl FnMut(&Self) -> Self) -> Self {
        let parts = || Parts::new(self.parts().iter().map(change).collect::<Vec<_>>());
        match self {
            Self::List(_) => Self::List(parts()),
            Self::Map(_) => Self::Map(parts()),
            Self::Type(Some(_)) => Self::Type(Some(parts())),
            Self::Opaque(name, _) => Self::Opaque(Arc::clone(name), parts()),
            _ => self.clone(),
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Error)
    }

    /// What an optional is of.
    pub(crate) fn unwrap_optional(&self) -> Option<&Self> {
        match self {
            Self::Opaque(name, parts) if &**name == OPTIONAL => Some(parts.first()),
            _ => None,
        }
    }

    /// The element of a list.
    #[must_use]
    pub fn element(&self) -> Option<&Self> {
        match self {
            Self::List(parts) => Some(parts.first()),
            _ => None,
        }
    }

    /// Whether its values have always the size 1.
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Double | Self::Duration | Self::Int | Self::Timestamp | Self::Uint => true,
            other => other.unwrap_optional().is_some_and(Self::is_scalar),
        }
    }

    /// The name that values of the type have at run time.
    pub(crate) fn runtime_name(&self) -> &str {
        match self {
            Self::Null => "null_type",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Timestamp => "google.protobuf.Timestamp",
            Self::Duration => "google.protobuf.Duration",
            Self::Dyn => "dyn",
            Self::Error => "*error*",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Type(_) => "type",
            Self::Object(name) | Self::Opaque(name, _) => name,
            Self::Param(Param::Declared(name)) => name,
            Self::Param(Param::Free(_)) => "_var",
        }
    }

    /// Its name with those of what it is made of, as `list(int)`: what upstream tells of what an expression gives, where
    /// `Display` is what the checker says.
    #[must_use]
    pub fn declared_name(&self) -> String {
        let parts: Vec<String> = self.parts().iter().map(Self::declared_name).collect();
        let below = if parts.is_empty() { String::new() } else { format!("({})", parts.join(", ")) };
        format!("{}{below}", self.runtime_name())
    }

    /// Equal but for the names of parameters.
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Param(_), Self::Param(_)) => true,
            _ => {
                std::mem::discriminant(self) == std::mem::discriminant(other)
                    && self.runtime_name() == other.runtime_name()
                    && self.parts().len() == other.parts().len()
                    && self.parts().iter().zip(other.parts()).all(|(a, b)| a.is_equivalent(b))
            }
        }
    }
}

impl fmt::Display for Type {
    /// As messages show types.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::Error => f.write_str("!error!"),
            Self::Param(Param::Free(number)) => write!(f, "_var{number}"),
            other => {
                f.write_str(other.runtime_name())?;
                for (index, part) in other.parts().iter().enumerate() {
                    f.write_str(if index == 0 { "(" } else { ", " })?;
                    part.fmt(f)?;
                }
                f.write_str(if other.parts().is_empty() { "" } else { ")" })
            }
        }
    }
}
