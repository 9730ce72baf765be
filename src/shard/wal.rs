//! A write-ahead log of checksummed records over the simulated disk.
//!
//! A frame is `length: u32 | sequence: u64 | header CRC: u32 | payload CRC: u32 | payload | mark: u8`, all
//! little-endian, CRC-32C, where `sequence` counts the file's frames from zero. A lost, repeated or
//! reordered frame breaks the sequence, so a frame that is whole and out of place is damage too.
//!
//! # Torn or corrupt
//!
//! A crash may lose a suffix of the bytes that no flush covered. What it leaves is a *prefix* of what was
//! appended, possibly filled up with zeros (blocks allocated and never written). Such a tail was never
//! acknowledged to anybody: it is [`Tail::Torn`], and cut. Everything else that does not check is damage to
//! bytes that were once complete and perhaps acknowledged: it is [`Corrupt`], an error, wherever it lies.
//!
//! The two can be told apart at the very end of the file as well as in its middle. The header has its own
//! checksum, so a length that reads wrong never passes for a frame that was cut short; and a frame ends
//! with a mark that is not zero, so a frame of full length was either completed or is followed by nothing but
//! zeros. What remains indistinguishable is damage that has the very shape of a tear: acknowledged frames
//! at the end of the file cut off or overwritten with zeros. No log can detect that on its own (Alagappan et
//! al., "Protocol-Aware Recovery for Consensus-Based Storage", FAST 2018, section 3.3.2), because it is
//! what an honest disk shows when the flush had not completed. A disk that does so has lied about a flush.
//!
//! ```
//! use ordain::base::process::{Effect, Effects, FileId};
//! use ordain::shard::wal::{Tail, Wal, recover};
//!
//! let mut out = Effects::<(), ()>::default();
//! Wal::new(FileId(0)).append(&"debit", &mut out);
//! let Some(Effect::Append { bytes, .. }) = out.drain().next() else { unreachable!() };
//!
//! let whole = recover::<String>(&bytes).unwrap();
//! assert_eq!((whole.records, whole.tail), (vec!["debit".to_owned()], Tail::Clean));
//!
//! let cut = recover::<String>(&bytes[..bytes.len() - 1]).unwrap();
//! assert_eq!((cut.records, cut.tail), (vec![], Tail::Torn { cut_at: 0 }));
//! ```

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::base::process::{Effects, FileId};
use crate::base::zoo::{self, Bug};

/// Bytes before the payload.
const HEADER_BYTES: usize = 20;
/// Bytes that a frame adds to its payload.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 1;
/// Ends every frame. Not zero, and no flip of one bit makes it zero.
const MARK: u8 = 0xa5;

/// How a file ends, if all of its complete frames are sound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tail {
    /// With a complete frame, or empty.
    Clean,
    /// With the beginning of a frame that was never flushed. The valid prefix has `cut_at` bytes. Replace the
    /// file's content by it before you append.
    Torn {
        /// Length of the valid prefix in bytes.
        cut_at: usize,
    },
}

/// A frame that was once complete does not check: its record may have been acknowledged and must not be
/// dropped. The remedy lies outside the file: read it again, or restore it from another copy.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
#[error("record {sequence} is damaged at byte {at}")]
pub struct Corrupt {
    /// Where the damaged frame starts, in bytes.
    pub at: usize,
    /// The frame's place in the file, from zero.
    pub sequence: u64,
}

/// What a file holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Recovered<R> {
    /// The records in order.
    pub records: Vec<R>,
    /// How the file ends.
    pub tail: Tail,
}

