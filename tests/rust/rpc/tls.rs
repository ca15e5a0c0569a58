use super::peers::{drain, first, handler, loopback, serve, to};
use bytes::Bytes;
use evbackup::error::{Error, Kind, Result};
use evbackup::proto::evnode::BackupRequest;
use evbackup::rpc::{Connect, Listen, Outlet, Request, Server, Tls, connect, listen};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::io::Write;
use std::path::PathBuf;
use tempfile::TempDir;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::File::create_new(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    }

    fn ca(&self) -> PathBuf {
        let path = self.dir.path().join("ca.pem");
        if path.exists() { path } else { self.file("ca.pem", &self.issuer.pem()) }
    }

    /// A certificate for `name` with its key.
    fn issue(&self, name: &str) -> Tls {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let cert = self.file(&format!("{name}.pem"), &cert.pem());
        let key = self.file(&format!("{name}.key"), &key.serialize_pem());
        Tls { cert: Some(cert), key: Some(key), ..Tls::default() }
    }

    fn trusted(&self) -> Tls {
        Tls { ca: Some(self.ca()), ..Tls::default() }
    }
}

fn small(_: &BackupRequest, outlet: &mut dyn Outlet) -> Result<()> {
    outlet.begin(first(1))?;
    outlet.chunk(Bytes::from_static(b"sealed"))?;
    outlet.end(1)
}

async fn start(tls: Tls) -> Server {
    listen(Listen { tls: Some(tls), ..loopback() }, handler(small)).await.unwrap()
}

async fn take(server: &Server, tls: Option<Tls>) -> Result<Vec<u8>> {
    let address = format!("https://{}", server.address()).parse().unwrap();
    let options = Connect { address, tls, ..to(server.address()) };
    let incoming = connect(&options).await?.backup(Request::default()).await?;
    Ok(drain(incoming).await?.0.concat())
}

async fn denied(server: &Server, tls: Option<Tls>) -> Error {
    let error = take(server, tls).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error:?}");
    error
}

#[tokio::test]
async fn who_is_trusted_and_under_which_name() {
    let ours = Authority::new("ours");
    let server = start(ours.issue("127.0.0.1")).await;
    assert_eq!(take(&server, Some(ours.trusted())).await.unwrap(), b"sealed");

    for (name, found) in [("theirs", "UnknownIssuer"), ("ours", "BadSignature")] {
        let theirs = Authority::new(name);
        let error = denied(&server, Some(theirs.trusted())).await;
        assert!(error.what().contains(found) && error.hint().unwrap().contains("as ca"), "{error:?}");
    }

    let server = start(ours.issue("node.example.com")).await;
    let error = denied(&server, Some(ours.trusted())).await;
    assert!(error.hint().unwrap().contains("server_name"), "{error:?}");
    let named = Tls { server_name: Some("node.example.com".to_owned()), ..ours.trusted() };
    assert_eq!(take(&server, Some(named)).await.unwrap(), b"sealed");
}

#[tokio::test]
async fn clients_show_a_certificate_when_the_server_asks() {
    let ours = Authority::new("ours");
    let server = start(Tls { ca: Some(ours.ca()), ..ours.issue("127.0.0.1") }).await;
    let known = Tls { ca: Some(ours.ca()), ..ours.issue("operator") };
    assert_eq!(take(&server, Some(known)).await.unwrap(), b"sealed");

    let theirs = Authority::new("theirs");
    let stranger = Tls { ca: Some(ours.ca()), ..theirs.issue("operator") };
    for tls in [ours.trusted(), stranger] {
        let error = denied(&server, Some(tls)).await;
        assert!(error.hint().unwrap().contains("cert and key"), "{error:?}");
    }
}

#[tokio::test]
async fn plain_against_tls_both_ways() {
    let ours = Authority::new("ours");
    let server = start(ours.issue("127.0.0.1")).await;
    let error = connect(&to(server.address())).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error:?}");
    assert_eq!(error.what(), "expected HTTP/2 without TLS, found a server that speaks TLS");

    let plain = serve(small).await;
    let error = denied(&plain, Some(ours.trusted())).await;
    assert_eq!(error.what(), "expected TLS, found a server without it");
}

#[tokio::test]
async fn a_token_travels_over_tls() {
    let ours = Authority::new("ours");
    let options = Listen {
        tls: Some(ours.issue("127.0.0.1")),
        token: Some("hush".to_owned()),
        ..Listen::new("0.0.0.0:0")
    };
    let server = listen(options, handler(small)).await.unwrap();
    let address = format!("https://127.0.0.1:{}", server.address().port()).parse().unwrap();
    let options = Connect {
        address,
        tls: Some(ours.trusted()),
        token: Some("hush".to_owned()),
        ..to(server.address())
    };
    let incoming = connect(&options).await.unwrap().backup(Request::default()).await.unwrap();
    assert_eq!(drain(incoming).await.unwrap().0.concat(), b"sealed");
}

#[tokio::test]
async fn files_that_are_not_what_they_should_be() {
    let ours = Authority::new("ours");
    let right = ours.issue("127.0.0.1");
    let swapped = Tls { cert: right.key.clone(), key: right.cert.clone(), ..Tls::default() };
    let rubbish = Tls { cert: Some(ours.file("rubbish", "hello")), ..right.clone() };
    let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    let broken = Tls { cert: Some(ours.file("broken", broken)), ..right.clone() };
    let theirs = Authority::new("theirs");
    let foreign = Tls { key: theirs.issue("x").key, ..right.clone() };
    let half = Tls { key: None, ..right.clone() };
    for (tls, kind) in [
        (swapped, Kind::Invalid),
        (rubbish, Kind::Invalid),
        (broken, Kind::Invalid),
        (foreign, Kind::Invalid),
        (half, Kind::Invalid),
        (Tls::default(), Kind::Invalid),
        (Tls { key: Some("/nowhere".into()), ..right }, Kind::Missing),
    ] {
        let error = listen(Listen { tls: Some(tls), ..loopback() }, handler(small)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
    }
}
