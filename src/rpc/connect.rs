//! Connect's unary calls, put to the gRPC service and answered in Connect's way: a node's RPC port speaks it, and so does `curl`.
//!
//! |          | Connect                                                            | gRPC                                        |
//! |----------|--------------------------------------------------------------------|---------------------------------------------|
//! | question | POST of `application/proto` or `application/json`: the message     | a frame: 0, its length (u32 be), the message |
//! | answer   | 200 and the message                                                | a frame, `grpc-status: 0` in the trailers   |
//! | refusal  | a status of HTTP and `{"code": …, "message": …}`                   | `grpc-status`, `grpc-message`               |
//! | nowhere  | 404, as a node's router says                                       | `grpc-status: 12`                           |
//! | deadline | `connect-timeout-ms`                                               | `grpc-timeout`                              |
//!
//! JSON is protobuf's mapping: 64-bit numbers and bytes (base64) are texts. Connect's streams, and compressed questions, are refused in
//! Connect's own words: a backup is for gRPC.
//!
//! Source: the Connect protocol's reference, "Unary RPCs" and "Error codes".

use super::place::Place;
use super::status::{HINT, REASON};
use crate::proto::REFLECTION;
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor,
};
use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;
use tonic::body::Body;
use tonic::codegen::http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TE,
};
use tonic::codegen::http::request::Parts;
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tonic::codegen::{Body as HttpBody, Service, StdError};
use tonic::{Code, Status};

/// A question holds a height, a hash or a name: gRPC's default limit is plenty.
const MAX_QUESTION: usize = 4 << 20;
/// What stands before a message of gRPC: whether it is compressed, and how long it is.
const FRAME_HEADER: usize = 5;
const TIMEOUT: HeaderName = HeaderName::from_static("connect-timeout-ms");
const ACCEPT_POST: HeaderName = HeaderName::from_static("accept-post");

/// How a question writes its message, and how its answer does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Form {
    Proto,
    Json,
}

impl Form {
    /// The form of a unary question; `None` for whatever else a request is.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let given = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        match given.split(';').next()?.trim() {
            "application/proto" => Some(Form::Proto),
            "application/json" => Some(Form::Json),
            _ => None,
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Form::Proto => "application/proto",
            Form::Json => "application/json",
        })
    }
}

/// Puts a question to `grpc`.
pub(crate) async fn answer<S, B>(grpc: S, request: Request<Body>, form: Form) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody<Data = Bytes>,
    B::Error: Into<StdError>,
{
    let path = request.uri().path();
    let Some(method) = method(path) else { return nowhere(path) };
    if request.method() != Method::POST {
        return not_allowed();
    }
    let outcome = match deadline(request.headers()) {
        Ok(None) => unary(grpc, &method, request, form).await,
        Ok(Some(limit)) => tokio::time::timeout(limit, unary(grpc, &method, request, form))
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer within the time given"))),
        Err(status) => Err(status),
    };
    outcome.unwrap_or_else(|status| refusal(&status))
}

/// The answer to who speaks neither Connect nor gRPC.
pub(crate) fn unspoken(request: &Request<Body>) -> Response<Body> {
    let path = request.uri().path();
    if method(path).is_none() {
        return nowhere(path);
    }
    if request.method() != Method::POST {
        return not_allowed();
    }
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let accepted = "application/grpc, application/grpc-web, application/json, application/proto";
    reply.headers_mut().insert(ACCEPT_POST, HeaderValue::from_static(accepted));
    reply
}

fn not_allowed() -> Response<Body> {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    reply
}

/// The answer where no procedure is.
pub(crate) fn nowhere(path: &str) -> Response<Body> {
    let mut reply = refusal(&Status::unimplemented(format!("no procedure {path}")));
    *reply.status_mut() = StatusCode::NOT_FOUND;
    reply
}

/// What a status is in Connect.
pub(crate) fn refusal(status: &Status) -> Response<Body> {
    let (http, name) = code(status.code());
    let text = serde_json::json!({ "code": name, "message": status.message() }).to_string();
    let mut reply = Response::new(Body::new(Full::new(Bytes::from(text))));
    *reply.status_mut() = http;
    reply.headers_mut().insert(CONTENT_TYPE, Form::Json.content_type());
    let said = status.metadata().clone().into_headers();
    for name in [REASON, HINT] {
        if let Some(value) = said.get(name) {
            reply.headers_mut().insert(HeaderName::from_static(name), value.clone());
        }
    }
    reply
}

