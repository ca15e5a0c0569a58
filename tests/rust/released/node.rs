use evbackup::evnode::sample::Sample;
use evbackup::evnode::{key::Key, record::State};
use evbackup::proto::evnode::get_block_request::Identifier;
use evbackup::proto::evnode::store_service_server::{StoreService, StoreServiceServer};
use evbackup::proto::evnode::{
    BackupRequest, BackupResponse, Block, GetBlockRequest, GetBlockResponse, GetGenesisDaHeightResponse,
    GetMetadataRequest, GetMetadataResponse, GetP2pStoreInfoResponse, GetStateResponse, State as WireState,
    Version,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

/// A question that a node is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Asked {
    /// `GetBlock` of a height.
    Block(u64),
    /// `GetState`.
    State,
    /// `GetMetadata` of a name.
    Metadata(String),
}

/// What stands in the way of an answer.
pub(super) type Trouble = Box<dyn FnMut(&mut World, &Asked) -> Result<(), Status> + Send>;
/// What becomes of a block on its way.
pub(super) type Mangler = Box<dyn FnMut(u64, &mut Vec<u8>, &mut Vec<u8>) + Send>;

/// What a node holds.
pub(super) struct World {
    pub(super) sample: Sample,
    pub(super) asked: Vec<Asked>,
    trouble: Option<Trouble>,
    mangler: Option<Mangler>,
    /// Names do not lead out of the metadata.
    pub(super) fixed: bool,
}

/// A node with a released ev-node's read RPCs and no Backup RPC, which does as it is told.
#[derive(Clone)]
pub(super) struct Node(Arc<Mutex<World>>);

impl Node {
    pub(super) fn new(sample: Sample) -> Self {
        Self(Arc::new(Mutex::new(World {
            sample,
            asked: Vec::new(),
            trouble: None,
            mangler: None,
            fixed: false,
        })))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `trouble` is asked before every answer.
    pub(super) fn troubled(
        self,
        trouble: impl FnMut(&mut World, &Asked) -> Result<(), Status> + Send + 'static,
    ) -> Self {
        self.world().trouble = Some(Box::new(trouble));
        self
    }

    pub(super) fn untroubled(&self) {
        let mut world = self.world();
        (world.trouble, world.mangler) = (None, None);
    }

    /// Blocks pass through `mangler`: height, header, data.
    pub(super) fn mangled(
        self,
        mangler: impl FnMut(u64, &mut Vec<u8>, &mut Vec<u8>) + Send + 'static,
    ) -> Self {
        self.world().mangler = Some(Box::new(mangler));
        self
    }

    pub(super) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = StoreServiceServer::new(self.clone()).max_encoding_message_size(usize::MAX);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        address
    }

    fn hear(&self, asked: &Asked) -> Result<MutexGuard<'_, World>, Status> {
        let mut world = self.world();
        world.asked.push(asked.clone());
        if let Some(mut trouble) = world.trouble.take() {
            let heard = trouble(&mut world, asked);
            world.trouble.get_or_insert(trouble);
            heard?;
        }
        Ok(world)
    }
}

impl World {
    pub(super) fn tip(&self) -> u64 {
        let tip = self.sample.value(b"/0/t").and_then(|value| value.try_into().ok());
        tip.map_or(0, u64::from_le_bytes)
    }

    fn value(&self, key: &Key<'_>) -> Option<Vec<u8>> {
        self.sample.value(&key.to_bytes()).map(<[u8]>::to_vec)
    }

    /// `ds.NewKey` of a name below `/0/m`, with Go's `path.Clean`.
    fn metadata(&self, name: &str) -> Option<Vec<u8>> {
        let mut parts = vec!["m"];
        for part in name.split('/') {
            match part {
                "" | "." => {}
                ".." if self.fixed => return None,
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        self.sample.value(format!("/0/{}", parts.join("/")).as_bytes()).map(<[u8]>::to_vec)
    }

    fn da_height(&self, height: u64, part: &str) -> u64 {
        let value = self.metadata(&format!("rhb/{height}/{part}"));
        value.and_then(|value| value.try_into().ok()).map_or(0, u64::from_le_bytes)
    }
}

#[tonic::async_trait]
impl StoreService for Node {
    type BackupStream = tokio_stream::Empty<Result<BackupResponse, Status>>;

    async fn get_block(
        &self,
        request: Request<GetBlockRequest>,
    ) -> Result<Response<GetBlockResponse>, Status> {
        let Some(Identifier::Height(height)) = request.into_inner().identifier else {
            return Err(Status::invalid_argument("no height"));
        };
        let mut world = self.hear(&Asked::Block(height))?;
        let height = if height == 0 { world.tip() } else { height };
        let missing = || Status::internal("failed to retrieve block data: datastore: key not found");
        let mut header = world.value(&Key::Header(height)).ok_or_else(missing)?;
        let mut data = world.value(&Key::Data(height)).ok_or_else(missing)?;
        if let Some(mangler) = &mut world.mangler {
            mangler(height, &mut header, &mut data);
        }
        Ok(Response::new(GetBlockResponse {
            block: Some(Block { header: Some(header.into()), data: Some(data.into()) }),
            header_da_height: world.da_height(height, "h"),
            data_da_height: world.da_height(height, "d"),
        }))
    }

    async fn get_state(&self, _: Request<()>) -> Result<Response<GetStateResponse>, Status> {
        let world = self.hear(&Asked::State)?;
        let value = world.value(&Key::State(world.tip())).ok_or_else(|| Status::not_found("no state"))?;
        let state = State::decode(&value).unwrap();
        let time = state.last_block_time.unwrap_or_default();
        Ok(Response::new(GetStateResponse {
            state: Some(WireState {
                version: Some(Version { block: state.version.block, app: state.version.app }),
                chain_id: state.chain_id.to_owned(),
                initial_height: state.initial_height,
                last_block_height: state.last_block_height,
                last_block_time: Some(evbackup::proto::Timestamp {
                    seconds: time.seconds,
                    nanos: time.nanos,
                }),
                da_height: state.da_height,
                app_hash: state.app_hash.to_vec(),
                last_header_hash: Vec::new(),
                next_proposer_address: state.next_proposer_address.to_vec(),
            }),
        }))
    }

    async fn get_metadata(
        &self,
        request: Request<GetMetadataRequest>,
    ) -> Result<Response<GetMetadataResponse>, Status> {
        let name = request.into_inner().key;
        let world = self.hear(&Asked::Metadata(name.clone()))?;
        let value = world.metadata(&name).ok_or_else(|| Status::not_found("datastore: key not found"))?;
        Ok(Response::new(GetMetadataResponse { value: value.into() }))
    }

    async fn get_genesis_da_height(
        &self,
        _: Request<()>,
    ) -> Result<Response<GetGenesisDaHeightResponse>, Status> {
        Err(Status::not_found("no height"))
    }

    async fn get_p2p_store_info(&self, _: Request<()>) -> Result<Response<GetP2pStoreInfoResponse>, Status> {
        Err(Status::internal("no stores"))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("404"))
    }
}
