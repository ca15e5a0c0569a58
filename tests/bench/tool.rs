//! What `run.py` measures against, and the data it measures with: one program, so that the baselines use the same RocksDB, the same tonic
//! and the same bytes as evbackup does.
//!
//! ```text
//! fill DIR COUNT SIZE                 a store of COUNT blocks of SIZE bytes, through evbackup's own loader
//! grow DIR COUNT SIZE                 adds blocks up to COUNT
//! bare-ingest DIR COUNT SIZE          the same records through a bare table writer and one ingest; prints seconds
//! bare-serve ADDR BYTES CHUNK         a tonic server that streams as many bytes from memory; prints its address, ends with its input
//! bare-fetch ADDR FILE                a tonic client that writes the chunks into a file and syncs it; prints seconds
//! chain DIR COUNT                     a store of COUNT blocks with their headers, data, signatures, index, DA heights and states
//! read-blocks DIR READS               blocks at random heights and all in a row; prints seconds: median, 99th percentile, all; and how many
//! signed-chain DIR COUNT              a store of a chain of COUNT blocks that keeps all of ev-node's rules
//! check-chain DIR                     prints the seconds that the checker takes for such a store's entries, in memory, without signatures and with
//!                                     them; those of the signature library for these signatures alone, on all cores; and the number of blocks
//! ```

use ed25519_zebra::batch::{Item, Verifier};
use ed25519_zebra::{Signature, VerificationKeyBytes};
use evbackup::base::progress::Progress;
use evbackup::base::scratch::Scratch;
use evbackup::entry::{Datastore as _, Entry, Sink as _};
use evbackup::evnode::chain::{Checker, Options as Rules, Signatures};
use evbackup::evnode::hash;
use evbackup::evnode::key::{Key, Part, TIP, height};
use evbackup::evnode::record::{Header, SignedHeader, Signer, State, Timestamp};
use evbackup::evnode::sample::Sample;
use evbackup::evnode::signature::PublicKey;
use evbackup::flow::node::{Node, held::Held};
use evbackup::proto::evnode::backup_response::Response as Payload;
use evbackup::proto::evnode::store_service_client::StoreServiceClient;
use evbackup::proto::evnode::store_service_server::{StoreService, StoreServiceServer};
use evbackup::proto::evnode::{
    BackupMetadata, BackupRequest, BackupResponse, GetBlockRequest, GetBlockResponse,
    GetGenesisDaHeightResponse, GetMetadataRequest, GetMetadataResponse, GetP2pStoreInfoResponse,
    GetStateResponse,
};
use evbackup::store::{Increment, LoadOptions, Loader, NewAbout, Store};
use rand_core::{Infallible, TryCryptoRng, TryRng};
use rocksdb::{BlockBasedOptions, DB, DBCompressionType, IngestExternalFileOptions, Options, SstFileWriter};
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["fill", dir, count, size] => fill(Path::new(dir), count.parse()?, size.parse()?),
        ["grow", dir, count, size] => grow(Path::new(dir), count.parse()?, size.parse()?),
        ["bare-ingest", dir, count, size] => {
            let took = bare_ingest(Path::new(dir), count.parse()?, size.parse()?)?;
            told(took)
        }
        ["bare-serve", addr, bytes, chunk] => {
            runtime()?.block_on(bare_serve(addr, bytes.parse()?, chunk.parse()?))
        }
        ["bare-fetch", addr, file] => {
            let took = runtime()?.block_on(bare_fetch(addr, Path::new(file)))?;
            told(took)
        }
        ["chain", dir, count] => chain(Path::new(dir), count.parse()?),
        ["read-blocks", dir, reads] => read_blocks(Path::new(dir), reads.parse()?),
        ["signed-chain", dir, count] => signed_chain(Path::new(dir), count.parse()?),
        ["check-chain", dir] => check_chain(Path::new(dir)),
        _ => Err("expected a command and its arguments; see the source".into()),
    }
}

fn told(took: Duration) -> Outcome {
    Ok(writeln!(std::io::stdout(), "{}", took.as_secs_f64())?)
}

fn runtime() -> Outcome<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

// --- data ----------------------------------------------------------------------------------------------------------------

