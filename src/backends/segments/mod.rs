//! Numbered frames in segment files: the ground that the spool and the embedded log stand on.
//!
//! A folder holds `{first number, 20 digits}.seg` files. A file is a row of frames
//!
//! ```text
//! length u32 | CRC-32 u32 | number u64 | payload        little-endian; the length counts number and payload,
//!                                                        the CRC covers everything but itself
//! ```
//!
//! Rules, in the order in which they matter:
//!
//! 1. Numbers rise. A number that somebody may have seen is never given to another frame.
//! 2. A file is sealed (synced) before its successor is created; only the newest file grows.
//! 3. Opening cuts a torn tail, and takes damaged stretches out of the files it examines. Every byte taken
//!    out goes to
//!    `aside/` first. Frames after a damaged stretch are found again by looking for the next frame whose CRC and number fit.
//! 4. Sealed files are not examined on opening (a day can be gigabytes): a reader that meets damage in one
//!    leaves
//!    `{name}.damaged` beside it, and the next opening examines that file too.
//! 5. After a cut the next frames go to a new file: its name is what remembers, across crashes, which numbers
//!    are spent.

pub(crate) mod folder;
mod frame;
mod reader;
mod recover;
mod window;
mod writer;

pub(crate) use reader::{Hints, Reader, Take};
pub(crate) use writer::{Disk, Options, RealDisk, Writer};
