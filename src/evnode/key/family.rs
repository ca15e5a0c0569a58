//! The families of keys, for counting.

/// What keys are counted under.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// `/0/t`
    Tip,
    /// `/0/h/…`
    Headers,
    /// `/0/d/…`
    Data,
    /// `/0/c/…`
    Signatures,
    /// `/0/s/…`, and `/0/s`
    States,
    /// `/0/i/…`
    Index,
    /// `/0/m/rhb/…`
    DaHeights,
    /// `/0/m/cache/…`
    Cache,
    /// Other `/0/m/…`
    Metadata,
    /// `/0/headerSync/…`, `/0/dataSync/…`
    GoHeader,
    /// `/batches/…`
    Queue,
    /// `/single/checkpoint`, `/based/checkpoint`
    Checkpoints,
    /// `/evm/…`
    ExecMeta,
    /// `/libp2p/…`
    Network,
    /// What releases before v1.0 wrote.
    PreRelease,
    /// Everything else.
    Unknown,
}

impl Family {
    /// Every family, each in the place of its number.
    pub const ALL: [Family; 16] = [
        Family::Tip,
        Family::Headers,
        Family::Data,
        Family::Signatures,
        Family::States,
        Family::Index,
        Family::DaHeights,
        Family::Cache,
        Family::Metadata,
        Family::GoHeader,
        Family::Queue,
        Family::Checkpoints,
        Family::ExecMeta,
        Family::Network,
        Family::PreRelease,
        Family::Unknown,
    ];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Family::Tip => "tip",
            Family::Headers => "headers",
            Family::Data => "data",
            Family::Signatures => "signatures",
            Family::States => "states",
            Family::Index => "index",
            Family::DaHeights => "da-heights",
            Family::Cache => "cache",
            Family::Metadata => "metadata",
            Family::GoHeader => "go-header",
            Family::Queue => "queue",
            Family::Checkpoints => "checkpoints",
            Family::ExecMeta => "execmeta",
            Family::Network => "network",
            Family::PreRelease => "pre-release",
            Family::Unknown => "unknown",
        }
    }

    /// Is it ev-node's own? A database with none of these holds no chain.
    pub fn is_main_store(self) -> bool {
        !matches!(self, Family::Network | Family::PreRelease | Family::Unknown | Family::Queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_names_of_their_own() {
        let mut names = Family::ALL.map(Family::name).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Family::ALL.len());
    }

    #[test]
    fn families_stand_in_the_places_of_their_numbers() {
        assert!(Family::ALL.into_iter().enumerate().all(|(place, family)| family as usize == place));
    }
}
