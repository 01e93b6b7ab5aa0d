//! Strangers' words inside of errors.

/// The text, but not at any length, and without what a terminal would obey.
pub(crate) fn clip(text: &str) -> String {
    const MAX: usize = 200;
    let harmless = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut short: String = text.chars().take(MAX).map(harmless).collect();
    if text.chars().nth(MAX).is_some() {
        short.push('…');
    }
    short
}

/// What is wrong with a stranger's JSON. `serde_json` quotes a value of the wrong type as a whole, so its words are clipped,
/// and it is not given as a source, where they would stand once more.
#[derive(Debug, thiserror::Error)]
#[error("{}", clip(&.0.to_string()))]
pub struct JsonError(serde_json::Error);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self(error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn words_are_bounded_and_harmless() {
        assert_eq!(clip("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(clip(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(clip(&"é".repeat(201)), "é".repeat(200) + "…");
        let json = format!("\"{}\"", "x".repeat(10_000));
        let error = JsonError::from(serde_json::from_str::<u64>(&json).expect_err("a text"));
        assert!(error.to_string().starts_with("invalid type: string \"xxx"), "{error}");
        assert!(error.to_string().len() < 1_000 && error.source().is_none());
    }
}
