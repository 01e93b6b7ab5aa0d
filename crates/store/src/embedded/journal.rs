//! The end of the engine's journal, looked at before the engine does.
//!
//! Only the last batch of a journal can be unconfirmed by the disk: the writer syncs each one before the next. So:
//! - A broken batch with nothing whole behind it is a commit that was interrupted; it is cut off. The engine would
//!   refuse to open a journal whose last batch has a hole, although pages reach a disk in any order.
//! - More than one group of transactions can leave, and nothing of it whole, is no interrupted commit but damage, or
//!   another format: an error. To cut it off would lose what was acknowledged.
//! - A broken batch with whole ones behind it is damage to what was acknowledged, and an error. The engine would drop
//!   everything behind it in silence.
//! - A whole last batch may be in the kernel's cache only, when its sync failed and the process was restarted. It is
//!   written again in place, so that nothing is ever appended behind a batch that the disk does not have.
//! - After a failed write the journal is cut behind the last acknowledged batch.
//!
//! Format of `fjall` 3, integers little-endian. A batch is a start, its items, an end:
//!
//! ```text
//! start  1, item count u32, sequence number u64
//! item   2, kind u8, compression u8 (0), keyspace u64, key length u16, value length u32 twice, key, value
//! clear  4, keyspace u64
//! end    3, XXH3 of the items u64, "FJL\3"
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::disk::REVISION;
use crate::Revision;
use crate::frame::HEADER_BYTES;
use crate::limits::{
    MAX_GROUP_BYTES, MAX_GROUP_TXNS, MAX_KEY_BYTES, MAX_SEAL_BYTES, MAX_TXN_BYTES, MAX_TXN_OPS,
    MAX_VALUE_BYTES,
};

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";

/// Key and value of one item at most: a sealed value is a little larger than a plain one.
const MAX_ITEM_BYTES: usize = MAX_KEY_BYTES + MAX_VALUE_BYTES + HEADER_BYTES + 1_024;
/// What a batch has beside the keys and values of its transactions: around each item, with the text of a revision in its
/// value, and around them all with the item of the revision.
const ITEM_OVERHEAD: usize = 21 + HEADER_BYTES + 20 + MAX_SEAL_BYTES;
const BATCH_OVERHEAD: usize = 13 + 21 + REVISION.len() + 8 + 13;
/// The longest batch: a group that one transaction more has filled.
const MAX_BATCH_BYTES: u64 =
    (MAX_GROUP_BYTES + MAX_TXN_BYTES + MAX_GROUP_TXNS * MAX_TXN_OPS * ITEM_OVERHEAD + BATCH_OVERHEAD) as u64;
const CHUNK_BYTES: usize = 1 << 18;

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refused.
    #[error("cannot read or mend the journal {path}")]
    Io {
        /// The journal.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
    /// Acknowledged commits cannot be read.
    #[error("the journal {path} is damaged at byte {offset}; restore the data directory from a backup")]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Where the first unreadable commit starts.
        offset: u64,
    },
    /// The end cannot be read, and is too long to be one commit.
    #[error(
        "the journal {path} cannot be read from byte {offset} on, and the {bytes} bytes there are more than the \
         {limit} of an interrupted commit; restore the data directory from a backup, or give up what was written \
         since with `truncate -s {offset} {path}`", limit = MAX_BATCH_BYTES
    )]
    Unreadable {
        /// The journal.
        path: PathBuf,
        /// Where the readable commits end.
        offset: u64,
        /// How many bytes are behind it, up to the last one that is not zero.
        bytes: u64,
    },
}

/// What is behind the last whole batch of a journal.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    /// That many bytes, up to the last one that is not zero, and no whole batch.
    Bytes(u64),
    /// Another whole batch somewhere.
    Batch,
}