async fn unary<S, B>(
    mut grpc: S,
    method: &MethodDescriptor,
    request: Request<Body>,
    form: Form,
) -> Result<Response<Body>, Status>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody<Data = Bytes>,
    B::Error: Into<StdError>,
{
    if method.is_server_streaming() || method.is_client_streaming() {
        return Err(Status::unimplemented(format!(
            "{} is a stream: ask for it over gRPC",
            method.full_name()
        )));
    }
    let (mut parts, body) = request.into_parts();
    if parts.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Status::unimplemented(
            "expected a question that is not compressed, found a compressed one",
        ));
    }
    let body = Limited::new(body, MAX_QUESTION).collect().await;
    let body = body.map_err(|error| Status::resource_exhausted(error.to_string()))?.to_bytes();
    let question = match form {
        Form::Proto => body,
        Form::Json => from_json(method.input(), &body)?,
    };
    as_grpc(&mut parts);
    let asked = Request::from_parts(parts, Body::new(Full::new(framed(&question))));
    let Ok(reply) = grpc.call(asked).await;
    let (mut parts, body) = reply.into_parts();
    let body = body.collect().await.map_err(|error| Status::from_error(error.into()))?;
    let status = body.trailers().and_then(Status::from_header_map);
    match status.or_else(|| Status::from_header_map(&parts.headers)) {
        Some(status) if status.code() == Code::Ok => {}
        Some(status) => return Err(status),
        None => return Err(Status::unknown("the service gave no status")),
    }
    let message = unframed(body.to_bytes())?;
    let message = match form {
        Form::Proto => message,
        Form::Json => to_json(method.output(), message)?,
    };
    let mut reply = Response::new(Body::new(Full::new(message)));
    if let Some(place) = Place::of(&mut parts.extensions) {
        reply.extensions_mut().insert(place);
    }
    reply.headers_mut().insert(CONTENT_TYPE, form.content_type());
    Ok(reply)
}

/// Who asks, and with which token, stays; what described the body goes.
fn as_grpc(parts: &mut Parts) {
    for name in [CONTENT_LENGTH, CONTENT_ENCODING, ACCEPT_ENCODING, TIMEOUT] {
        parts.headers.remove(name);
    }
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.headers.insert(TE, HeaderValue::from_static("trailers"));
}

fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(given) = headers.get(TIMEOUT) else { return Ok(None) };
    // At most ten digits, says the protocol.
    let millis = given.to_str().ok().filter(|text| text.len() <= 10).and_then(|text| text.parse().ok());
    let millis = millis.ok_or_else(|| {
        Status::invalid_argument("expected up to 10 digits in connect-timeout-ms, found something else")
    })?;
    Ok(Some(Duration::from_millis(millis)))
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(FRAME_HEADER + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

/// The one message of a reply. Nobody asked for a compressed one.
fn unframed(mut body: Bytes) -> Result<Bytes, Status> {
    let header = body.first_chunk::<FRAME_HEADER>().copied();
    if let Some([0, length @ ..]) = header {
        let message = body.split_off(FRAME_HEADER);
        if usize::try_from(u32::from_be_bytes(length)).is_ok_and(|length| length == message.len()) {
            return Ok(message);
        }
    }
    Err(Status::internal("expected one message from the service, found something else"))
}

/// The procedure at a path such as `/evnode.v1.StoreService/GetBlock`.
fn method(path: &str) -> Option<MethodDescriptor> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(REFLECTION).ok()).as_ref()?;
    let (service, name) = path.strip_prefix('/')?.split_once('/')?;
    pool.get_service_by_name(service)?.methods().find(|method| method.name() == name)
}

fn from_json(message: MessageDescriptor, json: &[u8]) -> Result<Bytes, Status> {
    let bad = |error: serde_json::Error| Status::invalid_argument(format!("unmarshal message: {error}"));
    let mut json = serde_json::Deserializer::from_slice(json);
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let message = DynamicMessage::deserialize_with_options(message, &mut json, &options).map_err(bad)?;
    json.end().map_err(bad)?;
    Ok(prost::Message::encode_to_vec(&message).into())
}

