//! JSON straight into bytes: documents are written once, from front to back, without a tree.

use crate::{Value, json};

/// An object being written.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

/// A document that is one object.
pub(super) fn document(fill: impl FnOnce(&mut Object<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    object(&mut out, fill);
    out
}

/// Appends an object.
pub(super) fn object(out: &mut Vec<u8>, fill: impl FnOnce(&mut Object<'_>)) {
    out.push(b'{');
    fill(&mut Object { out, empty: true });
    out.push(b'}');
}

/// Appends an array, each element written by `each`.
pub(super) fn array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut each: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(b']');
}

impl Object<'_> {
    /// Starts a member; its value is to be written next.
    pub(super) fn member(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        json::write_str(name, self.out);
        self.out.push(b':');
        self.out
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        json::write_str(text, self.member(name));
    }

    /// A text, unless it is empty.
    pub(super) fn text_if_any(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.text(name, text);
        }
    }

    pub(super) fn flag(&mut self, name: &str, flag: bool) {
        let text: &[u8] = if flag { b"true" } else { b"false" };
        self.member(name).extend_from_slice(text);
    }

    /// Text that is JSON already.
    pub(super) fn raw(&mut self, name: &str, text: &str) {
        self.member(name).extend_from_slice(text.as_bytes());
    }

    pub(super) fn value(&mut self, name: &str, value: &Value) {
        json::write(value, self.member(name));
    }

    pub(super) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) {
        object(self.member(name), fill);
    }

    pub(super) fn array<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        each: impl FnMut(&mut Vec<u8>, T),
    ) {
        array(self.member(name), items, each);
    }

    pub(super) fn texts<'t>(&mut self, name: &str, texts: impl IntoIterator<Item = &'t str>) {
        self.array(name, texts, |out, text| json::write_str(text, out));
    }
}
