//! Long policy texts: each once on disk, however many entries refer to it, in a file of its own under its SHA-256.
//!
//! An entry of 64 KiB would otherwise be written four times: into both copies, each time the log is rewritten, and for
//! every domain that publishes the same. A file is complete before any entry refers to it, and goes when none does any
//! more. It is `text · parity (1,024) · crc32 of each block of 1,024 (4 each)`: whatever is damaged within one block is
//! put right from the others, and what is read is the text of that digest or nothing.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::digest::{SHA256, digest};

use super::files;
use super::log::sync_directory;
use crate::cache::StsPolicy;
use crate::limits::{STORE_TEXT_BYTES, STS_POLICY_BYTES};

/// Directory of the texts in the store's directory.
pub(super) const TEXTS_DIRECTORY: &str = "texts";
/// What a file is called while it is written.
const NEW_FILE: &str = "new";
/// Octets that can be put right together.
const BLOCK: usize = 1_024;
/// Octets of a checksum.
const SUM: usize = 4;
/// First octet of a value that refers to a text; the digest follows it.
pub(super) const REFERRING: u8 = 2;

/// SHA-256 of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    /// Of these octets.
    pub fn of(text: &[u8]) -> Self {
        Self(digest(&SHA256, text).as_ref().try_into().unwrap_or_default())
    }

    /// The digest that a value refers to, and what follows it.
    pub fn in_value(value: &[u8]) -> Option<(Self, &[u8])> {
        let (digest, rest) = value.strip_prefix(&[REFERRING])?.split_first_chunk::<32>()?;
        Some((Self(*digest), rest))
    }

    /// The octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    fn file_name(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut name, octet| {
            // Writing into a String cannot fail.
            let _ = write!(name, "{octet:02x}");
            name
        })
    }
}

/// Whether the text of a policy is long enough for a file of its own.
pub(crate) fn is_long(policy: &StsPolicy) -> bool {
    policy.lines.bytes() > STORE_TEXT_BYTES
}

/// What the file of a text of so many octets takes of a disk that gives blocks of 4 KiB.
pub(crate) fn bytes_on_disk(text: usize) -> usize {
    (text + BLOCK + SUM * text.div_ceil(BLOCK)).next_multiple_of(4_096)
}

/// Texts that are to be written, by digest.
pub(super) type Pending = HashMap<Digest, Arc<StsPolicy>>;

/// The texts of a store.
#[derive(Debug)]
pub(super) struct Texts(PathBuf);

impl Texts {
    /// Those in the directory of this store.
    pub fn of(store: &Path) -> Self {
        Self(store.join(TEXTS_DIRECTORY))
    }

    /// The text of that digest, put right where it is damaged in one place. Nothing where it cannot be had.
    pub fn read(&self, digest: &Digest) -> Option<String> {
        let path = self.0.join(digest.file_name());
        let (text, is_repaired) = text_in(&read_bounded(&path)?, digest)?;
        if is_repaired {
            tracing::warn!(path = %path.display(), "a stored policy text was damaged: put right");
            // Where it cannot be written, it is put right again at the next start.
            let _ = self.write(digest, &text);
        }
        String::from_utf8(text).ok()
    }

    /// Writes those of `texts` that are not there yet; they are durable after this.
    pub fn save<'a>(&self, texts: impl Iterator<Item = (&'a Digest, &'a StsPolicy)>) -> io::Result<()> {
        let mut is_new = false;
        for (digest, policy) in texts {
            let text = policy.lines.as_text();
            // What is there counts only where it is whole: it may have been damaged since.
            if self.read(digest).is_none() {
                files::make_directory(&self.0)?;
                self.write(digest, text.as_bytes())?;
                is_new = true;
            }
        }
        if is_new {
            sync_directory(&self.0)?;
            self.0.parent().map_or(Ok(()), sync_directory)?;
        }
        Ok(())
    }

    /// Removes a text that nothing refers to any more. Best effort: what stays goes at the next start.
    pub fn remove(&self, digest: &Digest) {
        let _ = fs::remove_file(self.0.join(digest.file_name()));
    }

    /// Removes everything but the texts that `wanted` picks: a process that was killed may have left some.
    pub fn sweep(&self, wanted: impl Fn(&Digest) -> bool) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let octets = data_encoding::HEXLOWER.decode(name.as_encoded_bytes()).ok();
            let digest = octets.and_then(|octets| octets.try_into().ok()).map(Digest);
            if !digest.is_some_and(|digest| wanted(&digest)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn write(&self, digest: &Digest, text: &[u8]) -> io::Result<()> {
        let new = self.0.join(NEW_FILE);
        let mut file = files::open(&new, OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all(&protected(text))?;
        file.sync_all()?;
        fs::rename(&new, self.0.join(digest.file_name()))
    }
}

/// A file that can be one of ours, by its length.
fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    let longest = bytes_on_disk(2 * STS_POLICY_BYTES) as u64;
    let is_usual = fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() <= longest);
    if is_usual { files::read(path).ok() } else { None }
}

/// The file of a text.
fn protected(text: &[u8]) -> Vec<u8> {
    let mut parity = [0; BLOCK];
    let mut sums = Vec::with_capacity(SUM * text.len().div_ceil(BLOCK));
    for block in text.chunks(BLOCK) {
        add(&mut parity, block);
        sums.extend(crc32fast::hash(block).to_le_bytes());
    }
    [text, &parity, &sums].concat()
}

