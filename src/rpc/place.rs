//! A place among the read RPCs, which a reply keeps until it has been taken.
//!
//! A reply of many megabytes is in memory until its client has read it: HTTP/2 takes a body at once and sends it as windows allow. So the place
//! goes with the reply, in its extensions as far as [`Front`](super::front::Front), and from there on with its very bytes: a client that asks and
//! does not read gets no more than there are places.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;
use tonic::codegen::http::{Extensions, Response};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Place(Arc<OwnedSemaphorePermit>);

/// Bytes and the place that they take.
struct Placed {
    bytes: Bytes,
    _place: Arc<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Place {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(permit))
    }

    /// Takes it out of the extensions of a reply.
    pub(super) fn of(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }

    /// The same bytes, which keep it until they are gone.
    pub(super) fn hold(&self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Placed { bytes, _place: Arc::clone(&self.0) })
    }
}

/// Puts the place of a reply, if it has one, into the bytes of its body.
pub(super) fn keep(mut reply: Response<Body>) -> Response<Body> {
    let Some(place) = Place::of(reply.extensions_mut()) else { return reply };
    reply.map(|body| Body::new(body.map_frame(move |frame| frame.map_data(|bytes| place.hold(bytes)))))
}
