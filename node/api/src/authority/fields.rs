//! Header fields as HPACK (RFC 7541) writes them, read only as far as finding authorities asks for.
//!
//! The tables are not kept. An authority that went into the table is overwritten when it goes in; what
//! refers to it later refers to the letters. Both sides still agree on what an index means: an index
//! counts from the newest entry, and the overwritten entry is never larger than the client's own (as many
//! octets as the value has on the wire; Huffman coding is for values it makes shorter), so this side
//! drops entries no earlier than the client does.

/// The walk through one connection's header blocks.
#[derive(Debug)]
pub(super) struct Fields {
    place: Place,
}

/// What follows is no HPACK, or none that can be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Where in the fields the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between two fields.
    Field,
    /// In an integer that did not fit the byte it began in.
    Integer { counted: Counted, value: usize, shift: u32 },
    /// At a name's length.
    NameLength,
    /// In a name; `same`: it is the authority's so far.
    Name { huffman: bool, at: usize, length: usize, same: bool },
    /// At a value's length.
    ValueLength { authority: bool },
    /// In a value.
    Value { authority: bool, left: usize },
}

/// What an integer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// The index of a whole field.
    Field,
    /// The index of a name; 0: it follows.
    Name,
    /// The table's new size.
    Table,
    /// Octets of a name.
    NameOctets { huffman: bool },
    /// Octets of a value.
    ValueOctets { authority: bool },
}

impl Fields {
    pub(super) fn new() -> Fields {
        Fields { place: Place::Field }
    }

    /// Takes the next bytes of a block, and overwrites the authorities in them.
    pub(super) fn walk(&mut self, mut bytes: &mut [u8]) -> Result<(), Malformed> {
        while let Some(first) = bytes.first().copied() {
            let (place, taken) = self.step(first, bytes)?;
            self.place = place;
            bytes = bytes.get_mut(taken..).unwrap_or_default();
        }
        Ok(())
    }

    /// Nothing is begun: a block may end here.
    pub(super) fn are_whole(&self) -> bool {
        self.place == Place::Field
    }

    /// Takes at least one of `bytes`, which begin with `first`: where that leads, and how many were taken.
    fn step(&self, first: u8, bytes: &mut [u8]) -> Result<(Place, usize), Malformed> {
        match self.place {
            Place::Field => {
                let (counted, prefix) = match first.leading_zeros() {
                    0 => (Counted::Field, 0x7f),
                    1 => (Counted::Name, 0x3f),
                    2 => (Counted::Table, 0x1f),
                    // Not for the table, and not for any table ever.
                    _ => (Counted::Name, 0x0f),
                };
                Ok((begin_integer(first, prefix, counted), 1))
            }
            Place::Integer { counted, value, shift } => {
                let value = value + (usize::from(first & 0x7f) << shift);
                let shift = shift + 7;
                if first & 0x80 == 0 {
                    Ok((counted.is(value), 1))
                } else if shift < INTEGER_SHIFT_END {
                    Ok((Place::Integer { counted, value, shift }, 1))
                } else {
                    Err(Malformed)
                }
            }
            Place::NameLength => {
                let counted = Counted::NameOctets { huffman: first & HUFFMAN != 0 };
                Ok((begin_integer(first, !HUFFMAN, counted), 1))
            }
            Place::Name { huffman, at, length, same } => {
                let name = if huffman { AUTHORITY_HUFFMAN } else { AUTHORITY };
                let end = length.min(at + bytes.len());
                let taken = end - at;
                let same = same && length == name.len() && name.get(at..end) == bytes.get(..taken);
                Ok((name_at(huffman, end, length, same), taken))
            }
            Place::ValueLength { authority } => {
                if let Some(byte) = bytes.first_mut()
                    && authority
                    && first & !HUFFMAN != 0
                {
                    // The letters stand for themselves.
                    *byte = first & !HUFFMAN;
                }
                Ok((begin_integer(first, !HUFFMAN, Counted::ValueOctets { authority }), 1))
            }
            Place::Value { authority, left } => {
                let taken = left.min(bytes.len());
                if authority {
                    bytes.get_mut(..taken).unwrap_or_default().fill(LETTER);
                }
                Ok((value_at(authority, left - taken), taken))
            }
        }
    }
}

impl Counted {
    /// What stands behind the integer, now that it is known.
    fn is(self, value: usize) -> Place {
        match self {
            Counted::Field | Counted::Table => Place::Field,
            Counted::Name if value == 0 => Place::NameLength,
            Counted::Name => Place::ValueLength { authority: value == AUTHORITY_INDEX },
            Counted::NameOctets { huffman } => name_at(huffman, 0, value, true),
            Counted::ValueOctets { authority } => value_at(authority, value),
        }
    }
}

/// An integer begins in the low bits of a byte (RFC 7541, section 5.1).
fn begin_integer(byte: u8, prefix: u8, counted: Counted) -> Place {
    let value = usize::from(byte & prefix);
    if byte & prefix < prefix { counted.is(value) } else { Place::Integer { counted, value, shift: 0 } }
}

fn name_at(huffman: bool, at: usize, length: usize, same: bool) -> Place {
    if at < length {
        Place::Name { huffman, at, length, same }
    } else {
        Place::ValueLength { authority: same && length > 0 }
    }
}

fn value_at(authority: bool, left: usize) -> Place {
    if left > 0 { Place::Value { authority, left } } else { Place::Field }
}

/// Integers have at most four bytes behind their first, as the HTTP/2 library has it too: 2^28 octets are
/// more than a connection may hold.
const INTEGER_SHIFT_END: u32 = 28;

/// The bit before a string's length that says how it is coded.
const HUFFMAN: u8 = 0x80;

/// `:authority` in the static table (RFC 7541, appendix A).
const AUTHORITY_INDEX: usize = 1;

/// The name spelled out, as gRPC's C core has it.
const AUTHORITY: &[u8] = b":authority";
const AUTHORITY_HUFFMAN: &[u8] = b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f";

/// What an authority is made of.
const LETTER: u8 = b'a';
