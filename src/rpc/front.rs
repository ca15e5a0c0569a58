//! What stands between HTTP and the RPC: gRPC over HTTP/1.1, and no web pages.
//!
//! The proposal's client is Go's default one, which speaks HTTP/1.1 to `http://` addresses. The status of a gRPC reply then is in the
//! trailers of a chunked body, and those are only sent if a `Trailer` header has named them.
//!
//! With HTTP/1.1 come browsers: a page can be made to look as if it came from this port (DNS rebinding) and would be
//! handed the datastore. Browsers say `Origin` with every POST and nothing else does, so such requests are refused.

use super::status::{HINT, REASON, to_status};
use crate::error::Error;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::header::{HeaderName, HeaderValue, ORIGIN, TRAILER};
use tonic::codegen::http::{Request, Response, Version};
use tonic::server::NamedService;

/// Headers that browsers send by themselves and that pages cannot leave out.
const BROWSER: [HeaderName; 2] = [ORIGIN, HeaderName::from_static("sec-fetch-site")];

/// A gRPC service behind it.
#[derive(Clone, Debug)]
pub(crate) struct Front<S>(pub(crate) S);

impl<S: NamedService> NamedService for Front<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if BROWSER.iter().any(|name| request.headers().contains_key(name)) {
            let error = Error::denied("expected a client for backups, found a web browser");
            return Box::pin(std::future::ready(Ok(to_status(&error).into_http())));
        }
        let old = request.version() < Version::HTTP_2;
        let reply = self.0.call(request);
        Box::pin(async move {
            let mut reply = reply.await?;
            if old {
                let named = [REASON, HINT]
                    .into_iter()
                    .fold("grpc-status, grpc-message".to_owned(), |all, name| all + ", " + name);
                // Our own names are good header values.
                if let Ok(named) = HeaderValue::try_from(named) {
                    reply.headers_mut().insert(TRAILER, named);
                }
            }
            Ok(reply)
        })
    }
}
