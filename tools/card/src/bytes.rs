//! Sizes as people write them: `8MiB`, `10MB/s`, `4096`.

/// Units by their suffix; the longer spelling stands first, so that `MiB` is not taken for `B`.
const UNITS: [(&str, u64); 10] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("k", 1 << 10),
    ("M", 1 << 20),
    ("B", 1),
];

/// Bytes from text such as `1GiB`, `10MB/s` or `4096`; a rate's `/s` is ignored.
///
/// # Errors
/// A sentence for a person, when the text is no size or does not fit 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let plain = text.trim().trim_end_matches("/s").trim();
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| plain.strip_suffix(suffix).map(|rest| (rest.trim_end(), *unit)))
        .unwrap_or((plain, 1));
    let count: u64 =
        digits.parse().map_err(|_| format!("`{text}` is not a size; write 4096, 8MiB or 10MB/s"))?;
    count.checked_mul(unit).ok_or_else(|| format!("`{text}` is too large"))
}

/// The shortest exact spelling: `8MiB`, `10MB`, `4097B`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    const SHOWN: [(&str, u64); 6] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    SHOWN
        .iter()
        .find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(|| format!("{bytes}B"), |(suffix, unit)| format!("{}{suffix}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        assert_eq!(parse_bytes("4096"), Ok(4096));
        assert_eq!(parse_bytes("8MiB"), Ok(8 << 20));
        assert_eq!(parse_bytes("10MB/s"), Ok(10_000_000));
        assert_eq!(parse_bytes(" 1 GiB "), Ok(1 << 30));
        assert_eq!(parse_bytes("0"), Ok(0));
        assert!(parse_bytes("ten").is_err());
        assert!(parse_bytes("-1").is_err());
        assert!(parse_bytes("99999999999GiB").is_err());
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for bytes in [0, 1, 1_000, 1024, 4097, 10_000_000, 8 << 20, 1 << 30, u64::MAX] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
    }
}
