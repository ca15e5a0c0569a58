//! What the checker is told beforehand.

use crate::base::progress::Progress;
use crate::base::scratch::Scratch;
use crate::error::{Error, Result};
use crate::evnode::hash::Hash;
use crate::evnode::record::Timestamp;
use serde::Deserialize;

/// How to check a chain. The default fits one state of a datastore of a chain whose blocks are signed by ev-node itself.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How sure the upper end is.
    pub head: Head,
    /// What the entries are, at their lower end.
    pub begins: Begins,
    /// The chain has switched away from a based sequencer, which may break the link of headers once.
    pub was_based: bool,
    /// What is known of signatures.
    pub signatures: Signatures,
    /// The chain's genesis.
    pub genesis: Option<Genesis>,
    /// What the execution layer says of one block.
    pub execution_layer: Option<ExecutionLayer>,
    /// A block and the hash of its header that the operator knows to be right.
    pub trusted: Option<(u64, Hash)>,
    /// Cores for signatures; 0: all.
    pub threads: usize,
    /// Where it may put what does not fit in memory, about 600 bytes for each block; else where the system has its temporary files.
    pub scratch: Option<Scratch>,
    /// Asked in the course of the work whether the caller still wants it.
    pub progress: Option<Progress>,
}

impl Options {
    /// Fails once the caller has gone.
    pub(super) fn check(&self) -> Result<()> {
        self.progress.as_ref().map_or(Ok(()), Progress::check)
    }
}

/// What is known of signatures, and what is done about them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Signatures {
    /// Every block has one, over ev-node's default payload.
    #[default]
    Required,
    /// Blocks of a based sequencer have none; where there is one it must hold.
    Optional,
    /// The app signs bytes of its own (the Cosmos bridge does): they must be there and cannot be verified.
    OtherPayload,
    /// They must be there and are not verified: everything else takes a tenth of the time.
    Unverified,
}

impl Signatures {
    /// Every choice.
    pub const ALL: [Self; 4] = [Self::Required, Self::Optional, Self::OtherPayload, Self::Unverified];

    /// As in `signatures=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Optional => "optional",
            Self::OtherPayload => "other-payload",
            Self::Unverified => "unverified",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(|one| format!("\"{}\"", one.name())).join(", ");
            Error::invalid(format!(
                "expected one of {names} for signatures, found \"{}\"",
                name.escape_debug()
            ))
        })
    }
}

/// What the entries are, at their lower end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Begins {
    /// With the first block that is not pruned.
    #[default]
    Whole,
    /// They are an increment alone: what is below its lowest header is elsewhere.
    Part,
    /// Nobody says: where the first blocks are missing it is taken for an increment, with a warning.
    Unknown,
}

/// What the entries are, at their upper end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Head {
    /// One state of a datastore: everything up to the tip must be there.
    #[default]
    Exact,
    /// A stream that may be torn above the height announced by its first metadata.
    Announced(u64),
    /// A stream of which nobody knows what was announced. What ends its families at different heights is taken for a tear.
    Unknown,
}

/// The chain's genesis, as far as blocks can be held against it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Genesis {
    /// The chain's name.
    pub chain_id: String,
    /// The time of the first block.
    pub start_time: Timestamp,
    /// The height of the first block.
    pub initial_height: u64,
    /// Who makes blocks.
    pub proposer_address: Vec<u8>,
    /// Where the chain starts on DA.
    pub da_start_height: u64,
}

impl Genesis {
    /// Reads `genesis.json`.
    ///
    /// ```
    /// use evbackup::evnode::chain::Genesis;
    ///
    /// let json = br#"{"chain_id": "x", "start_time": "2023-11-14T22:13:20.123456789Z", "initial_height": 1,
    ///                 "proposer_address": "AQI=", "da_start_height": 7}"#;
    /// let genesis = Genesis::from_json(json)?;
    /// assert_eq!((genesis.start_time.seconds, genesis.proposer_address), (1_700_000_000, vec![1, 2]));
    /// # Ok::<(), evbackup::error::Error>(())
    /// ```
    pub fn from_json(json: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Json {
            chain_id: String,
            start_time: String,
            initial_height: u64,
            #[serde(default)]
            proposer_address: Option<String>,
            #[serde(default)]
            da_start_height: u64,
        }
        let damaged = |found: String| Error::damaged(format!("expected an ev-node genesis, found {found}"));
        let json: Json = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
        let start: jiff::Timestamp = json
            .start_time
            .parse()
            .map_err(|_| damaged(format!("start time {}", json.start_time.escape_debug())))?;
        let address = json.proposer_address.unwrap_or_default();
        let proposer_address = data_encoding::BASE64
            .decode(address.as_bytes())
            .map_err(|_| damaged(format!("proposer address {}", address.escape_debug())))?;
        let nanos = start.as_nanosecond();
        let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
        let nanos = i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
        Ok(Self {
            chain_id: json.chain_id,
            start_time: Timestamp { seconds, nanos },
            initial_height: json.initial_height,
            proposer_address,
            da_start_height: json.da_start_height,
        })
    }
}

/// What the execution layer says of one block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExecutionLayer {
    /// The block.
    pub height: u64,
    /// Its Unix seconds.
    pub timestamp: Option<u64>,
    /// The state after it.
    pub state_root: Option<Hash>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_genesis_is_refused() {
        let text = |json: &str| Genesis::from_json(json.as_bytes()).unwrap_err().to_string();
        assert!(text("{").starts_with("expected an ev-node genesis, found"));
        let json = |time: &str, address: &str| {
            format!(
                r#"{{"chain_id":"x","start_time":"{time}","initial_height":1,"proposer_address":"{address}"}}"#
            )
        };
        assert!(text(&json("yesterday", "")).ends_with("found start time yesterday"));
        assert!(text(&json("2023-11-14T22:13:20Z", "!")).ends_with("found proposer address !"));
        let old = Genesis::from_json(json("1969-12-31T23:59:59.5Z", "").as_bytes()).unwrap();
        assert_eq!(old.start_time, Timestamp { seconds: -1, nanos: 500_000_000 });
    }
}