/// Reads a file back.
///
/// # Errors
///
/// [`Corrupt`] where a frame is damaged in a way that a crash cannot cause (see the module), which includes
/// one that checks and does not decode as an `R`.
pub fn recover<R: DeserializeOwned>(bytes: &[u8]) -> Result<Recovered<R>, Corrupt> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let sequence = records.len() as u64;
        let corrupt = Corrupt { at, sequence };
        match read_frame(&bytes[at..], sequence) {
            Frame::Sound(payload) => {
                records.push(postcard::from_bytes(payload).map_err(|_| corrupt)?);
                at += payload.len() + OVERHEAD_BYTES;
            }
            Frame::Damaged if !zoo::planted(Bug::DamageReadAsTear) => return Err(corrupt),
            Frame::Torn | Frame::Damaged => {
                let tail = Tail::Torn { cut_at: at };
                return Ok(Recovered { records, tail });
            }
        }
    }
    let tail = Tail::Clean;
    Ok(Recovered { records, tail })
}

/// The frame of a record.
///
/// # Panics
///
/// When the record cannot be encoded, or takes 4 GiB or more: it is not made of plain data.
pub fn encode(sequence: u64, record: &impl Serialize) -> Vec<u8> {
    let placeholder = vec![0; HEADER_BYTES];
    let mut frame = postcard::to_extend(record, placeholder).expect("plain data can be encoded");
    let length = u32::try_from(frame.len() - HEADER_BYTES).expect("a record is below 4 GiB");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..12].copy_from_slice(&sequence.to_le_bytes());
    let header_crc = crc32c(&frame[..12]);
    frame[12..16].copy_from_slice(&header_crc.to_le_bytes());
    let payload_crc = crc32c(&frame[HEADER_BYTES..]);
    frame[16..20].copy_from_slice(&payload_crc.to_le_bytes());
    frame.push(MARK);
    frame
}

/// The writing end of a file: knows the next frame's place in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Wal {
    file: FileId,
    next_sequence: u64,
}

impl Wal {
    /// An empty file.
    pub fn new(file: FileId) -> Self {
        let next_sequence = 0;
        Self {
            file,
            next_sequence,
        }
    }

    /// Reads `bytes`, the file's content at boot, and takes up writing after its last record. A torn tail is
    /// cut off on disk too; that becomes durable with the next flush, and a crash before that leaves the
    /// torn file, to be cut again.
    ///
    /// # Errors
    ///
    /// As [`recover`].
    pub fn open<R: DeserializeOwned, M, T>(
        file: FileId,
        bytes: &[u8],
        out: &mut Effects<M, T>,
    ) -> Result<(Self, Recovered<R>), Corrupt> {
        let recovered = recover::<R>(bytes)?;
        if let Tail::Torn { cut_at } = recovered.tail {
            out.replace(file, bytes[..cut_at].to_vec());
        }
        let next_sequence = recovered.records.len() as u64;
        let wal = Self {
            file,
            next_sequence,
        };
        Ok((wal, recovered))
    }

    /// Appends a record. Durable once a flush asked for later completes.
    pub fn append<M, T>(&mut self, record: &impl Serialize, out: &mut Effects<M, T>) {
        out.append(self.file, encode(self.next_sequence, record));
        self.next_sequence += 1;
    }

    /// Replaces the file's content by these records, atomically: a crash leaves all of them or what was there
    /// before.
    pub fn rewrite<R: Serialize, M, T>(
        &mut self,
        records: impl IntoIterator<Item = R>,
        out: &mut Effects<M, T>,
    ) {
        self.next_sequence = 0;
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend(encode(self.next_sequence, &record));
            self.next_sequence += 1;
        }
        out.replace(self.file, bytes);
    }
}

enum Frame<'a> {
    Sound(&'a [u8]),
    Torn,
    Damaged,
}

