//! One 512-byte header block and its numbers.

pub(super) const BLOCK: usize = 512;

/// A header block. Fields stay undecoded until they are asked for.
#[derive(Debug)]
pub(super) struct Block(pub(super) [u8; BLOCK]);

/// Which dialect a header speaks; it decides what the last 167 bytes mean.
#[derive(PartialEq)]
enum Dialect {
    V7,
    Ustar,
    /// Like ustar, with a shorter prefix.
    Star,
    Gnu,
}

impl Block {
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|b| *b == 0)
    }

    /// Checks the checksum, as unsigned or signed bytes: old writers used either.
    pub(super) fn verify(&self) -> Result<(), String> {
        let bytes = self.0.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { b' ' } else { *b });
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for byte in bytes {
            unsigned += i64::from(byte);
            signed += i64::from(i8::from_ne_bytes([byte]));
        }
        match number(&self.0[148..156]) {
            Ok(stated) if stated == unsigned || stated == signed => Ok(()),
            _ => Err("the checksum does not match; this is not a tar archive, or it is damaged".to_owned()),
        }
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match self.dialect() {
            Dialect::Ustar => text(&self.0[345..500]),
            Dialect::Star => text(&self.0[345..476]),
            Dialect::V7 | Dialect::Gnu => b"",
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        text(&self.0[157..257]).to_vec()
    }

    pub(super) fn size(&self) -> Result<u64, String> {
        unsigned("size", &self.0[124..136])
    }

    pub(super) fn uid(&self) -> Result<u64, String> {
        unsigned("uid", &self.0[108..116])
    }

    pub(super) fn gid(&self) -> Result<u64, String> {
        unsigned("gid", &self.0[116..124])
    }

    pub(super) fn mode(&self) -> Result<u32, String> {
        let mode = unsigned("mode", &self.0[100..108])?;
        Ok(u32::try_from(mode & 0o7777).expect("twelve bits"))
    }

    pub(super) fn mtime(&self) -> Result<(i64, u32), String> {
        Ok((number(&self.0[136..148]).map_err(|e| format!("mtime: {e}"))?, 0))
    }

    /// The four sparse entries of an old GNU sparse header, whether more blocks follow, and the real size.
    pub(super) fn gnu_sparse(&self) -> Result<(&[u8], bool, u64), String> {
        if self.dialect() != Dialect::Gnu {
            return Err("a sparse file in an archive that is not GNU's".to_owned());
        }
        Ok((&self.0[386..482], self.0[482] != 0, unsigned("real size", &self.0[483..495])?))
    }

    /// The 21 sparse entries of a continuation block, and whether more follow.
    pub(super) fn gnu_sparse_more(&self) -> (&[u8], bool) {
        (&self.0[..504], self.0[504] != 0)
    }

    fn dialect(&self) -> Dialect {
        match (&self.0[257..263], &self.0[263..265]) {
            (b"ustar\0", _) if &self.0[508..512] == b"tar\0" => Dialect::Star,
            (b"ustar\0", _) => Dialect::Ustar,
            (b"ustar ", b" \0") => Dialect::Gnu,
            _ => Dialect::V7,
        }
    }
}

/// Bytes up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

pub(super) fn unsigned(name: &str, field: &[u8]) -> Result<u64, String> {
    let value = number(field).map_err(|e| format!("{name}: {e}"))?;
    u64::try_from(value).map_err(|_| format!("{name} is negative"))
}

/// Octal digits between blanks and NULs, or GNU's big-endian two's complement marked by the top bit.
fn number(field: &[u8]) -> Result<i64, String> {
    if field[0] & 0x80 != 0 {
        return base_256(field);
    }
    let start = field.iter().position(|b| !matches!(b, b' ' | 0)).unwrap_or(field.len());
    let digits = text(&field[start..]).trim_ascii_end();
    let mut value = 0_i64;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return Err("not an octal number".to_owned());
        }
        value = value
            .checked_mul(8)
            .and_then(|v| v.checked_add(i64::from(digit - b'0')))
            .ok_or_else(|| "too large".to_owned())?;
    }
    Ok(value)
}

fn base_256(field: &[u8]) -> Result<i64, String> {
    let negative = field[0] & 0x40 != 0;
    let fill = if negative { 0xff } else { 0x00 };
    let first = if negative { field[0] | 0x80 } else { field[0] & 0x7f };
    let (high, low) = field.split_at(field.len().saturating_sub(8));
    let mut bytes = [fill; 8];
    bytes[8 - low.len()..].copy_from_slice(low);
    let high_is_fill = match high.split_first() {
        Some((_, rest)) => first == fill && rest.iter().all(|b| *b == fill),
        None => {
            bytes[8 - low.len()] = first;
            true
        }
    };
    let value = i64::from_be_bytes(bytes);
    if high_is_fill && (value < 0) == negative { Ok(value) } else { Err("too large".to_owned()) }
}
