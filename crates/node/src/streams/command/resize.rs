//! The sizes of a client's terminal, as JSON documents one after the other: `{"Width":80,"Height":24}`.

use serde_json::Value;
use xebec_sandbox::config::TerminalSize;

/// Most bytes of a document that has not ended.
pub(super) const MAX_DOCUMENT_BYTES: usize = 1024;

/// Takes sizes out of bytes as they arrive.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    unread: Vec<u8>,
}

impl Sizes {
    /// Adds bytes; gives the last size that they complete, because only that counts. What is no size is read over.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<TerminalSize> {
        let mut size = None;
        for chunk in bytes.chunks(MAX_DOCUMENT_BYTES) {
            self.unread.extend_from_slice(chunk);
            let mut documents = serde_json::Deserializer::from_slice(&self.unread).into_iter::<Value>();
            let (mut read, mut broken) = (0, false);
            while let Some(document) = documents.next() {
                match document {
                    Ok(document) => {
                        read = documents.byte_offset();
                        size = to_size(&document).or(size);
                    }
                    Err(error) => broken = !error.is_eof(),
                }
            }
            self.unread.drain(..read);
            if broken || self.unread.len() > MAX_DOCUMENT_BYTES {
                self.unread.clear();
            }
        }
        size
    }
}

fn to_size(document: &Value) -> Option<TerminalSize> {
    let side = |name| document.get(name)?.as_u64().and_then(|side| u16::try_from(side).ok());
    let size = TerminalSize { columns: side("Width")?, rows: side("Height")? };
    (size.columns > 0 && size.rows > 0).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let check = |pieces: &[&str], expected: Option<(u16, u16)>| {
            let mut sizes = Sizes::default();
            let last = pieces.iter().filter_map(|piece| sizes.push(piece.as_bytes())).last();
            assert_eq!(last.map(|size| (size.columns, size.rows)), expected, "{pieces:?}");
            assert!(sizes.unread.len() <= MAX_DOCUMENT_BYTES);
        };
        check(&[r#"{"Width":80,"Height":24}"#], Some((80, 24)));
        check(&["{\"Width\":80,\"Height\":24}\n{\"Width\":81,\"Height\":25}\n"], Some((81, 25)));
        check(&["{\"Wid", "th\":80,\"Hei", "ght\":24}"], Some((80, 24)));
        check(&["garbage", "{\"Width\":80,\"Height\":24}"], Some((80, 24)));
        check(&[r#"{"Width":0,"Height":24}"#], None);
        check(&[r#"{"Width":65536,"Height":24}"#], None);
        check(&[r#"{"Width":-1,"Height":24}"#, "[]", "null"], None);
        check(&["[".repeat(5000).as_str()], None);
        check(&[&format!("{{\"x\":\"{}", "y".repeat(5000))], None);
    }
}
