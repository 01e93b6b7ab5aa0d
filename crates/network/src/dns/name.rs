//! Domain names as the wire has them, with the letters' case kept (RFC 1035 §3.1, §4.1.4).

use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest name in bytes, length bytes and the root included.
const MAX_NAME: usize = 255;
/// The longest label in bytes.
const MAX_LABEL: usize = 63;
/// The most pointers in one name; each is there for the sake of at least one label, and no name has more of them.
const MAX_POINTERS: usize = 127;
/// The two high bits of a length byte that make it half of a pointer.
const POINTER: u8 = 0xc0;

/// A complete domain name. Two names are equal when they differ only in the case of letters.
#[derive(Clone)]
pub struct Name {
    /// Labels, each after its length, and the root's zero.
    wire: Box<[u8]>,
}

/// A text or message part that is no domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A label is empty or too long.
    #[error("a label of a domain name needs 1 to {MAX_LABEL} bytes")]
    Label,
    /// The whole is too long.
    #[error("a domain name is at most {MAX_NAME} bytes long")]
    TooLong,
    /// The message ends inside the name, or points to where no name can be.
    #[error("the domain name is torn")]
    Torn,
}

impl Name {
    /// The root.
    pub(crate) fn root() -> Self {
        Self { wire: [0].into() }
    }

    /// Parses labels separated by dots; one dot at the end is allowed.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::root());
        }
        Self::from_labels(text.split('.').map(str::as_bytes))
    }

    /// Joins labels.
    pub(crate) fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(64);
        for label in labels {
            push_label(&mut wire, label)?;
        }
        wire.push(0);
        Ok(Self { wire: wire.into() })
    }

    /// The name of `label` below this one.
    pub(crate) fn child(&self, label: &str) -> Result<Self, NameError> {
        Self::from_labels(std::iter::once(label.as_bytes()).chain(self.labels()))
    }

    /// The name without its first label; `None` for the root.
    pub(crate) fn parent(&self) -> Option<Self> {
        let first = usize::from(self.wire[0]);
        (first > 0).then(|| Self { wire: self.wire[1 + first..].into() })
    }

    /// The labels, the first one first, without the root's empty one.
    pub(crate) fn labels(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let mut labels = Vec::with_capacity(8);
        let mut rest = &self.wire[..];
        while rest[0] > 0 {
            let (label, after) = rest[1..].split_at(usize::from(rest[0]));
            labels.push(label);
            rest = after;
        }
        labels.into_iter()
    }

    /// Whether this is `zone` or below it.
    pub(crate) fn is_in(&self, zone: &Self) -> bool {
        let mut own = self.labels().rev();
        zone.labels().rev().all(|label| own.next().is_some_and(|l| l.eq_ignore_ascii_case(label)))
    }

    /// The bytes of the uncompressed form.
    pub(crate) fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// Reads a name that starts at `start` of `message`, following pointers backwards only; also returns where
    /// it ends.
    pub(crate) fn decode(message: &[u8], start: usize) -> Result<(Self, usize), NameError> {
        let mut wire = Vec::with_capacity(64);
        let mut at = start;
        let mut end = None;
        let mut lowest = start;
        let mut pointers = 0;
        loop {
            let length = *message.get(at).ok_or(NameError::Torn)?;
            match length & POINTER {
                0 if length == 0 => {
                    wire.push(0);
                    return Ok((Self { wire: wire.into() }, end.unwrap_or(at + 1)));
                }
                0 => {
                    let label = message.get(at + 1..at + 1 + usize::from(length)).ok_or(NameError::Torn)?;
                    push_label(&mut wire, label)?;
                    at += 1 + label.len();
                }
                POINTER => {
                    let low = *message.get(at + 1).ok_or(NameError::Torn)?;
                    end = end.or(Some(at + 2));
                    at = usize::from(u16::from_be_bytes([length & !POINTER, low]));
                    pointers += 1;
                    // Each pointer goes further back, so that there is no circle; but a message has room for thousands, and
                    // for thousands of names that follow them all.
                    if at >= lowest || pointers > MAX_POINTERS {
                        return Err(NameError::Torn);
                    }
                    lowest = at;
                }
                _ => return Err(NameError::Torn),
            }
        }
    }
}

fn push_label(wire: &mut Vec<u8>, label: &[u8]) -> Result<(), NameError> {
    let length = u8::try_from(label.len()).map_err(|_| NameError::Label)?;
    if length == 0 || label.len() > MAX_LABEL {
        return Err(NameError::Label);
    }
    // The root's zero comes after the last label.
    if wire.len() + 1 + label.len() + 1 > MAX_NAME {
        return Err(NameError::TooLong);
    }
    wire.push(length);
    wire.extend(label);
    Ok(())
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        // Length bytes are at most 63, so they are never taken for letters.
        self.wire.eq_ignore_ascii_case(&other.wire)
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in &self.wire {
            state.write_u8(byte.to_ascii_lowercase());
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for label in self.labels() {
            for byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(*byte))?,
                    0x21..=0x7e => write!(f, "{}", char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        if self.wire.len() == 1 { f.write_str(".") } else { Ok(()) }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let check = |text: &str, want: Result<&str, NameError>| {
            assert_eq!(Name::parse(text).map(|n| n.to_string()), want.map(str::to_owned), "{text:?}");
        };
        check("a.b", Ok("a.b."));
        check("A.b.", Ok("A.b."));
        check("", Ok("."));
        check(".", Ok("."));
        check("a..b", Err(NameError::Label));
        check(".a", Err(NameError::Label));
        check(&"x".repeat(64), Err(NameError::Label));
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}.", "x".repeat(61));
        check(&longest, Ok(&longest));
        check(&format!("{}x", longest.trim_end_matches('.')), Err(NameError::TooLong));
        check("sp ace\u{e9}", Ok("sp\\032ace\\195\\169."));
    }

    #[test]
    fn case_does_not_matter_and_is_kept() {
        let name = |text| Name::parse(text).unwrap();
        assert_eq!(name("WWW.Example.com"), name("www.eXample.COM"));
        assert_ne!(name("a.bc"), name("ab.c"));
        assert!(name("X.Svc.Cluster.Local").is_in(&name("cluster.local")));
        assert!(name("cluster.local").is_in(&name("cluster.local")));
        assert!(!name("local").is_in(&name("cluster.local")));
        assert!(!name("xcluster.local").is_in(&name("cluster.local")));
        assert!(name("anything").is_in(&Name::root()));
        assert_eq!(name("a.b.c").parent(), Some(name("b.c")));
        assert_eq!(Name::root().parent(), None);
    }

    #[test]
    fn pointers_go_back_and_never_round() {
        let decode =
            |message: &[u8], start| Name::decode(message, start).map(|(n, end)| (n.to_string(), end));
        let message = b"\x01a\x00\x01b\xc0\x00\xc0\x03";
        assert_eq!(decode(message, 0), Ok(("a.".to_owned(), 3)));
        assert_eq!(decode(message, 3), Ok(("b.a.".to_owned(), 7)));
        assert_eq!(decode(message, 7), Ok(("b.a.".to_owned(), 9)));
        for torn in
            [&b"\xc0\x00"[..], b"\x01a\xc0\x00", b"\xc0\x05\0\0\0\0", b"\x05a", b"\x40a\0", b"\xc0", b""]
        {
            assert_eq!(decode(torn, 0), Err(NameError::Torn), "{torn:?}");
        }
        let label = [&b"\x3f"[..], &[b'x'; 63]].concat();
        let long = [label.repeat(4), vec![0]].concat();
        assert_eq!(decode(&long, 0), Err(NameError::TooLong));
    }
}
