//! The decision table: one row for each thing recovery can come upon.

/// Everything recovery can come upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// The last batch is whole and nothing follows.
    End,
    /// Something that is no whole batch follows the last one. `beyond`: so does a batch that was written
    /// only after it was synced. `lost`: a part of it never reached the card.
    Unreadable { beyond: bool, lost: bool },
    /// A segment breaks off before the place where a later one says it ends.
    CutShort,
    /// A segment the log needs is not there.
    SegmentMissing,
    /// An entry or a header does not follow what comes before it.
    IndexJump,
    /// The image's position is in the log.
    ImageInLog,
    /// The log ends before the image (rule 5).
    ImageAhead,
    /// The log has another term at the image's index: its entries there were never committed.
    ImageOtherTerm,
    /// Another cluster or node wrote a file.
    OtherIdentity,
    /// Two lives of this node that exclude each other (rule 12).
    OtherStart,
    /// A newer release wrote a file.
    NewerFormat,
}

/// What recovery does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ruling {
    Clean,
    Torn,
    PossiblyAcknowledged,
    /// The log's base becomes the image's position; its later entries stay.
    KeepAfterImage,
    /// The same, and no entry stays.
    ResetToImage,
    Corrupt,
    Gap,
    Foreign,
    OlderIncarnation,
    NewerFormat,
}

/// The decision table.
pub(super) const fn judge(finding: Finding) -> Ruling {
    match finding {
        Finding::End => Ruling::Clean,
        Finding::Unreadable { beyond: true, lost: true | false } | Finding::CutShort => Ruling::Corrupt,
        Finding::Unreadable { beyond: false, lost: true } => Ruling::Torn,
        Finding::Unreadable { beyond: false, lost: false } => Ruling::PossiblyAcknowledged,
        Finding::SegmentMissing | Finding::IndexJump => Ruling::Gap,
        Finding::ImageInLog => Ruling::KeepAfterImage,
        Finding::ImageAhead | Finding::ImageOtherTerm => Ruling::ResetToImage,
        Finding::OtherIdentity => Ruling::Foreign,
        Finding::OtherStart => Ruling::OlderIncarnation,
        Finding::NewerFormat => Ruling::NewerFormat,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row; `tests/table.rs` has a folder for each.
    #[test]
    fn the_decision_table() {
        let unreadable = |beyond, lost| Finding::Unreadable { beyond, lost };
        let rows = [
            (Finding::End, Ruling::Clean),
            (unreadable(false, true), Ruling::Torn),
            (unreadable(false, false), Ruling::PossiblyAcknowledged),
            (unreadable(true, false), Ruling::Corrupt),
            (unreadable(true, true), Ruling::Corrupt),
            (Finding::CutShort, Ruling::Corrupt),
            (Finding::SegmentMissing, Ruling::Gap),
            (Finding::IndexJump, Ruling::Gap),
            (Finding::ImageInLog, Ruling::KeepAfterImage),
            (Finding::ImageAhead, Ruling::ResetToImage),
            (Finding::ImageOtherTerm, Ruling::ResetToImage),
            (Finding::OtherIdentity, Ruling::Foreign),
            (Finding::OtherStart, Ruling::OlderIncarnation),
            (Finding::NewerFormat, Ruling::NewerFormat),
        ];
        for (finding, ruling) in rows {
            assert_eq!(judge(finding), ruling, "{finding:?}");
        }
    }
}
