//! A tar file (POSIX.1-1988 ustar), as much of it as a backup needs, so that any `tar` can look into it.

use std::io::{self, Read, Write};

/// Bytes of a block.
const BLOCK: usize = 512;
/// Longest name, and longest prefix before it.
const NAME: usize = 100;
const PREFIX: usize = 155;
/// Largest file: eleven octal digits.
const LARGEST: u64 = 0o77_777_777_777;

/// Writes a tar file.
pub(super) struct Writer<W: Write> {
    out: W,
}

fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn header(name: &str, bytes: u64, modified_s: i64) -> io::Result<[u8; BLOCK]> {
    let (prefix, short) =
        split(name).ok_or_else(|| wrong(format!("the name {name} is too long for a tar file")))?;
    if bytes > LARGEST {
        return Err(wrong(format!("{name} is larger than 8 GiB, which a tar file cannot hold")));
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, short);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{bytes:011o}\0"));
    put(136, &format!("{:011o}\0", modified_s.max(0)));
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    put(345, prefix);
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// A name as the two fields of a header.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= NAME {
        return Some(("", name));
    }
    name.match_indices('/')
        .map(|(at, _)| (&name[..at], &name[at + 1..]))
        .find(|(a, b)| a.len() <= PREFIX && b.len() <= NAME)
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes so many bytes as a file; their CRC-32.
    ///
    /// # Errors
    /// When there are fewer, the name or size does not fit, or writing fails.
    pub(super) fn file(
        &mut self,
        name: &str,
        bytes: u64,
        modified_s: i64,
        content: impl Read,
    ) -> io::Result<u32> {
        self.out.write_all(&header(name, bytes, modified_s)?)?;
        let mut sum = Summing { inner: &mut self.out, hash: crc32fast::Hasher::new() };
        let copied = io::copy(&mut content.take(bytes), &mut sum)?;
        let crc = sum.hash.finalize();
        if copied != bytes {
            return Err(wrong(format!("{name} became shorter while it was read")));
        }
        self.out.write_all(&[0; BLOCK][..padding(bytes)])?;
        Ok(crc)
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Bytes that fill the last block of a file.
fn padding(bytes: u64) -> usize {
    (BLOCK - usize::try_from(bytes % BLOCK as u64).unwrap_or(0)) % BLOCK
}

struct Summing<'a, W> {
    inner: &'a mut W,
    hash: crc32fast::Hasher,
}

impl<W: Write> Write for Summing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads a tar file from its beginning.
pub(super) struct Reader<R> {
    input: R,
    /// Bytes read so far.
    at: u64,
}

/// The head of a file in a tar file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) name: String,
    pub(super) bytes: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, at: 0 }
    }

    fn block(&mut self) -> io::Result<[u8; BLOCK]> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                wrong(format!("it ends at byte {}, before its end mark", self.at))
            }
            _ => error,
        })?;
        self.at += BLOCK as u64;
        Ok(block)
    }

    /// The next file; `None` at the end. Its content has to be [read](Self::content) before the next one.
    ///
    /// # Errors
    /// When it cannot be read, or is no tar file of ours.
    pub(super) fn next(&mut self) -> io::Result<Option<Head>> {
        let place = self.at;
        let block = self.block()?;
        if block == [0; BLOCK] {
            let second = self.block()?;
            return if second == [0; BLOCK] {
                Ok(None)
            } else {
                Err(wrong(format!("its end mark at byte {place} is damaged")))
            };
        }
        let head =
            parse(&block).ok_or_else(|| wrong(format!("the head of a file at byte {place} is damaged")))?;
        Ok(Some(head))
    }

    /// Copies the content of a file; its CRC-32.
    ///
    /// # Errors
    /// When it is cut off, what fills its last block is damaged, or `to` cannot be written.
    pub(super) fn content(&mut self, head: &Head, to: &mut impl Write) -> io::Result<u32> {
        let mut sum = Summing { inner: to, hash: crc32fast::Hasher::new() };
        let copied = io::copy(&mut (&mut self.input).take(head.bytes), &mut sum)?;
        let crc = sum.hash.finalize();
        self.at += copied;
        let mut rest = vec![0; padding(head.bytes)];
        let cut = |_| wrong(format!("it is cut off inside of {}", head.name));
        if copied != head.bytes {
            return Err(wrong(format!("it is cut off inside of {}", head.name)));
        }
        self.input.read_exact(&mut rest).map_err(cut)?;
        self.at += rest.len() as u64;
        if rest.iter().any(|b| *b != 0) {
            return Err(wrong(format!("what follows {} is damaged", head.name)));
        }
        Ok(crc)
    }
}

fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).ok()
}

fn octal(field: &[u8]) -> Option<u64> {
    u64::from_str_radix(text(field)?.trim(), 8).ok()
}

fn parse(block: &[u8; BLOCK]) -> Option<Head> {
    let sum: u64 = block
        .iter()
        .enumerate()
        .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) })
        .sum();
    if octal(&block[148..156])? != sum || block[257..262] != *b"ustar" || block[156] != b'0' {
        return None;
    }
    let (name, prefix) = (text(&block[..NAME])?, text(&block[345..345 + PREFIX])?);
    let name = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
    Some(Head { name, bytes: octal(&block[124..136])? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_any_tar_reads_it() {
        let long = format!("spool/{}/{}/00000000000000000001.seg", "d".repeat(63), "s".repeat(63));
        let mut writer = Writer::new(Vec::new());
        let files = [
            ("a", b"one".to_vec()),
            ("empty", vec![]),
            (long.as_str(), vec![7; 1024]),
            ("b/c", vec![1; 513]),
        ];
        for (name, content) in &files {
            writer.file(name, content.len() as u64, 1_700_000_000, content.as_slice()).expect("written");
        }
        let bytes = writer.finish().expect("finished");
        let mut reader = Reader::new(bytes.as_slice());
        for (name, content) in &files {
            let head = reader.next().expect("readable").expect("a file");
            let mut read = Vec::new();
            let crc = reader.content(&head, &mut read).expect("whole");
            assert_eq!((head.name.as_str(), &read, crc), (*name, content, crc32fast::hash(content)));
        }
        assert_eq!(reader.next().expect("readable"), None);
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("x.tar"), &bytes).expect("written");
        let listed = std::process::Command::new("tar")
            .arg("-tf")
            .arg(folder.path().join("x.tar"))
            .output()
            .expect("there is a tar");
        assert_eq!(
            String::from_utf8_lossy(&listed.stdout).lines().collect::<Vec<_>>(),
            files.map(|(name, _)| name.to_owned())
        );
        let mut writer = Writer::new(Vec::new());
        assert!(
            writer
                .file("short", 10, 0, b"123".as_slice())
                .expect_err("shorter")
                .to_string()
                .contains("became shorter")
        );
        assert!(
            writer
                .file(&"x".repeat(300), 0, 0, b"".as_slice())
                .expect_err("too long")
                .to_string()
                .contains("too long")
        );
    }
}
