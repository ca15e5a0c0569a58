//! Which releases wrote a database. Upgrades leave everything in place, so a database bears the marks of several: rules go by
//! key, and the newest mark says what the node was last.
//!
//! | generation | tags             | mark                                                              |
//! |------------|------------------|-------------------------------------------------------------------|
//! | before 1.0 | v0.x             | `/0/b/…`, `/0/r/…`, `/0/ec/…`, `/1/…`: not supported              |
//! | A          | beta.1 and 2     | `/0/s`                                                            |
//! | B          | beta.3 to 8      | states per height; headers with legacy fields                     |
//! | C          | beta.9 to rc.1   | the index by the hash of the header blob; a go-header store       |
//! | D          | rc.2 to rc.4     | the same without a go-header store                                |
//! | E          | rc.5 to v1.1.4   | `pending_header`, pruning marks, `__snap`                         |
//! | F          | v1.2.0 and later | `State.next_proposer_address`                                     |

use super::key::{Key, Mark};

/// Releases that write alike.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Generation {
    /// v0.x: other keys, other records.
    PreRelease,
    /// v1.0.0-beta.1 and 2.
    A,
    /// v1.0.0-beta.3 to 8.
    B,
    /// v1.0.0-beta.9 to rc.1.
    C,
    /// v1.0.0-rc.2 to rc.4.
    D,
    /// v1.0.0-rc.5 to v1.1.4.
    E,
    /// v1.2.0 and later.
    F,
}

impl Generation {
    /// The releases.
    pub fn tags(self) -> &'static str {
        match self {
            Self::PreRelease => "v0.x",
            Self::A => "v1.0.0-beta.1 to beta.2",
            Self::B => "v1.0.0-beta.3 to beta.8",
            Self::C => "v1.0.0-beta.9 to rc.1",
            Self::D => "v1.0.0-rc.2 to rc.4",
            Self::E => "v1.0.0-rc.5 to v1.1.4",
            Self::F => "v1.2.0 or later",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        use Generation::{A, B, C, D, E, F, PreRelease};
        [PreRelease, A, B, C, D, E, F].into_iter().find(|one| one.name() == name)
    }

    /// Its letter in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreRelease => "v0",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
            Self::E => "E",
            Self::F => "F",
        }
    }
}

/// The marks that were seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "a mark is there or not, each for itself")]
pub struct Marks {
    /// Keys of v0.x.
    pub pre_release: bool,
    /// `/0/s`.
    pub newest_state: bool,
    /// `/0/s/<n>`.
    pub states: bool,
    /// A header with a field 5, 7 or 9.
    pub legacy_headers: bool,
    /// `/0/headerSync/…` or `/0/dataSync/…`.
    pub go_header: bool,
    /// A block that the index names by its blob.
    pub blob_index: bool,
    /// `pending_header`, `lst-prnd-…`, `__snap`.
    pub pending: bool,
    /// A state with a next proposer.
    pub next_proposer: bool,
}

impl Marks {
    /// Looks at a key.
    pub fn see(&mut self, key: &Key<'_>) {
        match key {
            Key::PreRelease(_) => self.pre_release |= key.is_ev_nodes(),
            Key::NewestState => self.newest_state = true,
            Key::State(_) => self.states = true,
            Key::Sync(..) => self.go_header = true,
            Key::Pending(_) | Key::CacheSnapshot(_) | Key::Mark(Mark::PrunedBlocks | Mark::PrunedStates) => {
                self.pending = true;
            }
            _ => {}
        }
    }

    /// The newest generation of which there is a mark. A follower of rc.5 or later leaves none before v1.2.0 and counts as D.
    pub fn newest(&self) -> Option<Generation> {
        let marks = [
            (self.next_proposer, Generation::F),
            (self.pending, Generation::E),
            (self.blob_index && !self.go_header, Generation::D),
            (self.blob_index || (self.go_header && !self.legacy_headers && self.states), Generation::C),
            (self.states, Generation::B),
            (self.newest_state, Generation::A),
            (self.pre_release, Generation::PreRelease),
        ];
        marks.into_iter().find(|(seen, _)| *seen).map(|(_, generation)| generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_mark_says_the_generation() {
        let seen = |keys: &[&[u8]], change: fn(&mut Marks)| {
            let mut marks = Marks::default();
            for key in keys {
                marks.see(&Key::parse(key));
            }
            change(&mut marks);
            marks.newest().map(Generation::name)
        };
        let nothing: fn(&mut Marks) = |_| {};
        assert_eq!(Generation::from_name("E"), Some(Generation::E));
        assert_eq!(seen(&[b"/0/h/1", b"/x"], nothing), None);
        assert_eq!(seen(&[b"/0/b/1"], nothing), Some("v0"));
        assert_eq!(seen(&[b"/0/s"], nothing), Some("A"));
        assert_eq!(
            seen(&[b"/0/s", b"/0/s/3", b"/0/headerSync/1"], |marks| marks.legacy_headers = true),
            Some("B")
        );
        assert_eq!(seen(&[b"/0/s/3", b"/0/headerSync/1"], |marks| marks.blob_index = true), Some("C"));
        assert_eq!(seen(&[b"/0/s/3"], |marks| marks.blob_index = true), Some("D"));
        assert_eq!(seen(&[b"/0/s/3", b"/0/m/pending_header"], |marks| marks.blob_index = true), Some("E"));
        assert_eq!(seen(&[b"/0/s/3", b"/0/m/lst-prnd-b"], |marks| marks.next_proposer = true), Some("F"));
    }
}
