//! Certificates and keys, for either end.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// A TLS handshake that takes longer has failed: it is four packets.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// TLS by files in PEM form. The same type serves both ends:
///
/// | field         | a client                               | a server                                     |
/// |---------------|----------------------------------------|----------------------------------------------|
/// | `ca`          | who may sign the server; else the system's roots | who must have signed every client; else any client may come |
/// | `cert`, `key` | shown to servers that ask for one      | what the server is; required                 |
/// | `server_name` | the name in the server's certificate, when it is not the address | – |
///
/// ```
/// use evbackup::rpc::Tls;
///
/// let tls = Tls { ca: Some("ca.pem".into()), ..Tls::default() };
/// assert!(tls.cert.is_none());
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tls {
    /// Certificates that are trusted as signers.
    pub ca: Option<PathBuf>,
    /// Our own certificate, with the chain up to the signer.
    pub cert: Option<PathBuf>,
    /// The private key of `cert`.
    pub key: Option<PathBuf>,
    /// The name that the server's certificate must have.
    pub server_name: Option<String>,
}

impl Tls {
    /// What a client needs for a server called `host`.
    pub(crate) fn client(&self, host: &str) -> Result<ClientTlsConfig> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let config = ClientTlsConfig::new().domain_name(name);
        let config = match &self.ca {
            Some(path) => config.ca_certificate(Certificate::from_pem(certificates(path)?)),
            None => config.with_native_roots(),
        };
        Ok(match self.identity()? {
            Some(identity) => config.identity(identity),
            None => config,
        })
    }

    /// What a server needs.
    pub(crate) fn server(&self) -> Result<ServerTlsConfig> {
        let Some(identity) = self.identity()? else {
            return Err(Error::invalid("expected cert and key for a server with TLS, found neither"));
        };
        let config = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_TIMEOUT);
        Ok(match &self.ca {
            Some(path) => config.client_ca_root(Certificate::from_pem(certificates(path)?)),
            None => config,
        })
    }

    fn identity(&self) -> Result<Option<Identity>> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates(cert)?;
                let key = pem(key, "PRIVATE KEY-----", "a private key")?;
                Ok(Some(Identity::from_pem(chain, key)))
            }
            (None, None) => Ok(None),
            (Some(_), None) => Err(Error::invalid("expected a key with the certificate, found only cert")),
            (None, Some(_)) => Err(Error::invalid("expected a certificate with the key, found only key")),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<u8>> {
    pem(path, "-----BEGIN CERTIFICATE-----", "a certificate")
}

/// Reads a PEM file, which must hold `marker`: a file of the wrong sort would otherwise be found out as "unknown issuer", or never.
fn pem(path: &Path, marker: &str, thing: &str) -> Result<Vec<u8>> {
    let bytes = std::fs::read(path).map_err(|error| Error::from_io(error, "read it", path))?;
    if String::from_utf8_lossy(&bytes).contains(marker) {
        return Ok(bytes);
    }
    Err(Error::invalid(format!("expected {thing} in PEM form, found none")).at_path(path))
}