/// Makes the journals in `directory` end with a whole batch that the disk has.
pub(crate) fn mend(directory: &Path) -> Result<(), JournalError> {
    for path in journals(directory)? {
        let mend = || {
            let mut journal = Journal::open(&path)?;
            let last = journal.batches(|_| true)?;
            let end = last.as_ref().map_or(0, |batch| batch.end);
            let rest = journal.rest_after(end)?;
            if matches!(rest, Rest::Bytes(bytes) if bytes <= MAX_BATCH_BYTES) {
                journal.cut(end)?;
                last.map_or(Ok(()), |batch| journal.rewrite(&batch))?;
            }
            Ok((end, rest))
        };
        match mend() {
            Ok((_, Rest::Bytes(bytes))) if bytes <= MAX_BATCH_BYTES => (),
            Ok((offset, Rest::Bytes(bytes))) => return Err(JournalError::Unreadable { path, offset, bytes }),
            Ok((offset, Rest::Batch)) => return Err(JournalError::Damaged { path, offset }),
            Err(source) => return Err(JournalError::Io { path, source }),
        }
    }
    Ok(())
}

/// Removes what the journals in `directory` hold of commits after `revision`.
pub(crate) fn cut_after(directory: &Path, revision: Revision) -> Result<(), JournalError> {
    for path in journals(directory)? {
        let cut = || {
            let mut journal = Journal::open(&path)?;
            let last = journal.batches(|batch| batch.revision.is_none_or(|own| own <= revision))?;
            journal.cut(last.map_or(0, |batch| batch.end))
        };
        cut().map_err(|source| JournalError::Io { path: path.clone(), source })?;
    }
    Ok(())
}

/// The journals, oldest first. None when there is no directory.
fn journals(directory: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let io_error = |source| JournalError::Io { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error)?,
    };
    let paths: io::Result<Vec<_>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(io_error)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    let number = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    paths.sort_by_key(number);
    Ok(paths)
}

struct Journal {
    file: BufReader<File>,
    /// Where the next read starts.
    position: u64,
    /// Key and value of the item just read.
    item: Vec<u8>,
}

/// A whole batch: every length fits and the checksum is right.
struct Batch {
    start: u64,
    end: u64,
    /// The revision that it leads to.
    revision: Option<Revision>,
}

