//! Leaves out the entries that the reader's filter hides.

use std::sync::Arc;

use super::state::{ChannelReader, Peeked};
use crate::{
    cursor::FilterHash,
    hub::{entry_run::EntryRun, read_options::ReadOptions},
};

impl ChannelReader {
    /// The filter that its positions are valid for.
    pub(in crate::hub) fn filter_hash(&self) -> Option<FilterHash> {
        self.options().and_then(ReadOptions::filter_hash)
    }

    /// What is left of a run that was peeked; one of which nothing is left is skipped.
    pub(super) fn filter(&mut self, run: Arc<EntryRun>) -> Peeked {
        if self.is_filtered() {
            return Peeked::Run(run);
        }
        let Some(filter) = self.options().and_then(|options| options.filter.as_ref()) else {
            return Peeked::Run(run);
        };
        match run.kept_by(filter) {
            Some(kept) => Peeked::Run(kept),
            None => {
                let entries = run.encoded_entries().len();
                self.advance(&run);
                Peeked::Skipped { entries }
            }
        }
    }
}
