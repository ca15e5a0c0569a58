//! What is kept of each record until its neighbours are there.

use super::spool::Row;
pub(super) use crate::base::checksum::hex;
use crate::base::checksum::sha256;
use crate::evnode::hash::Hash;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Bytes of any length in a fixed width: themselves when they fit, else their SHA-256.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Short<const N: usize> {
    length: u32,
    bytes: [u8; N],
}

impl<const N: usize> Short<N> {
    const WIDTH: usize = 4 + N;

    pub(super) fn new(bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let digest;
        let kept = if bytes.len() <= N {
            bytes
        } else {
            digest = sha256(bytes);
            &digest
        };
        let mut short = Self { length, bytes: [0; N] };
        short.bytes.iter_mut().zip(kept).for_each(|(to, byte)| *to = *byte);
        short
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let kept = self.bytes.get(..self.length as usize);
        match kept {
            Some([]) => "nothing".to_owned(),
            Some(bytes) => hex(bytes),
            None => format!(
                "{} bytes with SHA-256 {}",
                self.length,
                hex(self.bytes.get(..32).unwrap_or_default())
            ),
        }
    }
}

/// Bytes of which only their being equal counts, in 64 bits that nobody can foresee: the key is a random one of this run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Print {
    length: u32,
    hash: u64,
}

impl Print {
    pub(super) const NONE: Self = Self { length: 0, hash: 0 };

    pub(super) fn new(key: &RandomState, bytes: &[u8]) -> Self {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut hasher = key.build_hasher();
        hasher.write(bytes);
        Self { length, hash: hasher.finish() }
    }

    pub(super) fn length(&self) -> u32 {
        self.length
    }
}

/// Which name of [`Names`].
pub(super) type Name = u16;

/// Short names that come again and again, such as chain ids and addresses, by number. 0 is the empty one.
#[derive(Debug)]
pub(super) struct Names {
    numbers: HashMap<Vec<u8>, Name>,
    all: Vec<Vec<u8>>,
    /// The last ones found, and which of them goes next.
    recent: [Name; 4],
    next: usize,
}

impl Names {
    /// One of more names than any chain has. It equals no name, itself neither.
    const TOO_MANY: Name = Name::MAX;
    /// A longer name counts by its SHA-256.
    const MAX_LENGTH: usize = 128;

    pub(super) fn new() -> Self {
        Self { numbers: HashMap::from([(Vec::new(), 0)]), all: vec![Vec::new()], recent: [0; 4], next: 0 }
    }

    pub(super) fn number(&mut self, name: &[u8]) -> Name {
        let digest;
        let name = if name.len() <= Self::MAX_LENGTH {
            name
        } else {
            digest = sha256(name);
            &digest
        };
        // Nearly always it is one of the last.
        let same = |number: &Name| self.all.get(usize::from(*number)).is_some_and(|known| known == name);
        if let Some(number) = self.recent.iter().copied().find(same) {
            return number;
        }
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None => match Name::try_from(self.all.len()) {
                Ok(number) if number < Self::TOO_MANY => {
                    self.numbers.insert(name.to_vec(), number);
                    self.all.push(name.to_vec());
                    number
                }
                _ => return Self::TOO_MANY,
            },
        };
        if let Some(slot) = self.recent.get_mut(self.next % 4) {
            *slot = number;
        }
        self.next = (self.next + 1) % 4;
        number
    }

    pub(super) fn name(&self, number: Name) -> &[u8] {
        self.all.get(usize::from(number)).map_or(b"(too many to keep)", Vec::as_slice)
    }

    pub(super) fn same(one: Name, other: Name) -> bool {
        one == other && one != Self::TOO_MANY
    }
}

/// Writes and reads the fields of a row, in one place.
macro_rules! row {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub(super) struct $name {
            pub(super) height: u64,
            $($(#[$field_doc])* pub(super) $field: $kind,)*
        }

        impl Row for $name {
            const WIDTH: usize = 8 $(+ <$kind as Field>::BYTES)*;
            fn height(&self) -> u64 {
                self.height
            }
            fn put(&self, to: &mut Vec<u8>) {
                self.height.put(to);
                $(self.$field.put(to);)*
            }
            fn read(mut bytes: &[u8]) -> Self {
                Self { height: u64::get(&mut bytes), $($field: <$kind as Field>::get(&mut bytes),)* }
            }
        }
    };
}

/// A field of a row. Rows are our own bytes: what is too short reads as zero.
trait Field: Sized {
    const BYTES: usize;
    fn put(&self, to: &mut Vec<u8>);
    fn get(from: &mut &[u8]) -> Self;
}

fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
    let Some((bytes, rest)) = from.split_first_chunk::<N>() else {
        return [0; N];
    };
    *from = rest;
    *bytes
}

macro_rules! number_field {
    ($($kind:ty),*) => { $(
        impl Field for $kind {
            const BYTES: usize = size_of::<$kind>();
            fn put(&self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
            fn get(from: &mut &[u8]) -> Self {
                Self::from_le_bytes(take(from))
            }
        }
    )* };
}

number_field!(u8, u16, u32, u64, i32, i64);

impl Field for Hash {
    const BYTES: usize = 32;
    fn put(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self);
    }
    fn get(from: &mut &[u8]) -> Self {
        take(from)
    }
}

