//! Objects as expressions read them.

use xebec_cel::{Members, Tree, View};

use crate::{Map, Value};

impl Tree for Value {
    fn view(&self) -> View<'_> {
        match self {
            Self::Null => View::Null,
            Self::Bool(value) => View::Bool(*value),
            Self::Int(value) => View::Int(*value),
            Self::Float(value) => View::Double(*value),
            Self::String(text) => View::String(text),
            Self::Array(items) => View::List(items),
            Self::Object(members) => View::Map(members),
        }
    }
}

impl Members for Map {
    fn len(&self) -> usize {
        self.len()
    }

    fn get(&self, key: &str) -> Option<&dyn Tree> {
        self.get(key).map(|member| member as &dyn Tree)
    }

    fn at(&self, index: usize) -> Option<(&str, &dyn Tree)> {
        self.at(index).map(|(key, member)| (key, member as &dyn Tree))
    }
}