/// Reads the frame at the start of `bytes`, which reach to the end of the file.
fn read_frame(bytes: &[u8], expected_sequence: u64) -> Frame<'_> {
    // Cut within the header: no complete frame is that short.
    if bytes.len() < HEADER_BYTES {
        return Frame::Torn;
    }
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let sequence = u64::from_le_bytes(bytes[4..12].try_into().expect("eight bytes"));
    if word(12) != crc32c(&bytes[..12]) {
        // Zeros from within the header to the end of the file.
        return torn_if(bytes[HEADER_BYTES - 1..].iter().all(|byte| *byte == 0));
    }
    if sequence != expected_sequence {
        return Frame::Damaged;
    }
    // Cut within the payload, or before the mark.
    let mark_at = HEADER_BYTES + word(0) as usize;
    if bytes.len() <= mark_at {
        return Frame::Torn;
    }
    let payload = &bytes[HEADER_BYTES..mark_at];
    let is_sound = word(16) == crc32c(payload) || zoo::planted(Bug::ChecksumIgnored);
    if bytes[mark_at] == MARK && is_sound {
        return Frame::Sound(payload);
    }
    // Zeros from within the payload, or from the mark, to the end of the file.
    torn_if(bytes[mark_at..].iter().all(|byte| *byte == 0))
}

fn torn_if(torn: bool) -> Frame<'static> {
    if torn { Frame::Torn } else { Frame::Damaged }
}

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4): finds every burst of up to 32 bits.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (crc >> 8) ^ CRC_TABLE[usize::from(crc as u8 ^ byte)]
    })
}