impl<const N: usize> Field for Short<N> {
    const BYTES: usize = Self::WIDTH;
    fn put(&self, to: &mut Vec<u8>) {
        self.length.put(to);
        to.extend_from_slice(&self.bytes);
    }
    fn get(from: &mut &[u8]) -> Self {
        Self { length: u32::get(from), bytes: take(from) }
    }
}

impl Field for Print {
    const BYTES: usize = 12;
    fn put(&self, to: &mut Vec<u8>) {
        self.length.put(to);
        self.hash.put(to);
    }
    fn get(from: &mut &[u8]) -> Self {
        Self { length: u32::get(from), hash: u64::get(from) }
    }
}

/// The record could not be read; its other fields say nothing.
pub(super) const BROKEN: u8 = 1;
/// A header with legacy fields.
pub(super) const LEGACY: u8 = 2;
/// A header without a signer's key.
pub(super) const NO_KEY: u8 = 4;
/// A header whose key is of a kind that we do not verify.
pub(super) const OTHER_KEY: u8 = 8;
/// Data with metadata, a state with a time.
pub(super) const PRESENT: u8 = 16;
/// A header with a validator hash.
pub(super) const VALIDATORS: u8 = 32;

row! {
    /// Of a signed header.
    HeaderRow {
        version: u64,
        flags: u8,
        own_height: u64,
        time: u64,
        hash: Hash,
        last_header_hash: Short<32>,
        data_hash: Short<32>,
        app_hash: Short<32>,
        chain: Name,
        proposer: Name,
        signer: Name,
        /// The address that the signer's key has.
        key_address: Name,
        signature: Print,
    }
}

row! {
    /// The names that the index may have for a block.
    HashRow {
        flags: u8,
        blob: Hash,
        hash: Hash,
    }
}

row! {
    /// Of a block's data.
    DataRow {
        flags: u8,
        own_height: u64,
        time: u64,
        commitment: Hash,
        hash: Hash,
        last_data_hash: Short<32>,
        chain: Name,
    }
}

row! {
    /// A signature that is kept beside the header.
    SignatureRow {
        signature: Print,
    }
}

row! {
    /// Of a state.
    StateRow {
        flags: u8,
        own_height: u64,
        seconds: i64,
        nanos: i32,
        app_hash: Short<32>,
        last_header_hash: Short<32>,
        chain: Name,
        next_proposer: Name,
    }
}

row! {
    /// That there is a DA height: 0 for the header's, 1 for the data's.
    IncludedRow {
        part: u8,
    }
}

row! {
    /// A name in the index and the height it stands for.
    IndexRow {
        name: Hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back() {
        let row = StateRow {
            height: 7,
            flags: PRESENT,
            own_height: 8,
            seconds: -1,
            nanos: 5,
            app_hash: Short::new(&[9; 33]),
            last_header_hash: Short::new(b""),
            chain: 3,
            next_proposer: Name::MAX,
        };
        let mut bytes = Vec::new();
        row.put(&mut bytes);
        assert_eq!((bytes.len(), StateRow::read(&bytes)), (StateRow::WIDTH, row));
    }

    #[test]
    fn short_bytes_are_told_apart_and_in_words() {
        let short = Short::<32>::new;
        assert_ne!(short(&[0; 31]), short(&[0; 32]));
        assert_ne!(short(&[0; 33]), short(&[0; 34]));
        assert_ne!(short(&sha256(&[0; 33])), short(&[0; 33]));
        assert_eq!((short(b"").text().as_str(), short(b"ab").text().as_str()), ("nothing", "6162"));
        assert!(short(&[0; 33]).text().starts_with("33 bytes with SHA-256 7f9c9e31ac8256ca"));
    }

    #[test]
    fn prints_are_equal_when_their_bytes_are() {
        let key = RandomState::new();
        let print = |bytes: &[u8]| Print::new(&key, bytes);
        assert_eq!(print(b"ab"), print(b"ab"));
        assert!(print(b"ab") != print(b"ac") && print(&[0]) != print(&[0, 0]) && print(b"").length() == 0);
    }

    #[test]
    fn names_are_numbered_and_too_many_are_none() {
        let mut names = Names::new();
        assert_eq!(
            (names.number(b""), names.number(b"a"), names.number(b"b"), names.number(b"a")),
            (0, 1, 2, 1)
        );
        assert_eq!(names.name(2), b"b");
        assert_eq!(names.number(&[1; 200]), names.number(&[1; 200]));
        for number in 0..70_000_u32 {
            names.number(&number.to_le_bytes());
        }
        assert_eq!(names.number(b"one more"), Names::TOO_MANY);
        assert!(!Names::same(Names::TOO_MANY, Names::TOO_MANY) && Names::same(1, 1) && !Names::same(1, 2));
    }
}
