//! Frames on a stream.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::MAX_FRAME;

/// Bytes reserved before a frame's bytes have come: a peer that claims much and sends nothing costs nothing.
const RESERVED: usize = 64 << 10;

/// A frame with its length; `None` if it would be too large.
pub(super) fn encode(message: &impl Serialize) -> Result<Vec<u8>, String> {
    let frame = postcard::to_extend(message, vec![0; 4])
        .map_err(|e| format!("the message cannot be encoded: {e}"))?;
    encode_length(frame)
}

fn encode_length(mut frame: Vec<u8>) -> Result<Vec<u8>, String> {
    let length = frame.len() - 4;
    if length > MAX_FRAME {
        return Err(format!("{length} bytes are more than the {MAX_FRAME} that pass at once"));
    }
    // MAX_FRAME is far below 4 GiB.
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}

/// Reads one message; `None` at an orderly end of the stream.
pub(super) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(garbage(format!("a frame of {length} bytes is announced; {MAX_FRAME} are allowed")));
    }
    let mut bytes = Vec::with_capacity(length.min(RESERVED));
    stream.take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match postcard::take_from_bytes(&bytes) {
        Ok((message, [])) => Ok(Some(message)),
        Ok((_, rest)) => Err(garbage(format!("a frame has {} bytes too many", rest.len()))),
        Err(error) => Err(garbage(format!("a frame makes no sense: {error}"))),
    }
}

fn garbage(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::protocol::{Call, Request};
    use super::*;

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe(bytes: Vec<u8>) {
            let mut framed = (bytes.len() as u32).to_be_bytes().to_vec();
            framed.extend(&bytes);
            // Either is fine; what matters is that nothing panics and nothing is reserved for claims.
            drop(block(read::<Call>(&mut framed.as_slice())));
            drop(block(read::<Call>(&mut bytes.as_slice())));
        }
    }

    #[test]
    fn messages_pass_and_bad_frames_are_told() {
        let call = Call { id: 7, request: Request::Topic { topic: "t".into() } };
        let bytes = encode(&call).expect("small");
        assert_eq!(block(read::<Call>(&mut bytes.as_slice())).expect("reads"), Some(call));
        assert_eq!(block(read::<Call>(&mut &[][..])).expect("the end"), None);
        for cut in 1..bytes.len() {
            assert!(block(read::<Call>(&mut &bytes[..cut])).is_err());
        }
        let huge = (MAX_FRAME as u32 + 1).to_be_bytes();
        assert!(
            block(read::<Call>(&mut &huge[..])).expect_err("too large").to_string().contains("announced")
        );
        assert!(encode(&vec![0u8; MAX_FRAME + 1]).is_err());
    }
}