fn to_json(message: MessageDescriptor, proto: Bytes) -> Result<Bytes, Status> {
    let message = DynamicMessage::decode(message, proto)
        .map_err(|error| Status::internal(format!("marshal message: {error}")))?;
    let json = serde_json::to_vec(&message);
    json.map(Bytes::from).map_err(|error| Status::internal(format!("marshal message: {error}")))
}

/// Connect's name for a code, and the status of HTTP that goes with it.
fn code(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::Ok => (StatusCode::OK, "ok"),
        // Of nginx; HTTP itself has none.
        Code::Cancelled => (StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST), "canceled"),
        Code::Unknown => (StatusCode::INTERNAL_SERVER_ERROR, "unknown"),
        Code::InvalidArgument => (StatusCode::BAD_REQUEST, "invalid_argument"),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        Code::AlreadyExists => (StatusCode::CONFLICT, "already_exists"),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "permission_denied"),
        Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "resource_exhausted"),
        Code::FailedPrecondition => (StatusCode::BAD_REQUEST, "failed_precondition"),
        Code::Aborted => (StatusCode::CONFLICT, "aborted"),
        Code::OutOfRange => (StatusCode::BAD_REQUEST, "out_of_range"),
        Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "unimplemented"),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "data_loss"),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_out_of_its_frame() {
        for message in [&b""[..], b"x", &[7; 300]] {
            assert_eq!(unframed(framed(message)).unwrap(), message);
        }
        for bytes in [&b""[..], b"\0\0\0\0", b"\0\0\0\0\x02x", b"\0\0\0\0\0x", b"\x01\0\0\0\x01x"] {
            assert_eq!(
                unframed(Bytes::copy_from_slice(bytes)).unwrap_err().code(),
                Code::Internal,
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_deadline_has_ten_digits_at_most() {
        let limit =
            |text: &'static str| deadline(&HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(text))]));
        assert_eq!(limit("9999999999").unwrap(), Some(Duration::from_millis(9_999_999_999)));
        assert_eq!(deadline(&HeaderMap::new()).unwrap(), None);
        for bad in ["", "-1", "1.5", "00000000001", "x"] {
            assert_eq!(limit(bad).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }

    /// A service that never answers.
    struct Never;

    impl Service<Request<Body>> for Never {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test]
    async fn who_waits_no_longer_is_told() {
        let ask = |method: Method| {
            let mut request = Request::new(Body::empty());
            *request.method_mut() = method;
            *request.uri_mut() = "/evnode.v1.StoreService/GetState".parse().unwrap();
            request.headers_mut().insert(TIMEOUT, HeaderValue::from_static("1"));
            answer(Never, request, Form::Proto)
        };
        assert_eq!(ask(Method::POST).await.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(ask(Method::GET).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn json_becomes_the_message_and_bad_json_a_refusal() {
        let input = method("/evnode.v1.StoreService/GetBlock").unwrap().input();
        let height = from_json(input.clone(), br#"{"height": "7", "later": 1}"#).unwrap();
        assert_eq!(height, from_json(input.clone(), br#"{"height": 7}"#).unwrap());
        assert_eq!(&height[..], [8, 7]);
        assert_eq!(&from_json(input.clone(), br#"{"hash": "AAE="}"#).unwrap()[..], [0x12, 2, 0, 1]);
        for bad in ["", "7", "[]", r#"{"height": -1}"#, r#"{"height": 1} x"#, r#"{"height":"x"}"#] {
            let status = from_json(input.clone(), bad.as_bytes()).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{bad}");
        }
        assert_eq!(to_json(input, Bytes::from_static(&[8, 7])).unwrap(), &br#"{"height":"7"}"#[..]);
        for path in ["", "/", "/evnode.v1.StoreService", "/evnode.v1.StoreService/", "/x/GetBlock", "/a/b/c"]
        {
            assert!(method(path).is_none(), "{path}");
        }
    }

    #[test]
    fn every_code_has_a_name_and_a_status_of_its_kind() {
        for number in 1..=16 {
            let (http, name) = code(Code::from_i32(number));
            assert!(http.is_client_error() || http.is_server_error(), "{name}");
        }
        let reply = refusal(&Status::unauthenticated("who?"));
        assert_eq!(reply.status(), StatusCode::UNAUTHORIZED);
    }
}
