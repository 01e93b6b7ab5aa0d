//! The descriptions of types and fields, kept compressed: only OpenAPI needs them, and seldom.

use std::io::Read;

use flate2::read::DeflateDecoder;

use crate::generated;

/// The unpacked descriptions. About a megabyte: hold them while a document is made, not longer.
#[derive(Debug)]
pub struct Docs {
    text: String,
    /// Where each text ends.
    ends: Vec<u32>,
}

impl Docs {
    /// Unpacks the descriptions.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the generated texts are about a megabyte")]
    pub fn unpack() -> Self {
        let mut text = String::new();
        DeflateDecoder::new(generated::DOCS)
            .read_to_string(&mut text)
            .expect("the generated texts are deflated UTF-8");
        let ends = text.bytes().enumerate().filter(|(_, b)| *b == 0).map(|(i, _)| i as u32).collect();
        Self { text, ends }
    }

    /// The text at an index of [`crate::schema::Node::doc`] or [`crate::schema::Property::doc`] of the built-in arena;
    /// empty for [`crate::schema::NO_DOC`].
    #[must_use]
    pub fn get(&self, doc: u32) -> &str {
        let Some(end) = self.ends.get(doc as usize) else { return "" };
        let start = doc.checked_sub(1).map_or(0, |before| self.ends[before as usize] + 1);
        &self.text[start as usize..*end as usize]
    }
}