/// The text of `digest` in a file, and whether it had to be put right.
fn text_in(stored: &[u8], digest: &Digest) -> Option<(Vec<u8>, bool)> {
    let length = text_length(stored.len())?;
    let text = stored.get(..length)?;
    if Digest::of(text) == *digest {
        return Some((text.to_vec(), false));
    }
    repair(stored, length, digest).map(|text| (text, true))
}

/// How long the text in a file of so many octets is.
fn text_length(file: usize) -> Option<usize> {
    let rest = file.checked_sub(BLOCK)?;
    let length = rest.checked_sub(SUM * rest.div_ceil(BLOCK + SUM))?;
    (length + SUM * length.div_ceil(BLOCK) == rest).then_some(length)
}

/// The text of `digest`, where all but one of its blocks are right.
fn repair(stored: &[u8], length: usize, digest: &Digest) -> Option<Vec<u8>> {
    let (text, rest) = stored.split_at_checked(length)?;
    let (parity, sums) = rest.split_first_chunk::<BLOCK>()?;
    let is_wrong = |(block, sum): (&[u8], &[u8])| crc32fast::hash(block).to_le_bytes() != *sum;
    let wrong = text.chunks(BLOCK).zip(sums.chunks(SUM)).enumerate().filter(|(_, pair)| is_wrong(*pair));
    // A damaged checksum is one more suspect; more than a few mean that nothing can be put right.
    wrong.take(3).find_map(|(suspect, _)| {
        let mut whole = *parity;
        text.chunks(BLOCK).enumerate().filter(|(at, _)| *at != suspect).for_each(|(_, block)| add(&mut whole, block));
        let mut repaired = text.to_vec();
        let block = repaired.chunks_mut(BLOCK).nth(suspect)?;
        let whole = whole.get(..block.len())?;
        block.copy_from_slice(whole);
        (Digest::of(&repaired) == *digest).then_some(repaired)
    })
}

fn add(parity: &mut [u8; BLOCK], block: &[u8]) {
    parity.iter_mut().zip(block).for_each(|(sum, octet)| *sum ^= octet);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> StsPolicy {
        let line = |line: &str| {
            let (key, value) = line.split_once(':').expect("a line");
            crate::cache::entry::PolicyLine { key: key.into(), value: value.into() }
        };
        let lines: Vec<_> = text.lines().map(line).collect();
        StsPolicy { mode: crate::cache::StsMode::Enforce, max_age: 1, mx: Box::default(), lines: lines.into() }
    }

    #[test]
    fn a_text_comes_back_whatever_octet_of_its_file_is_damaged() {
        let directory = tempfile::tempdir().expect("a directory");
        let texts = Texts::of(directory.path());
        let text: String = (0..400).map(|n| format!("x{n}:{n}\n")).collect();
        let digest = Digest::of(text.as_bytes());
        texts.save([(&digest, &policy(&text))].into_iter()).expect("saved");
        let path = directory.path().join(TEXTS_DIRECTORY).join(digest.file_name());
        let stored = fs::read(&path).expect("a file");
        assert_eq!(text_length(stored.len()), Some(text.len()));
        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 0xff;
            let found = text_in(&damaged, &digest).map(|(text, _)| text);
            assert_eq!(found.as_deref(), Some(text.as_bytes()), "octet {at}");
        }
        fs::write(&path, [&[0; BLOCK / 2][..], &stored[BLOCK / 2..]].concat()).expect("written");
        assert_eq!(texts.read(&digest).as_deref(), Some(&*text), "half a block");
        assert_eq!(fs::read(&path).expect("a file"), stored, "put right on disk, too");
        for gone in [stored[..stored.len() - 1].to_vec(), vec![0; stored.len()], Vec::new()] {
            fs::write(&path, gone).expect("written");
            assert_eq!(texts.read(&digest), None, "never another text");
        }
        texts.save([(&digest, &policy(&text))].into_iter()).expect("saved");
        assert_eq!(texts.read(&digest).as_deref(), Some(&*text), "written anew over what is beyond repair");
    }

    #[test]
    fn what_nothing_refers_to_is_swept() {
        let directory = tempfile::tempdir().expect("a directory");
        let texts = Texts::of(directory.path());
        let (one, two) = (policy("a:1\n"), policy("a:2\n"));
        let digests = [Digest::of(b"a:1\n"), Digest::of(b"a:2\n")];
        texts.save([(&digests[0], &one), (&digests[1], &two)].into_iter()).expect("saved");
        fs::write(directory.path().join(TEXTS_DIRECTORY).join(NEW_FILE), "cut sho").expect("written");
        texts.sweep(|digest| *digest == digests[0]);
        assert_eq!((texts.read(&digests[0]).is_some(), texts.read(&digests[1]).is_some()), (true, false));
        assert_eq!(fs::read_dir(directory.path().join(TEXTS_DIRECTORY)).expect("listed").count(), 1);
    }

    #[test]
    fn a_length_tells_the_length_of_the_text() {
        for length in (1..5_000).chain([STS_POLICY_BYTES]) {
            assert_eq!(text_length(protected(&vec![1; length]).len()), Some(length));
        }
    }
}
