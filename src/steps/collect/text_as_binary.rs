//! A socket on which text frames arrive as binary ones.
//!
//! Exchanges have sent invalid UTF-8 in a text frame. A strict client must answer that with close code 1007
//! and loses its session, and on some of them its place for a minute or more. The WebSocket library cannot be
//! told to be lenient about text, but it does not look into binary frames; so this stream changes the opcode
//! of incoming text frames from 1 to 2 on their way to the library, and the codec judges the bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Follows the bytes that a server sends: the head of its HTTP answer, then frames (RFC 6455 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing is changed: the bytes are not ours to read (TLS).
    Off,
    /// In the HTTP head; so many characters of the blank line that ends it were seen.
    Head(usize),
    /// Before a frame's first byte.
    Opcode,
    /// Before its second.
    Length,
    /// In the extended length: bytes left, and the value so far.
    LongLength { left: u8, value: u64, masked: bool },
    /// In the mask and payload.
    Payload(u64),
}

/// See the module.
#[derive(Debug)]
pub(super) struct TextAsBinary<S> {
    inner: S,
    at: At,
}

impl<S> TextAsBinary<S> {
    /// Wraps a fresh connection; `plain`: what comes over it is WebSocket and not TLS.
    pub(super) fn new(inner: S, plain: bool) -> Self {
        Self { inner, at: if plain { At::Head(0) } else { At::Off } }
    }
}

impl At {
    fn pass(mut self, bytes: &mut [u8]) -> Self {
        const BLANK_LINE: &[u8] = b"\r\n\r\n";
        let mut n = 0;
        while n < bytes.len() {
            self = match self {
                Self::Off => return self,
                Self::Head(seen) => {
                    let byte = bytes[n];
                    n += 1;
                    if byte == BLANK_LINE[seen] {
                        if seen + 1 == BLANK_LINE.len() { Self::Opcode } else { Self::Head(seen + 1) }
                    } else {
                        Self::Head(usize::from(byte == BLANK_LINE[0]))
                    }
                }
                Self::Opcode => {
                    if bytes[n] & 0x0f == 1 {
                        bytes[n] = (bytes[n] & 0xf0) | 2;
                    }
                    n += 1;
                    Self::Length
                }
                Self::Length => {
                    let masked = bytes[n] & 0x80 != 0;
                    let short = bytes[n] & 0x7f;
                    n += 1;
                    match short {
                        126 => Self::LongLength { left: 2, value: 0, masked },
                        127 => Self::LongLength { left: 8, value: 0, masked },
                        length => Self::payload(u64::from(length), masked),
                    }
                }
                Self::LongLength { left, value, masked } => {
                    let value = (value << 8) | u64::from(bytes[n]);
                    n += 1;
                    if left == 1 {
                        Self::payload(value, masked)
                    } else {
                        Self::LongLength { left: left - 1, value, masked }
                    }
                }
                Self::Payload(left) => {
                    let here = left.min((bytes.len() - n) as u64);
                    n += here as usize;
                    if here == left { Self::Opcode } else { Self::Payload(left - here) }
                }
            };
        }
        self
    }

    fn payload(length: u64, masked: bool) -> Self {
        match length.saturating_add(if masked { 4 } else { 0 }) {
            0 => Self::Opcode,
            length => Self::Payload(length),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TextAsBinary<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.at = self.at.pass(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TextAsBinary<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An unmasked frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            n @ 0..=125 => bytes.push(n as u8),
            n @ 126..=0xffff => {
                bytes.push(126);
                bytes.extend_from_slice(&(n as u16).to_be_bytes());
            }
            n => {
                bytes.push(127);
                bytes.extend_from_slice(&(n as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    proptest! {
        #[test]
        fn only_the_opcode_of_text_frames_changes_wherever_reads_are_cut(
            frames in proptest::collection::vec((prop::sample::select(vec![0x81u8, 0x01, 0x80, 0x82, 0x89, 0x8a]), 0usize..70_000), 1..5),
            cuts in proptest::collection::vec(1usize..4000, 1..20),
        ) {
            let head = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\r\n\r\n".to_vec();
            let (mut sent, mut expected) = (head.clone(), head);
            for (first, size) in frames {
                // A payload that looks like frame heads.
                let payload = vec![0x81; size];
                sent.extend(frame(first, &payload));
                expected.extend(frame(if first & 0x0f == 1 { (first & 0xf0) | 2 } else { first }, &payload));
            }
            let mut at = At::Head(0);
            let (mut rest, mut cut) = (&mut sent[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at_mut((*cut.next().expect("endless")).min(rest.len()));
                at = at.pass(now);
                rest = later;
            }
            prop_assert!(sent == expected);
            prop_assert_eq!(at, At::Opcode);
        }
    }

    #[test]
    fn other_streams_are_left_alone() {
        let mut bytes = b"\r\n\r\n\x81\x01x".to_vec();
        let before = bytes.clone();
        At::Off.pass(&mut bytes);
        assert_eq!(bytes, before);
    }
}
