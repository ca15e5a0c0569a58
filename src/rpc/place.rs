//! A place among the read RPCs, which a reply keeps until it has been taken.
//!
//! A reply of many megabytes is in memory until its client has read it: HTTP/2 takes a body at once and sends it as windows allow. So the place
//! goes with the reply, in its extensions as far as [`Front`](super::front::Front), which then hands the body on in pieces, each when the one
//! before was taken: a client that asks and does not read gets no more than there are places, and what it has not begun to take within the time
//! limit is given up, for others wait for the place.

use http_body_util::{BodyExt as _, Full, StreamBody};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Extensions, Response};

/// Bytes that are handed on together. Two of these wait for a client without a place.
const PIECE: usize = 64 << 10;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Place {
    limit: Duration,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Place {
    /// It is given up when the client takes nothing for so long.
    pub(super) fn new(permit: OwnedSemaphorePermit, limit: Duration) -> Self {
        Self { limit, _permit: Arc::new(permit) }
    }

    /// Takes it out of the extensions of a reply.
    pub(super) fn of(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }
}

/// Hands the body of a reply on in pieces if the reply has a place.
pub(super) fn keep(mut reply: Response<Body>) -> Response<Body> {
    let Some(place) = Place::of(reply.extensions_mut()) else { return reply };
    reply.map(|mut body| {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let limit = place.limit;
            let mut taken = true;
            while taken && let Some(frame) = body.frame().await {
                let mut data = match frame {
                    Ok(frame) => match frame.into_data() {
                        Ok(data) => data,
                        Err(trailers) => {
                            taken = hand_on(&sender, Ok(trailers), limit).await;
                            continue;
                        }
                    },
                    Err(status) => {
                        taken = hand_on(&sender, Err(status), limit).await;
                        continue;
                    }
                };
                while taken && !data.is_empty() {
                    let piece = data.split_to(data.len().min(PIECE));
                    if let Some(Ok(piece)) = Full::new(piece).frame().await {
                        taken = hand_on(&sender, Ok(piece), limit).await;
                    }
                }
            }
            drop((body, place));
            if !taken {
                let what = format!("the client took nothing of its reply for {} s", limit.as_secs());
                let _ = sender.send(Err(Status::deadline_exceeded(what))).await;
            }
        });
        Body::new(StreamBody::new(ReceiverStream::new(receiver)))
    })
}

/// False once nobody takes it, for too long or at all.
async fn hand_on<T>(sender: &mpsc::Sender<T>, frame: T, limit: Duration) -> bool {
    timeout(limit, sender.send(frame)).await.is_ok_and(|sent| sent.is_ok())
}