/// The heights from 1 to `count` in the order of their decimal digits, which is the order of their keys.
fn heights(count: u64) -> impl Iterator<Item = u64> {
    let mut next = 1;
    (0..count).map(move |_| {
        let now = next;
        if next * 10 <= count {
            next *= 10;
        } else {
            if next >= count {
                next /= 10;
            }
            next += 1;
            while next % 10 == 0 {
                next /= 10;
            }
        }
        now
    })
}

/// Bytes that no codec makes smaller and that are the same each time. Values come from one pool; nothing in it comes again within what a
/// codec remembers.
struct Noise(Vec<u8>);

const POOL: usize = 64 << 20;

impl Noise {
    fn new(size: usize) -> Self {
        let mut state = 1_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_be_bytes()
        };
        Self(std::iter::repeat_with(next).take((POOL + size) / 8 + 1).flatten().collect())
    }

    fn of(&self, number: usize, size: usize) -> &[u8] {
        let from = number.wrapping_mul(size) % POOL;
        self.0.get(from..from + size).unwrap_or_default()
    }
}

/// The entries of the blocks from `first` to `last`, in key order: the data of each, the last header, the tip. A block is a version.
fn each<E: From<Box<dyn Error>>>(
    first: u64,
    last: u64,
    size: usize,
    mut take: impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let noise = Noise::new(size);
    for (number, height) in heights(last).filter(|height| *height >= first).enumerate() {
        let key = format!("/0/d/{height}");
        take(Entry {
            key: key.as_bytes(),
            version: height,
            value: noise.of(number, size),
            ..Entry::default()
        })?;
    }
    let key = format!("/0/h/{last}");
    take(Entry { key: key.as_bytes(), version: last, value: &[7; 200], ..Entry::default() })?;
    take(Entry { key: b"/0/t", version: last, value: &last.to_le_bytes(), ..Entry::default() })
}

fn fill(dir: &Path, count: u64, size: usize) -> Outcome {
    let mut loader = Loader::create(dir, LoadOptions::default())?;
    each::<Box<dyn Error>>(1, count, size, |entry| Ok(loader.put(entry)?))?;
    loader.finish_with(about(count))?;
    Ok(())
}

fn grow(dir: &Path, count: u64, size: usize) -> Outcome {
    let mut store = Store::open_for_writing(dir)?;
    let first = store.about().last_version + 1;
    let mut increment = Increment::begin(&mut store, LoadOptions::default())?;
    each::<Box<dyn Error>>(first, count, size, |entry| Ok(increment.put(entry)?))?;
    increment.finish_with(about(count))?;
    Ok(())
}

fn about(count: u64) -> NewAbout {
    NewAbout { pinned_version: count, deletes: "exact".to_owned(), ..NewAbout::default() }
}

// --- sorted-file ingest --------------------------------------------------------------------------------------------------

/// The same records, in the same order and tables of the same size, by nothing but RocksDB; the index is sorted beforehand, untimed.
fn bare_ingest(dir: &Path, count: u64, size: usize) -> Outcome<Duration> {
    std::fs::DirBuilder::new().create(dir)?;
    let mut table = BlockBasedOptions::default();
    table.set_block_size(16 << 10);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::Lz4);
    let mut index = Vec::new();
    each::<Box<dyn Error>>(1, count, size, |entry| {
        index.push((entry.version, entry.key.to_vec()));
        Ok(())
    })?;
    index.sort();

    let start = Instant::now();
    let mut tables = Tables { dir, options: &options, open: None, bytes: 0, files: Vec::new() };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    each::<Box<dyn Error>>(1, count, size, |entry| {
        key.clear();
        key.push(b'e');
        key.extend_from_slice(entry.key);
        key.extend_from_slice(&[0, 1]);
        key.extend_from_slice(&(!entry.version).to_be_bytes());
        value.clear();
        value.extend_from_slice(&[0, 0, 0]);
        value.extend_from_slice(entry.value);
        tables.put(&key, &value)
    })?;
    for (version, name) in &index {
        key.clear();
        key.push(b'v');
        key.extend_from_slice(&version.to_be_bytes());
        key.extend_from_slice(name);
        tables.put(&key, b"")?;
    }
    let files = tables.finish()?;
    let db = DB::open(&options, dir.join("db"))?;
    let mut ingest = IngestExternalFileOptions::default();
    ingest.set_move_files(true);
    db.ingest_external_file_opts(&ingest, files)?;
    drop(db);
    Ok(start.elapsed())
}

