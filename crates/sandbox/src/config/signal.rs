//! Signals by name and number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A signal by number, 1..=64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(i32);

/// A word that is no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a signal; write a name such as SIGTERM or a number from 1 to 64")]
pub struct UnknownSignal {
    /// What was offered.
    pub value: String,
}

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl Signal {
    /// Asks a process to end.
    pub const TERM: Self = Self(15);
    /// Ends a process.
    pub const KILL: Self = Self(9);
    /// What Ctrl-C sends.
    pub const INT: Self = Self(2);

    /// The signal's number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Signal {
    type Error = UnknownSignal;

    fn try_from(number: i32) -> Result<Self, UnknownSignal> {
        if (1..=RTMAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(UnknownSignal { value: number.to_string() })
        }
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> i32 {
        signal.0
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Accepts `TERM`, `SIGTERM`, `15`, `RTMIN+3`, `SIGRTMAX-2`.
    fn from_str(value: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal { value: value.to_owned() };
        if let Ok(number) = value.parse::<i32>() {
            return Self::try_from(number).map_err(|_| unknown());
        }
        let upper = value.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        let number = if let Some(offset) = name.strip_prefix("RTMIN") {
            RTMIN + real_time_offset(offset, '+').ok_or_else(unknown)?
        } else if let Some(offset) = name.strip_prefix("RTMAX") {
            RTMAX - real_time_offset(offset, '-').ok_or_else(unknown)?
        } else {
            return Err(unknown());
        };
        if (RTMIN..=RTMAX).contains(&number) { Ok(Self(number)) } else { Err(unknown()) }
    }
}

fn real_time_offset(text: &str, sign: char) -> Option<i32> {
    if text.is_empty() {
        return Some(0);
    }
    text.strip_prefix(sign)?.parse::<u8>().ok().map(i32::from)
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        let check = |text: &str, number: Option<i32>| {
            assert_eq!(text.parse::<Signal>().ok().map(Signal::number), number, "{text:?}");
        };
        check("SIGTERM", Some(15));
        check("term", Some(15));
        check("9", Some(9));
        check("RTMIN", Some(34));
        check("SIGRTMIN+3", Some(37));
        check("SIGRTMAX-64", None);
        check("SIGRTMAX", Some(64));
        check("0", None);
        check("65", None);
        check("SIG", None);
        check("", None);
        check("RTMIN-1", None);
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        assert!(serde_json::from_str::<Signal>("0").is_err());
    }
}
