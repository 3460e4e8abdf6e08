//! A look at the card before the first start in a folder: one line for the log, before anybody is served.

use crate::recover::random;
use quorate_board::storage::Glance;
use std::path::Path;

/// Eight small syncs to a file of its own, under a second on a card that is worth a node. What a card that refuses
/// says here decides nothing: the log's own first write says it again.
pub(super) fn look(folder: &Path) {
    let glance = match Glance::at(folder, random()) {
        Ok(glance) => glance,
        Err(error) => {
            tracing::warn!(%error, "the card could not be looked at");
            return;
        }
    };
    let Glance { count, p50, longest, verdict, findings } = glance;
    tracing::info!(?p50, ?longest, "the card is {verdict}, by {count} syncs of 4 KiB");
    for finding in findings {
        tracing::warn!("the card: {finding}; what to do: {}", finding.remedy());
    }
    if !verdict.is_trusted() {
        tracing::warn!("`quorate doctor disk {}` tells more of it", folder.display());
    }
}
