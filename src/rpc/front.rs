//! What stands between HTTP and the RPCs: which protocol a request speaks, gRPC over HTTP/1.1, and no web pages.
//!
//! | a request's content type                | goes                                     |
//! |-----------------------------------------|------------------------------------------|
//! | `application/grpc…`                     | to the service                           |
//! | `application/grpc-web…`                 | through tonic-web                        |
//! | `application/proto`, `application/json` | through [`connect`]                      |
//! | anything else                           | nowhere: 404, 405 or 415, as with a node |
//!
//! A path that no service has goes to [`nowhere`].
//!
//! The proposal's client is Go's default one, which speaks HTTP/1.1 to `http://` addresses. The status of a gRPC reply then is in the
//! trailers of a chunked body, and those are only sent if a `Trailer` header has named them.
//!
//! With HTTP/1.1 come browsers: a page can be made to look as if it came from this port (DNS rebinding) and would be
//! handed the datastore. Browsers say `Origin` with every POST and nothing else does, so such requests are refused.

use super::connect::{self, Form};
use super::place;
use super::status::{HINT, REASON, to_status};
use crate::error::Error;
use bytes::Bytes;
use std::convert::Infallible;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, ORIGIN, TRAILER};
use tonic::codegen::http::{HeaderMap, Request, Response, Version};
use tonic::codegen::{Body as HttpBody, Service, StdError};
use tonic::server::NamedService;
use tonic::service::{AxumBody, LayerExt as _, Layered};
use tonic_web::{GrpcWebLayer, GrpcWebService};

/// Headers that browsers send by themselves and that pages cannot leave out.
const BROWSER: [HeaderName; 2] = [ORIGIN, HeaderName::from_static("sec-fetch-site")];

/// What the content types of gRPC begin with, those of gRPC-Web among them.
const GRPC: &[u8] = b"application/grpc";
/// What the content types of gRPC-Web begin with.
const WEB: &[u8] = b"application/grpc-web";

fn speaks(headers: &HeaderMap, protocol: &[u8]) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(protocol))
}

/// The answer to a path that no service has.
pub(crate) async fn nowhere(request: Request<AxumBody>) -> Response<Body> {
    let (path, headers) = (request.uri().path(), request.headers());
    if !speaks(headers, GRPC) {
        return connect::nowhere(path);
    }
    let mut reply = Status::unimplemented(format!("no procedure {path}")).into_http();
    if let Some(web) = headers.get(CONTENT_TYPE).filter(|_| speaks(headers, WEB)) {
        reply.headers_mut().insert(CONTENT_TYPE, web.clone());
    }
    reply
}

/// A gRPC service behind it.
#[derive(Clone, Debug)]
pub(crate) struct Front<S> {
    grpc: S,
    web: Layered<GrpcWebService<S>, S>,
}

impl<S: Clone> Front<S> {
    pub(crate) fn new(grpc: S) -> Self {
        Self { web: GrpcWebLayer::new().named_layer(grpc.clone()), grpc }
    }
}

impl<S: NamedService> NamedService for Front<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<Body>> for Front<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + Display,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.grpc.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let headers = request.headers();
        let form = Form::of(headers);
        if BROWSER.iter().any(|name| headers.contains_key(name)) {
            let status = to_status(&Error::denied("expected a client for backups, found a web browser"));
            let refusal = if speaks(headers, GRPC) { status.into_http() } else { connect::refusal(&status) };
            return Box::pin(std::future::ready(Ok(refusal)));
        }
        if let Some(form) = form {
            let grpc = self.grpc.clone();
            return Box::pin(async move { Ok(place::keep(connect::answer(grpc, request, form).await)) });
        }
        if !speaks(headers, GRPC) {
            return Box::pin(std::future::ready(Ok(connect::unspoken(&request))));
        }
        if speaks(headers, WEB) {
            let reply = self.web.call(request);
            return Box::pin(async move { reply.await.map(place::keep) });
        }
        let old = request.version() < Version::HTTP_2;
        let reply = self.grpc.call(request);
        Box::pin(async move {
            let mut reply = place::keep(reply.await?.map(Body::new));
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