struct Tables<'a> {
    dir: &'a Path,
    options: &'a Options,
    open: Option<SstFileWriter<'a>>,
    bytes: usize,
    files: Vec<PathBuf>,
}

impl Tables<'_> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Outcome {
        if self.bytes >= 128 << 20 {
            self.close()?;
        }
        if self.open.is_none() {
            let file = self.dir.join(format!("bare-{}.sst", self.files.len()));
            let writer = SstFileWriter::create(self.options);
            writer.open(&file)?;
            self.files.push(file);
            self.open = Some(writer);
        }
        if let Some(writer) = &mut self.open {
            writer.put(key, value)?;
        }
        self.bytes += key.len() + value.len();
        Ok(())
    }

    fn close(&mut self) -> Outcome {
        if let Some(mut writer) = self.open.take() {
            writer.finish()?;
        }
        self.bytes = 0;
        Ok(())
    }

    fn finish(mut self) -> Outcome<Vec<PathBuf>> {
        self.close()?;
        Ok(self.files)
    }
}

// --- blocks ---------------------------------------------------------------------------------------------------------------

const SECOND: u64 = 1_000_000_000;

/// The header of a block: in shape and size as ev-node's, signed by nobody.
fn header(height: u64) -> Vec<u8> {
    let header = Header {
        height,
        time: 1_700_000_000 * SECOND + height * SECOND,
        last_header_hash: &[1; 32],
        data_hash: &[2; 32],
        app_hash: &[3; 32],
        proposer_address: &[4; 32],
        chain_id: "bench-1",
        ..Header::default()
    };
    let signer = Signer { address: &[4; 32], public_key: &[5; 36] };
    let mut blob = Vec::new();
    SignedHeader { header, signature: &[6; 64], signer }.encode(&mut blob);
    blob
}

fn state(height: u64) -> Vec<u8> {
    let state = State {
        chain_id: "bench-1",
        initial_height: 1,
        last_block_height: height,
        last_block_time: Some(Timestamp::from_nanos(1_700_000_000 * SECOND + height * SECOND)),
        da_height: height,
        app_hash: &[3; 32],
        last_header_hash: &[1; 32],
        next_proposer_address: &[4; 32],
        ..State::default()
    };
    let mut value = Vec::new();
    state.encode(&mut value);
    value
}

/// A store of a chain, its entries in the order of their keys. Data is 300 bytes that no codec makes smaller.
fn chain(dir: &Path, count: u64) -> Outcome {
    let noise = Noise::new(300);
    let mut loader = Loader::create(dir, LoadOptions::default())?;
    let mut put = |key: Key<'_>, version: u64, value: &[u8]| {
        loader.put(Entry { key: &key.to_bytes(), version, value, ..Entry::default() })
    };
    for height in heights(count) {
        put(Key::Signature(height), height, &[6; 64])?;
    }
    for (number, height) in heights(count).enumerate() {
        put(Key::Data(height), height, noise.of(number, 300))?;
    }
    let mut index = Vec::new();
    for height in heights(count) {
        let header = header(height);
        put(Key::Header(height), height, &header)?;
        index.push((hash::index(&header), height));
    }
    index.sort_unstable();
    for (name, height) in index {
        put(Key::Index(name), height, &height.to_le_bytes())?;
    }
    for height in heights(count) {
        for part in [Part::Data, Part::Header] {
            put(Key::DaHeight(height, part), height, &height.to_le_bytes())?;
        }
    }
    for height in heights(count) {
        put(Key::State(height), height, &state(height))?;
    }
    put(Key::Tip, count, &count.to_le_bytes())?;
    loader.finish_with(about(count))?;
    Ok(())
}

fn read_blocks(dir: &Path, reads: usize) -> Outcome {
    let progress = Progress::new();
    let node = Node::new(Held::open(dir, &evbackup::badger::ReadOptions::default())?, Scratch::system());
    let tip = node.height(&progress)?;
    let mut random = 1_u64;
    let mut took = Vec::with_capacity(reads);
    for _ in 0..reads {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let height = 1 + random % tip;
        let start = Instant::now();
        let block = node.block(height, &progress)?;
        took.push(start.elapsed());
        if block.signed_header()?.header.height != height {
            return Err("expected the block that was asked for, found another".into());
        }
    }
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).map_or(0.0, Duration::as_secs_f64);
    let (start, mut next) = (Instant::now(), 1);
    while next <= tip {
        let blocks = node.blocks(next, tip + 1, &progress)?;
        next = blocks.last().ok_or("expected blocks, found none")?.height + 1;
    }
    let all = start.elapsed().as_secs_f64();
    Ok(writeln!(std::io::stdout(), "{} {} {all} {tip}", at(50), at(99))?)
}