impl Journal {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self { file: BufReader::with_capacity(CHUNK_BYTES, file), position: 0, item: Vec::new() })
    }

    /// The last of the batches from the start on that are whole and that `wanted` wants, without a gap.
    fn batches(&mut self, wanted: impl Fn(&Batch) -> bool) -> io::Result<Option<Batch>> {
        self.seek(0)?;
        let mut last = None;
        while let Some(batch) = self.read_batch()?.filter(&wanted) {
            last = Some(batch);
        }
        Ok(last)
    }

    /// What is behind `offset`; a whole batch counts only behind a trailer.
    fn rest_after(&mut self, offset: u64) -> io::Result<Rest> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let zeros = vec![0; CHUNK_BYTES];
        let (mut start, mut written) = (offset, 0);
        loop {
            // The journal is made with a size, but without blocks.
            start = match rustix::fs::seek(self.file.get_ref(), rustix::fs::SeekFrom::Data(start)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => return Ok(Rest::Bytes(written)),
                Err(error) => return Err(error.into()),
            };
            let length = read_at(self.file.get_ref(), &mut chunk, start)?;
            let bytes = &chunk[..length];
            if bytes != &zeros[..length] {
                let last = bytes.iter().rposition(|byte| *byte != 0).unwrap_or_default();
                written = start + last as u64 + 1 - offset;
                for position in 0..length.saturating_sub(TRAILER.len() - 1) {
                    if bytes[position..].starts_with(&TRAILER) {
                        self.seek(start + (position + TRAILER.len()) as u64)?;
                        if self.read_batch()?.is_some() {
                            return Ok(Rest::Batch);
                        }
                    }
                }
            }
            if length < TRAILER.len() {
                return Ok(Rest::Bytes(written));
            }
            // Chunks overlap, so that none cuts a trailer in two.
            start += (length - (TRAILER.len() - 1)) as u64;
        }
    }

    fn cut(&self, end: u64) -> io::Result<()> {
        let file = self.file.get_ref();
        if file.metadata()?.len() > end {
            file.set_len(end)?;
            file.sync_all()?;
        }
        Ok(())
    }

    /// Writes a batch over itself, so that the disk has it for certain.
    fn rewrite(&self, batch: &Batch) -> io::Result<()> {
        let file = self.file.get_ref();
        let length = usize::try_from(batch.end - batch.start).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, batch.start)?;
        file.write_all_at(&bytes, batch.start)?;
        file.sync_data()
    }

    fn seek(&mut self, position: u64) -> io::Result<()> {
        self.position = self.file.seek(SeekFrom::Start(position))?;
        Ok(())
    }

    /// The batch that starts here; none when there is no whole one.
    fn read_batch(&mut self) -> io::Result<Option<Batch>> {
        let start = self.position;
        let Some([START, head @ ..]) = self.take::<13>()? else { return Ok(None) };
        let (count, _sequence) = head.split_first_chunk().expect("12 bytes hold a u32");
        let mut hash = Xxh3::new();
        let mut revision = None;
        for _ in 0..u32::from_le_bytes(*count) {
            let Some(key_length) = self.read_item(&mut hash)? else { return Ok(None) };
            let (key, value) = self.item.split_at(key_length);
            if key == REVISION {
                revision = value.first_chunk().map(|number| Revision::new(u64::from_le_bytes(*number)));
            }
        }
        let Some([END, tail @ ..]) = self.take::<13>()? else { return Ok(None) };
        let (checksum, trailer) = tail.split_first_chunk().expect("12 bytes hold a u64");
        let whole = u64::from_le_bytes(*checksum) == hash.digest() && trailer == TRAILER;
        Ok(whole.then_some(Batch { start, end: self.position, revision }))
    }

    /// Reads an item into `self.item` and gives the length of its key; none when there is no whole one.
    fn read_item(&mut self, hash: &mut Xxh3) -> io::Result<Option<usize>> {
        self.item.clear();
        match self.take()? {
            Some([ITEM]) => (),
            Some([CLEAR]) => {
                let Some(keyspace) = self.take::<8>()? else { return Ok(None) };
                hash.update(&[CLEAR]);
                hash.update(&keyspace);
                return Ok(Some(0));
            }
            Some(_) | None => return Ok(None),
        }
        let Some(head) = self.take::<20>()? else { return Ok(None) };
        let [_kind, 0, _, _, _, _, _, _, _, _, k0, k1, _, _, _, _, v0, v1, v2, v3] = head else {
            return Ok(None);
        };
        let key_length = usize::from(u16::from_le_bytes([k0, k1]));
        let length = key_length + u32::from_le_bytes([v0, v1, v2, v3]) as usize;
        if length > MAX_ITEM_BYTES {
            return Ok(None);
        }
        let read = Read::by_ref(&mut self.file).take(length as u64).read_to_end(&mut self.item)?;
        self.position += read as u64;
        if read < length {
            return Ok(None);
        }
        hash.update(&[ITEM]);
        hash.update(&head);
        hash.update(&self.item);
        Ok(Some(key_length))
    }

    /// The next bytes; none at the end.
    fn take<const N: usize>(&mut self) -> io::Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => {
                self.position += N as u64;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Fills `buffer` from `offset` on as far as the file goes.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], offset + length as u64)? {
            0 => break,
            more => length += more,
        }
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};

    use super::{Journal, JournalError, MAX_BATCH_BYTES, cut_after, mend};
    use crate::embedded::disk::Disk;
    use crate::limits::DiskLimits;
    use crate::{Key, Record, Revision, Value};

    /// Files with commits 1 to `commits`, each a value of 9,000 bytes, and where they end in the journal.
    fn files(directory: &Path, commits: u64) -> (PathBuf, Vec<u64>) {
        let path = directory.join("data");
        let mut disk = Disk::open(path.clone(), None, DiskLimits::default()).expect("open");
        for number in 1..=commits {
            let (key, revision) = (Key::new(format!("/k/{number}")).expect("key"), Revision::new(number));
            let record = Record::new(key.clone(), revision, revision, &Value::opaque(vec![b'v'; 9_000]));
            disk.write(&BTreeMap::from([(key, Some(record.frame().clone()))]), revision).expect("write");
        }
        drop(disk);
        let journal = path.join("0.jnl");
        let mut reader = Journal::open(&journal).expect("open");
        let mut ends = Vec::new();
        while let Some(batch) = reader.read_batch().expect("read") {
            assert_eq!(batch.revision, Some(Revision::new(ends.len() as u64 + 1)));
            ends.push(batch.end);
        }
        assert_eq!(ends.len() as u64, commits);
        (journal, ends)
    }

    fn length(journal: &Path) -> u64 {
        fs::metadata(journal).expect("metadata").len()
    }

    fn overwrite(journal: &Path, offset: u64, bytes: &[u8]) {
        let mut contents = fs::read(journal).expect("read");
        let offset = usize::try_from(offset).expect("offset");
        contents[offset..offset + bytes.len()].copy_from_slice(bytes);
        fs::write(journal, contents).expect("write");
    }

    #[test]
    fn a_torn_end_is_cut_off() {
        for (hole, size) in [(0, 1), (1, 12), (13, 30), (100, 4_096), (8_990, 30), (9_060, 4)] {
            let directory = tempfile::tempdir().expect("directory");
            let (journal, ends) = files(directory.path(), 3);
            overwrite(&journal, ends[1] + hole, &vec![0; size]);
            mend(&directory.path().join("data")).expect("mend");
            assert_eq!(length(&journal), ends[1], "hole of {size} at {hole}");
        }
    }

    #[test]
    fn damage_before_the_end_is_an_error() {
        for (hole, size) in [(0, 1), (1, 12), (100, 4_096), (0, 9_000)] {
            let directory = tempfile::tempdir().expect("directory");
            let (journal, ends) = files(directory.path(), 4);
            let before = length(&journal);
            overwrite(&journal, ends[0] + hole, &vec![0; size]);
            let error = mend(&directory.path().join("data")).expect_err("damaged");
            assert!(matches!(error, JournalError::Damaged { offset, .. } if offset == ends[0]), "{error}");
            assert_eq!(length(&journal), before, "evidence is left alone");
        }
    }

    #[test]
    fn more_than_one_commit_is_not_cut_off() {
        for (garbage, too_long) in [(1, false), (MAX_BATCH_BYTES, false), (MAX_BATCH_BYTES + 1, true)] {
            let directory = tempfile::tempdir().expect("directory");
            let (journal, ends) = files(directory.path(), 3);
            let file = fs::File::options().write(true).open(&journal).expect("open");
            // Zeros between are what the disk has not got yet.
            file.write_all_at(b"x", ends[2] + garbage - 1).expect("write");
            file.set_len(ends[2] + garbage + 100_000).expect("more zeros");
            let before = length(&journal);
            let mended = mend(&directory.path().join("data"));
            if too_long {
                let error = mended.expect_err("nothing may be cut");
                assert!(
                    matches!(error, JournalError::Unreadable { offset, bytes, .. } if (offset, bytes) == (ends[2], garbage)),
                    "{error}"
                );
                assert!(error.to_string().contains(&format!("truncate -s {}", ends[2])), "{error}");
                assert_eq!(length(&journal), before, "evidence is left alone");
            } else {
                mended.expect("mend");
                assert_eq!(length(&journal), ends[2], "{garbage} bytes");
            }
        }
    }

    #[test]
    fn a_whole_journal_keeps_its_commits() {
        let directory = tempfile::tempdir().expect("directory");
        let (journal, ends) = files(directory.path(), 3);
        let data = directory.path().join("data");
        for _ in 0..2 {
            mend(&data).expect("mend");
            assert_eq!(length(&journal), ends[2]);
        }
        mend(&directory.path().join("none")).expect("nothing to mend");
    }

    #[test]
    fn a_failed_commit_is_cut_off() {
        for (revision, kept) in [(9, 2), (3, 2), (2, 1)] {
            let directory = tempfile::tempdir().expect("directory");
            let (journal, ends) = files(directory.path(), 3);
            cut_after(&directory.path().join("data"), Revision::new(revision)).expect("cut");
            assert_eq!(length(&journal), ends[kept]);
        }
        let directory = tempfile::tempdir().expect("directory");
        let (journal, ends) = files(directory.path(), 3);
        overwrite(&journal, ends[1] + 50, b"torn");
        cut_after(&directory.path().join("data"), Revision::new(3)).expect("cut");
        assert_eq!(length(&journal), ends[1]);
    }
}
