//! Frames and headers, whatever is in them.

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::spool::format::{
    FORMAT_VERSION, FRAME_HEADER, FrameHead, FrameInfo, Position, SEGMENT_HEADER, SegmentHeader, encode_frame, frame_span,
};
use crate::spool::scan::scan;

fn heads() -> impl Strategy<Value = FrameHead> {
    (any::<u128>(), any::<u8>(), any::<u16>(), any::<u32>(), any::<i64>()).prop_map(|(batch, kind, version, rows, written_at)| FrameHead {
        batch: Uuid::from_u128(batch),
        kind,
        version,
        rows,
        written_at,
    })
}

proptest! {
    #[test]
    fn a_frame_reads_back_as_it_was_written(head in heads(), payload in prop::collection::vec(any::<u8>(), 1..300), segment: u64, place in 14u64..1000) {
        let at = Position { segment, offset: place * 8 };
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, at, SEGMENT_HEADER, &head, &payload);
        prop_assert_eq!(bytes.len() as u64, frame_span(payload.len()));
        let info = FrameInfo::decode(&bytes, at.offset).unwrap();
        prop_assert_eq!((info.head, info.length, info.group), (head, payload.len(), SEGMENT_HEADER));
        prop_assert!(info.is_whole(segment, at.offset, &bytes[FRAME_HEADER..][..payload.len()]));
        // At another place it is none.
        prop_assert!(!info.is_whole(segment, at.offset + 8, &payload) && !info.is_whole(segment ^ 1, at.offset, &payload));
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed(head in heads(), payload in prop::collection::vec(any::<u8>(), 1..100), bit: prop::sample::Index) {
        let at = Position { segment: 7, offset: SEGMENT_HEADER };
        let mut bytes = Vec::new();
        encode_frame(&mut bytes, at, SEGMENT_HEADER, &head, &payload);
        let bit = bit.index((FRAME_HEADER + payload.len()) * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let whole = FrameInfo::decode(&bytes, at.offset).is_some_and(|info| {
            bytes.get(FRAME_HEADER..FRAME_HEADER + info.length).is_some_and(|payload| info.is_whole(7, at.offset, payload))
        });
        prop_assert!(!whole);
    }

    #[test]
    fn a_header_reads_back_and_a_spoilt_one_does_not(table in "[a-z0-9_]{1,63}", number: u64, prior_end in prop::option::of(1u64..), created_at: i64, bit in 0usize..104 * 8) {
        let header = SegmentHeader { table, number, prior_end, created_at };
        let mut bytes = header.encode();
        prop_assert_eq!(SegmentHeader::decode(&bytes).unwrap(), Some(header));
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(SegmentHeader::decode(&bytes).unwrap(), None);
    }

    #[test]
    fn whatever_a_segment_holds_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), acknowledged in prop::option::of(0u64..3000)) {
        let found = scan(&bytes, Position { segment: 1, offset: SEGMENT_HEADER }, acknowledged);
        prop_assert!(found.frames.is_empty());
        let _ = SegmentHeader::decode(&bytes);
        let _ = crate::spool::cursor::read(&bytes);
    }

    #[test]
    fn a_payload_that_looks_like_frames_is_none(count in 1usize..4) {
        // The bytes of a segment as the payload of a frame that was damaged: none of them is taken for a frame.
        let mut inner = vec![0; SEGMENT_HEADER as usize];
        for n in 0..count {
            let at = Position { segment: 1, offset: inner.len() as u64 };
            encode_frame(&mut inner, at, at.offset, &frame(9, "smuggled").head, format!("smuggled {n}").as_bytes());
        }
        let mut bytes = vec![0; SEGMENT_HEADER as usize];
        let at = |bytes: &Vec<u8>| Position { segment: 1, offset: bytes.len() as u64 };
        let place = at(&bytes);
        encode_frame(&mut bytes, place, place.offset, &frame(1, "").head, &inner);
        let place = at(&bytes);
        encode_frame(&mut bytes, place, place.offset, &frame(2, "").head, b"behind");
        bytes[SEGMENT_HEADER as usize + 1] ^= 1;
        let found = scan(&bytes, Position { segment: 1, offset: SEGMENT_HEADER }, None);
        prop_assert_eq!(found.frames.len(), 1);
        prop_assert_eq!(found.frames[0].1.head.batch, Uuid::from_u128(2));
        prop_assert_eq!(found.lost.len(), 1);
    }
}

#[test]
fn a_newer_format_is_refused() {
    let mut bytes = SegmentHeader { table: "signal".into(), number: 1, prior_end: None, created_at: 0 }.encode();
    bytes[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..104]);
    bytes[104..108].copy_from_slice(&crc.to_le_bytes());
    let error = SegmentHeader::decode(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("format version 2"), "{error}");
}
