//! Clients' bytes, whole and in pieces.

use super::{PREFACE, Walker};
use proptest::collection::vec;
use proptest::prelude::*;

/// What etcdctl 3.4.23 says for `--endpoints=http://127.0.0.1:23790 endpoint status`: settings, the head of
/// the call with Huffman-coded values, an empty message.
const ETCDCTL: &str = "505249202a20485454502f322e300d0a0d0a534d0d0a0d0a\
    000000040000000000000000040100000000\
    0000770104000000018386459760a924882d9dcb6571afa066a925a87510ac6e48d36a3f\
    41909d29aee30c044eae05c0b86e09975f07\
    5f8b1d75d0620d263d4c4d65647a8b9acac8b4c7602bb2caecff40027465864d833505b11f40899acac8b24d494f6a7f86\
    0befbe11356f408d25062d495875996ee5b1063d5f03332e34\
    0000050001000000010000000000";

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// What becomes of it, read in pieces of these lengths, over and over.
fn walked(said: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut walker = Walker::new();
    let mut walked = said.to_vec();
    let mut rest = &mut walked[..];
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(usize::MAX, |length| *length).min(rest.len());
        let (piece, behind) = rest.split_at_mut(length);
        walker.walk(piece);
        rest = behind;
    }
    walked
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let [high, middle, low] = [length >> 16, (length >> 8) & 0xff, length & 0xff];
    let head = [high, middle, low].map(|byte| u8::try_from(byte).unwrap());
    [&head[..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// These fields in one HEADERS frame, and what is left of them.
fn fields(fields: &[u8]) -> Vec<u8> {
    let said = [&PREFACE[..], &frame(1, 4, fields)].concat();
    walked(&said, &[]).split_off(PREFACE.len() + 9)
}

#[test]
fn the_url_of_etcdctl_becomes_letters() {
    let said = bytes_of(ETCDCTL);
    let at = said.windows(2).position(|pair| pair == [0x41, 0x90]).unwrap();
    let mut expected = said.clone();
    expected[at + 1] = 16;
    expected[at + 2..at + 18].fill(b'a');
    assert_eq!(walked(&said, &[]), expected);
    assert_eq!(walked(&said, &[1]), expected);
}

#[test]
fn every_form_of_a_field_is_followed() {
    // Into the table, not into it, never into any; the name by index, spelled out, and Huffman-coded.
    assert_eq!(fields(b"\x41\x03x:/"), b"\x41\x03aaa");
    assert_eq!(fields(b"\x01\x83x:/"), b"\x01\x03aaa");
    assert_eq!(fields(b"\x11\x03x:/\x82\xbe\x3f\x00\x41\x01#"), b"\x11\x03aaa\x82\xbe\x3f\x00\x41\x01a");
    assert_eq!(fields(b"\x40\x0a:authority\x03x:/"), b"\x40\x0a:authority\x03aaa");
    let huffman = b"\x00\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x81x";
    assert_eq!(fields(huffman), b"\x00\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x01a");
    // Integers that do not fit their first byte.
    let long = [&b"\x44\x7f\x49"[..], &[b'/'; 200], b"\x41\xff\x00", &[b'#'; 127]].concat();
    let letters = [&b"\x44\x7f\x49"[..], &[b'/'; 200], b"\x41\x7f\x00", &[b'a'; 127]].concat();
    assert_eq!(fields(&long), letters);
}

#[test]
fn everything_else_stays_as_it_was() {
    for same in [
        // Empty values; other names, by index and spelled out, that are longer, shorter, or coded otherwise.
        &b"\x41\x00\x41\x80"[..],
        b"\x44\x03x:/\x02\x83x:/\x7f\x00\x03x:/",
        b"\x00\x0b:authority2\x01#\x00\x09:authorit\x01#\x00\x0a:Authority\x01#\x00\x00\x01#",
        b"\x00\x8a:authority\x01#\x00\x08\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x01#",
        // An integer without an end; whole fields by index, of which 1 is the empty authority.
        b"\x7f\xff\xff\xff\xff\x00\x41\x01#",
        b"\x81\x82",
    ] {
        assert_eq!(fields(same), same);
    }
    let http1 = b"PUT /v3 HTTP/1.1\r\n\x00\x00\x04\x01\x04\x00\x00\x00\x01\x41\x02#!";
    assert_eq!(walked(http1, &[]), http1);
    let nearly = [&PREFACE[..23], b"\r", &frame(1, 4, b"\x41\x01#")].concat();
    assert_eq!(walked(&nearly, &[]), nearly);
}

#[test]
fn a_block_goes_on_over_frames_and_padding() {
    let prioritized = [&b"\x03"[..], &[0x41; 5], b"\x82\x41", &[0x41; 3]].concat();
    let said = [
        &PREFACE[..],
        &frame(0, 0, b"\x41\x02##"),
        &frame(1, 0x28, &prioritized),
        &frame(9, 0, b""),
        &frame(9, 0, b"\x82#"),
        &frame(9, 4, b"#\x00\x01x\x01y"),
        &frame(200, 0, b"\x41\x02##"),
        &frame(1, 0xc, b"\x02\x41\x01##\x41"),
        &frame(1, 4, b"\x41\x01#"),
    ]
    .concat();
    let expected = [
        &PREFACE[..],
        &frame(0, 0, b"\x41\x02##"),
        &frame(1, 0x28, &prioritized),
        &frame(9, 0, b""),
        &frame(9, 0, b"\x02a"),
        &frame(9, 4, b"a\x00\x01x\x01y"),
        &frame(200, 0, b"\x41\x02##"),
        &frame(1, 0xc, b"\x02\x41\x01a#\x41"),
        &frame(1, 4, b"\x41\x01a"),
    ]
    .concat();
    assert_eq!(walked(&said, &[]), expected);
    assert_eq!(walked(&said, &[1]), expected);
}

#[test]
fn behind_what_is_malformed_nothing_is_touched() {
    let broken: [&[&[u8]]; 8] = [
        &[&frame(9, 4, b"")],
        &[&frame(5, 4, b"\0\0\0\x02")],
        &[&frame(1, 0, b""), &frame(0, 0, b"")],
        &[&frame(1, 0, b""), &frame(1, 4, b"")],
        &[&frame(1, 4, b"\x41\x02")],
        &[&frame(1, 0xc, b"\x02\x82")],
        &[&frame(1, 0xc, b"")],
        &[&frame(1, 0x24, b"\0\0\0\0")],
    ];
    let head = frame(1, 4, b"\x41\x01#");
    for frames in broken {
        let said = [PREFACE, &frames.concat()[..], &head].concat();
        assert_eq!(walked(&said, &[]), said, "{frames:?}");
    }
}

/// Frames as clients send them, with fields that are whole in most.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        (0x80_u8..).prop_map(|index| vec![index]),
        (prop_oneof![Just(0x41), Just(0x01), Just(0x11), 0_u8..0x80], vec(any::<u8>(), 0..300)).prop_map(
            |(head, value)| {
                let length = value.len();
                let length = match u8::try_from(length) {
                    Ok(length @ ..127) => vec![0x80 | length],
                    _ if length < 255 => vec![0xff, u8::try_from(length - 127).unwrap()],
                    _ => vec![0x7f, u8::try_from((length - 127) & 0x7f).unwrap() | 0x80, 1],
                };
                [&[head], &length[..], &value].concat()
            }
        ),
        vec(any::<u8>(), 0..4),
    ];
    let block = (vec(field, 0..6), any::<prop::sample::Index>()).prop_map(|(fields, cut)| {
        let block = fields.concat();
        let (first, second) = block.split_at(cut.index(block.len() + 1));
        [frame(1, 0, first), frame(9, 4, second)].concat()
    });
    let other = (any::<u8>(), any::<u8>(), vec(any::<u8>(), 0..60));
    let other = other.prop_map(|(kind, flags, payload)| frame(kind, flags, &payload));
    vec(prop_oneof![4 => block, 1 => other], 0..6).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn reads_may_end_anywhere(frames in frames(), lengths in vec(1_usize..40, 1..20)) {
        let said = [&PREFACE[..], &frames].concat();
        let whole = walked(&said, &[]);
        prop_assert_eq!(whole.len(), said.len());
        prop_assert_eq!(&walked(&said, &lengths), &whole);
        prop_assert_eq!(&walked(&said, &[1]), &whole);
        // Letters become letters.
        prop_assert_eq!(&walked(&whole, &[]), &whole);
    }

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..2_000), preface: bool) {
        let said = [if preface { &PREFACE[..] } else { &[] }, &bytes].concat();
        let whole = walked(&said, &[]);
        prop_assert_eq!(&walked(&said, &[7, 1, 90]), &whole);
        prop_assert!(preface || whole == said);
    }
}
