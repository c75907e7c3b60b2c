//! The bytes of one frame.

/// Bytes before the payload.
pub(crate) const HEADER: usize = 16;
/// Largest payload.
pub(crate) const MAX_PAYLOAD: usize = 16 << 20;
/// How far beyond the expected number a frame found by [`resync`] may be: what repeated repairs can have
/// taken out.
const FURTHEST: u64 = 1 << 26;

/// What stands at the start of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A frame of `size` bytes.
    Whole { number: u64, size: usize },
    /// The beginning of what may be a frame of this many bytes.
    Incomplete { needed: usize },
    /// Certainly no frame.
    Bad,
}

/// Appends a frame; `fill` writes the payload.
pub(crate) fn encode(out: &mut Vec<u8>, number: u64, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&number.to_le_bytes());
    fill(out);
    // A payload beyond MAX_PAYLOAD is refused by the writer before it reaches a file, so the length fits.
    let length = (out.len() - start - 8) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&out[start..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Looks at the start of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let Some(length) = word(bytes, 0) else { return Parsed::Incomplete { needed: HEADER } };
    let length = length as usize;
    if !(8..=MAX_PAYLOAD + 8).contains(&length) {
        return Parsed::Bad;
    }
    let size = length + 8;
    let Some(frame) = bytes.get(..size) else { return Parsed::Incomplete { needed: size } };
    if word(frame, 4) != Some(checksum(frame)) {
        return Parsed::Bad;
    }
    Parsed::Whole { number: number(frame).unwrap_or(0), size }
}

/// The number in a frame's header, if the header is there.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?))
}

/// The first position from `from` on where a whole frame stands whose number is `least` or a bit more.
pub(crate) fn resync(bytes: &[u8], from: usize, least: u64) -> Option<(usize, u64)> {
    let plausible = least..=least.saturating_add(FURTHEST);
    (from..bytes.len().saturating_sub(HEADER - 1)).find_map(|at| {
        // The number is looked at first: it refuses nearly every position without computing a checksum.
        number(&bytes[at..]).filter(|n| plausible.contains(n))?;
        match parse(&bytes[at..]) {
            Parsed::Whole { number, .. } => Some((at, number)),
            _ => None,
        }
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..4]);
    hasher.update(&frame[8..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(number: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, number, |out| out.extend_from_slice(payload));
        out
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_a_missing_byte_never_passes(number: u64, payload: Vec<u8>, bit: prop::sample::Index, cut: prop::sample::Index) {
            let whole = frame(number, &payload);
            prop_assert_eq!(parse(&whole), Parsed::Whole { number, size: whole.len() });
            let mut bad = whole.clone();
            let bit = bit.index(whole.len() * 8);
            bad[bit / 8] ^= 1 << (bit % 8);
            let passed = matches!(parse(&bad), Parsed::Whole { .. });
            prop_assert!(!passed);
            let short = &whole[..cut.index(whole.len())];
            let incomplete = matches!(parse(short), Parsed::Incomplete { .. });
            prop_assert!(incomplete);
        }

        #[test]
        fn any_bytes_parse_without_panic(bytes: Vec<u8>, from in 0usize..64) {
            parse(&bytes);
            resync(&bytes, from, 0);
        }
    }

    #[test]
    fn resync_finds_the_next_plausible_frame() {
        let mut bytes = vec![0xff; 37];
        bytes.extend(frame(3, b"older"));
        let wanted = bytes.len();
        bytes.extend(frame(9, b"wanted"));
        assert_eq!(resync(&bytes, 0, 7), Some((wanted, 9)));
        assert_eq!(resync(&bytes, 0, 10), None);
        assert_eq!(resync(&[0; 500], 0, 0), None);
    }
}