// --- a stream ------------------------------------------------------------------------------------------------------------

/// Streams chunks of one buffer, so that nothing but the wire is measured.
struct Bare {
    bytes: u64,
    chunk: bytes::Bytes,
}

type Replies = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<BackupResponse, Status>> + Send>>;

#[tonic::async_trait]
impl StoreService for Bare {
    type BackupStream = Replies;

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Replies>, Status> {
        let whole = self.chunk.len() as u64;
        let (chunk, bytes) = (self.chunk.clone(), self.bytes);
        let chunks = (0..bytes.div_ceil(whole)).map(move |number| {
            let left = usize::try_from(bytes - number * whole).unwrap_or(usize::MAX).min(chunk.len());
            Payload::Chunk(chunk.slice(..left))
        });
        let end = Payload::Metadata(BackupMetadata { completed: true, ..BackupMetadata::default() });
        let replies = chunks.chain([end]).map(|payload| Ok(BackupResponse { response: Some(payload) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(replies))))
    }

    async fn get_block(&self, _: Request<GetBlockRequest>) -> Result<Response<GetBlockResponse>, Status> {
        Err(Status::unimplemented("no block here"))
    }

    async fn get_state(&self, _: Request<()>) -> Result<Response<GetStateResponse>, Status> {
        Err(Status::unimplemented("no state here"))
    }

    async fn get_metadata(
        &self,
        _: Request<GetMetadataRequest>,
    ) -> Result<Response<GetMetadataResponse>, Status> {
        Err(Status::unimplemented("no metadata here"))
    }

    async fn get_genesis_da_height(
        &self,
        _: Request<()>,
    ) -> Result<Response<GetGenesisDaHeightResponse>, Status> {
        Err(Status::unimplemented("no DA height here"))
    }

    async fn get_p2p_store_info(&self, _: Request<()>) -> Result<Response<GetP2pStoreInfoResponse>, Status> {
        Err(Status::unimplemented("no peers here"))
    }
}

async fn bare_serve(addr: &str, bytes: u64, chunk: usize) -> Outcome {
    let listener = tokio::net::TcpListener::bind(addr).await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let service = StoreServiceServer::new(Bare {
        bytes,
        chunk: bytes::Bytes::from(Noise::new(chunk).0).slice(..chunk),
    });
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    let input = async {
        // A thread that waits for the end of the input; the runtime ends without it.
        let (ended, end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = ended.send(());
        });
        let _ = end.await;
    };
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, input)
        .await?;
    Ok(())
}

/// With the windows and frames that evbackup's own client asks for: HTTP/2's defaults would be no yardstick.
async fn bare_fetch(addr: &str, file: &Path) -> Outcome<Duration> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}"))?
        .initial_stream_window_size(16 << 20)
        .initial_connection_window_size(32 << 20)
        .max_frame_size(256 << 10);
    let start = Instant::now();
    let mut client = StoreServiceClient::new(endpoint.connect().await?).max_decoding_message_size(usize::MAX);
    let mut replies = client.backup(BackupRequest::default()).await?.into_inner();
    let mut file = std::fs::File::create_new(file)?;
    while let Some(reply) = replies.next().await {
        if let Some(Payload::Chunk(chunk)) = reply?.response {
            file.write_all(&chunk)?;
        }
    }
    file.sync_all()?;
    Ok(start.elapsed())
}

// --- chains --------------------------------------------------------------------------------------------------------------

/// As many signatures as the checker puts into one batch.
const BATCH: usize = 512;

fn signed_chain(dir: &Path, count: u64) -> Outcome {
    let sample = Sample::with_blocks(count);
    let mut loader = Loader::create(dir, LoadOptions::default())?;
    sample.entries().try_for_each(|entry| loader.put(entry))?;
    loader.finish_with(about(count))?;
    Ok(())
}

