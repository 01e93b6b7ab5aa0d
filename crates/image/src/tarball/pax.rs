//! PAX extended header records: `length key=value\n`.

/// What records say about the entry that follows. An empty value takes a record back, as POSIX has it.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseRecords,
}

/// GNU's records for sparse files.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Version 0.1: numbers separated by commas. Version 0.0, whose records repeat, is joined to the same form.
    pub(super) map: Option<Vec<u8>>,
}

const XATTR: &[u8] = b"SCHILY.xattr.";

pub(super) fn parse(mut bytes: &[u8]) -> Result<Records, String> {
    let mut records = Records::default();
    while !bytes.is_empty() {
        let (key, value, rest) = split_record(bytes).ok_or_else(|| "malformed PAX record".to_owned())?;
        bytes = rest;
        apply(&mut records, key, value)?;
    }
    Ok(records)
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    if length <= space + 1 || length > bytes.len() {
        return None;
    }
    let (record, rest) = bytes.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    let (key, value) = record.split_at(equals);
    if key.is_empty() || key.contains(&0) {
        return None;
    }
    Some((key, &value[1..], rest))
}

fn apply(records: &mut Records, key: &[u8], value: &[u8]) -> Result<(), String> {
    let number = || match value {
        b"" => Ok(None),
        _ => decimal(value)
            .map(Some)
            .ok_or_else(|| format!("PAX record `{}` is not a number", String::from_utf8_lossy(key))),
    };
    let name = || match value {
        b"" => Ok(None),
        _ if value.contains(&0) => Err("a PAX name contains a NUL byte".to_owned()),
        _ => Ok(Some(value.to_vec())),
    };
    match key {
        b"path" => records.path = name()?,
        b"linkpath" => records.link = name()?,
        b"size" => records.size = number()?,
        b"uid" => records.uid = number()?,
        b"gid" => records.gid = number()?,
        b"mtime" => records.mtime = if value.is_empty() { None } else { Some(time(value)?) },
        b"GNU.sparse.major" => records.sparse.major = number()?,
        b"GNU.sparse.minor" => records.sparse.minor = number()?,
        b"GNU.sparse.name" => records.sparse.name = name()?,
        b"GNU.sparse.realsize" | b"GNU.sparse.size" => records.sparse.real_size = number()?,
        b"GNU.sparse.map" => records.sparse.map = Some(value.to_vec()),
        b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => append_map(&mut records.sparse, value),
        _ => {
            if let Some(name) = key.strip_prefix(XATTR) {
                records.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

fn append_map(sparse: &mut SparseRecords, value: &[u8]) {
    let map = sparse.map.get_or_insert_default();
    if !map.is_empty() {
        map.push(b',');
    }
    map.extend_from_slice(value);
}

/// An unsigned decimal number without sign or blanks.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Seconds with an optional sign and fraction.
fn time(value: &[u8]) -> Result<(i64, u32), String> {
    let fail = || "PAX record `mtime` is not a time".to_owned();
    let (negative, digits) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = digits.splitn(2, |b| *b == b'.');
    let whole = parts.next().unwrap_or_default();
    let seconds = i64::try_from(decimal(whole).ok_or_else(fail)?).map_err(|_| fail())?;
    let mut nanos = 0_u32;
    if let Some(fraction) = parts.next() {
        if !fraction.iter().all(u8::is_ascii_digit) {
            return Err(fail());
        }
        for place in 0..9 {
            nanos = nanos * 10 + fraction.get(place).map_or(0, |digit| u32::from(digit - b'0'));
        }
    }
    Ok(match (negative, nanos) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}