/// The remainder of each byte, for the reflected polynomial 0x1edc6f41.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = remainder & 1;
            remainder = (remainder >> 1) ^ (carry * 0x82f6_3b78);
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::process::Effect;
    use proptest::prelude::*;

    type Records = Vec<Vec<u8>>;

    fn file_of(records: &Records) -> Vec<u8> {
        (0..).zip(records).flat_map(|(n, r)| encode(n, r)).collect()
    }

    /// Where each frame starts, and where the last one ends.
    fn boundaries(records: &Records) -> Vec<usize> {
        let mut at = vec![0];
        for (sequence, record) in (0..).zip(records) {
            at.push(at.last().unwrap() + encode(sequence, record).len());
        }
        at
    }

    /// Records rich in zeros and ones, where a tear and a flip are easiest to confuse.
    fn some_records() -> impl Strategy<Value = Records> {
        let byte = prop_oneof![3 => Just(0u8), 1 => Just(1), 1 => Just(MARK), 2 => any::<u8>()];
        prop::collection::vec(prop::collection::vec(byte, 0..24), 1..6)
    }

    #[test]
    fn crc32c_gives_the_check_value_of_its_definition() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(records in some_records()) {
            let recovered = recover::<Vec<u8>>(&file_of(&records)).unwrap();
            prop_assert_eq!(recovered, Recovered { records, tail: Tail::Clean });
        }

        #[test]
        fn every_prefix_gives_its_complete_frames_and_where_to_cut(records in some_records()) {
            let file = file_of(&records);
            let boundaries = boundaries(&records);
            for cut in 0..=file.len() {
                let complete = boundaries.iter().filter(|at| **at <= cut).count() - 1;
                let cut_at = boundaries[complete];
                let tail = if cut == cut_at { Tail::Clean } else { Tail::Torn { cut_at } };
                let expected = Recovered { records: records[..complete].to_vec(), tail };
                prop_assert_eq!(recover::<Vec<u8>>(&file[..cut]).unwrap(), expected);
            }
        }

        #[test]
        fn every_prefix_filled_up_with_zeros_loses_no_complete_frame(
            records in some_records(),
            zeros in 1usize..80,
        ) {
            let file = file_of(&records);
            let boundaries = boundaries(&records);
            for cut in 0..=file.len() {
                // Bytes of the cut part that were zero anyway have survived.
                let mut filled = file[..cut].to_vec();
                filled.resize(cut + zeros, 0);
                let survived = filled.iter().zip(&file).take_while(|(a, b)| a == b).count();
                let complete = boundaries.iter().filter(|at| **at <= survived).count() - 1;
                let recovered = recover::<Vec<u8>>(&filled).unwrap();
                prop_assert_eq!(&recovered.records, &records[..complete]);
                prop_assert_eq!(recovered.tail, Tail::Torn { cut_at: boundaries[complete] });
            }
        }

        #[test]
        fn every_flip_of_one_bit_is_found_where_it_is_and_never_cut(records in some_records()) {
            let mut file = file_of(&records);
            let boundaries = boundaries(&records);
            for bit in 0..file.len() * 8 {
                file[bit / 8] ^= 1 << (bit % 8);
                let hit = boundaries.iter().filter(|at| **at <= bit / 8).count() - 1;
                let expected = Corrupt { at: boundaries[hit], sequence: hit as u64 };
                prop_assert_eq!(recover::<Vec<u8>>(&file), Err(expected));
                file[bit / 8] ^= 1 << (bit % 8);
            }
        }

        #[test]
        fn a_lost_repeated_or_swapped_frame_is_found(records in some_records(), at in 0usize..5) {
            let frames: Vec<Vec<u8>> = (0..).zip(&records).map(|(n, r)| encode(n, r)).collect();
            let at = at % frames.len();
            let damaged = Err(Corrupt { at: boundaries(&records)[at], sequence: at as u64 });
            if at + 1 < frames.len() {
                let mut lost = frames.clone();
                lost.remove(at);
                prop_assert_eq!(recover::<Vec<u8>>(&lost.concat()), damaged.clone());
                let mut swapped = frames.clone();
                swapped.swap(at, at + 1);
                prop_assert_eq!(recover::<Vec<u8>>(&swapped.concat()), damaged);
            }
            let mut repeated = frames.clone();
            repeated.insert(at, frames[at].clone());
            let found = recover::<Vec<u8>>(&repeated.concat()).unwrap_err();
            prop_assert_eq!(found.sequence, at as u64 + 1);
        }
    }

    #[test]
    fn a_damaged_last_frame_followed_by_a_torn_one_is_corrupt() {
        let records = vec![vec![7; 9], vec![8; 9]];
        let mut file = file_of(&records);
        let second = boundaries(&records)[1];
        file.truncate(second + 5);
        file[second - 3] ^= 4;
        assert_eq!(
            recover::<Vec<u8>>(&file),
            Err(Corrupt { at: 0, sequence: 0 })
        );
    }

    #[test]
    fn a_frame_of_another_type_is_corrupt() {
        let file = encode(0, &vec![0xffu8; 3]);
        assert_eq!(
            recover::<Option<bool>>(&file),
            Err(Corrupt { at: 0, sequence: 0 })
        );
    }

    /// Applies effects to a file, as a host does.
    fn perform(file: &mut Vec<u8>, out: &mut Effects<(), ()>) {
        for effect in out.drain() {
            match effect {
                Effect::Append { bytes, .. } => file.extend(bytes),
                Effect::Replace { bytes, .. } => *file = bytes,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_torn_file_is_cut_on_opening_and_can_be_appended_to() {
        let (mut file, mut out) = (Vec::new(), Effects::default());
        let mut wal = Wal::new(FileId(3));
        wal.append(&1u64, &mut out);
        wal.append(&2u64, &mut out);
        perform(&mut file, &mut out);
        file.pop();

        let (mut wal, recovered) = Wal::open::<u64, _, _>(FileId(3), &file, &mut out).unwrap();
        assert_eq!(recovered.records, [1]);
        wal.append(&3u64, &mut out);
        perform(&mut file, &mut out);
        assert_eq!(recover::<u64>(&file).unwrap().records, [1, 3]);

        wal.rewrite([9u64], &mut out);
        wal.append(&10u64, &mut out);
        perform(&mut file, &mut out);
        let (reopened, recovered) = Wal::open::<u64, _, _>(FileId(3), &file, &mut out).unwrap();
        assert_eq!((reopened, recovered.records), (wal, vec![9, 10]));
    }
}