/// A process of its own: in the one that has made the chain, whoever comes next pays for tidying up what that has left in the heap.
fn check_chain(dir: &Path) -> Outcome {
    let row = InARow::read(dir)?;
    let structural = checked(&row, Signatures::Unverified)?.as_secs_f64();
    let whole = checked(&row, Signatures::Required)?.as_secs_f64();
    let alone = verified(&row)?.as_secs_f64();
    Ok(writeln!(std::io::stdout(), "{structural} {whole} {alone} {}", row.blocks()?)?)
}

/// Entries that stand one behind the other, as they do in the buffer of who reads a segment or a table.
struct InARow {
    bytes: Vec<u8>,
    /// Version, and the lengths of key and value.
    entries: Vec<(u64, usize, usize)>,
}

impl InARow {
    fn read(dir: &Path) -> Outcome<Self> {
        let store = Store::open(dir)?;
        let snapshot = store.snapshot()?;
        let mut source = snapshot.source(0)?;
        let (mut bytes, mut entries) = (Vec::new(), Vec::new());
        while source.advance()? {
            let entry = source.entry();
            bytes.extend_from_slice(entry.key);
            bytes.extend_from_slice(entry.value);
            entries.push((entry.version, entry.key.len(), entry.value.len()));
        }
        Ok(Self { bytes, entries })
    }

    /// As its tip says.
    fn blocks(&self) -> Outcome<u64> {
        let tip = self.entries().find(|entry| entry.key == TIP).ok_or("expected a tip")?;
        height(tip.value).ok_or_else(|| "expected a height as tip".into())
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut rest = &self.bytes[..];
        self.entries.iter().map(move |(version, key_len, value_len)| {
            let (key, behind) = rest.split_at(*key_len);
            let (value, behind) = behind.split_at(*value_len);
            rest = behind;
            Entry { key, version: *version, value, ..Entry::default() }
        })
    }
}

fn checked(row: &InARow, signatures: Signatures) -> Outcome<Duration> {
    let began = Instant::now();
    let mut checker = Checker::new(Rules { signatures, ..Rules::default() });
    for entry in row.entries() {
        checker.feed(&entry)?;
    }
    let report = checker.finish()?;
    let took = began.elapsed();
    let blocks = row.blocks()?;
    if !report.ok() || report.blocks != blocks {
        return Err(format!("expected {blocks} sound blocks, found {:?}", report.findings).into());
    }
    Ok(took)
}

/// The signatures of all headers, through the library alone.
fn verified(row: &InARow) -> Outcome<Duration> {
    let mut signed = Vec::new();
    for entry in row.entries().filter(|entry| matches!(Key::parse(entry.key), Key::Header(_))) {
        let header = SignedHeader::decode(entry.value)?;
        let mut payload = Vec::new();
        header.header.encode(&mut payload);
        let PublicKey::Ed25519(key) = PublicKey::parse(header.signer.public_key)? else {
            return Err("expected Ed25519 keys".into());
        };
        signed.push((VerificationKeyBytes::from(key), Signature::from_slice(header.signature)?, payload));
    }
    let batches: Vec<_> = signed.chunks(BATCH).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let began = Instant::now();
    std::thread::scope(|threads| {
        for seed in 1..=std::thread::available_parallelism().map_or(1, usize::from) {
            let (batches, next, failed) = (&batches, &next, &failed);
            threads.spawn(move || {
                let mut coefficients = Coefficients(seed as u64);
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut all = Verifier::new();
                    batch.iter().for_each(|(key, signature, payload)| {
                        all.queue(Item::from((*key, *signature, payload)))
                    });
                    failed.fetch_add(usize::from(all.verify(&mut coefficients).is_err()), Ordering::Relaxed);
                }
            });
        }
    });
    let took = began.elapsed();
    if failed.into_inner() > 0 { Err("expected signatures that hold".into()) } else { Ok(took) }
}

/// Coefficients of a batch: here nobody wants to deceive.
struct Coefficients(u64);

impl TryRng for Coefficients {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|bits| (bits >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Ok(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for part in bytes.chunks_mut(8) {
            let bits = self.try_next_u64()?.to_le_bytes();
            part.copy_from_slice(bits.get(..part.len()).unwrap_or_default());
        }
        Ok(())
    }
}

impl TryCryptoRng for Coefficients {}
