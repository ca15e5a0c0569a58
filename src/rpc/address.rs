//! Addresses as people write them: `node:7331`, `[::1]`, `https://node.example.com`.

use crate::error::{Error, Result};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The node's RPC port, meant when an address has none.
pub const DEFAULT_PORT: u16 = 7331;

/// Where a server is: host, port, and whether the address itself asks for TLS or for plain text.
///
/// ```
/// use evbackup::rpc::Address;
///
/// let address: Address = "https://node.example.com".parse()?;
/// assert_eq!((address.host(), address.port(), address.tls()), ("node.example.com", 7331, Some(true)));
/// assert_eq!("[::1]:9000".parse::<Address>()?.to_string(), "[::1]:9000");
/// assert!("http://me:secret@node:7331".parse::<Address>().is_err());
/// # Ok::<(), evbackup::error::Error>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Address {
    host: String,
    port: u16,
    tls: Option<bool>,
}

impl Address {
    /// Reads an address; `default_port` is meant when it has none.
    ///
    /// ```
    /// assert_eq!(evbackup::rpc::Address::parse("node", 9000)?.port(), 9000);
    /// # Ok::<(), evbackup::error::Error>(())
    /// ```
    pub fn parse(text: &str, default_port: u16) -> Result<Self> {
        let (tls, rest) = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (Some(false), rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (Some(true), rest),
            Some((scheme, _)) => {
                return Err(Error::invalid(format!("expected http:// or https://, found {scheme}://"))
                    .with_hint("give the node's RPC address as host:port"));
            }
            None => (None, text),
        };
        // Before anything else is said about the text, so that no secret gets into an error.
        if rest.contains('@') {
            return Err(Error::invalid(
                "expected an address without credentials, found a user or password in it",
            )
            .with_hint("pass the secret as token or in headers"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if let Some(at) = rest.find(['/', '?', '#']) {
            let (_, path) = rest.split_at(at);
            return Err(Error::invalid(format!("expected host:port, found the path {path:?} behind it")));
        }
        let (host, port) = split_port(rest)?;
        let port = match port {
            None => default_port,
            Some(digits) => digits
                .parse()
                .map_err(|_| Error::invalid(format!("expected a port from 0 to 65535, found {digits:?}")))?,
        };
        check_host(host)?;
        Ok(Self { host: host.to_ascii_lowercase(), port, tls })
    }

    /// The host: a name or an IP address, the latter without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the address itself says about TLS: `https://`, `http://`, or nothing.
    pub fn tls(&self) -> Option<bool> {
        self.tls
    }

    /// Does it name this machine? Then nobody between can read along.
    pub fn is_loopback(&self) -> bool {
        match IpAddr::from_str(&self.host) {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => self.host == "localhost" || self.host.ends_with(".localhost"),
        }
    }

    /// Host and port as a URL has them.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, DEFAULT_PORT)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.tls {
            Some(true) => "https://",
            Some(false) => "http://",
            None => "",
        })?;
        f.write_str(&self.authority())
    }
}

/// Host and, where there is one, port. An IPv6 address may stand without brackets when it has no port.
fn split_port(text: &str) -> Result<(&str, Option<&str>)> {
    if let Some(inner) = text.strip_prefix('[') {
        let Some((host, behind)) = inner.split_once(']') else {
            return Err(Error::invalid("expected ] behind the IPv6 address, found the end of the address"));
        };
        if Ipv6Addr::from_str(host).is_err() {
            return Err(Error::invalid(format!("expected an IPv6 address in brackets, found {host:?}")));
        }
        return match behind.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if behind.is_empty() => Ok((host, None)),
            None => Err(Error::invalid(format!("expected a port behind the address, found {behind:?}"))),
        };
    }
    if Ipv6Addr::from_str(text).is_ok() {
        return Ok((text, None));
    }
    Ok(text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))))
}

fn check_host(host: &str) -> Result<()> {
    if host.is_empty() {
        return Err(Error::invalid("expected a host name or an IP address, found nothing"));
    }
    let odd = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if Ipv6Addr::from_str(host).is_err() && host.contains(odd) {
        return Err(Error::invalid(format!("expected a host name or an IP address, found {host:?}"))
            .with_hint("for a datastore on this machine give a path that begins with /, ./, ../ or ~"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (String, u16, Option<bool>) {
        let address: Address = text.parse().unwrap();
        (address.host, address.port, address.tls)
    }

    #[test]
    fn what_people_write() {
        for (text, host, port, tls) in [
            ("node", "node", 7331, None),
            ("node:1", "node", 1, None),
            ("Node_1.example.com:65535", "node_1.example.com", 65535, None),
            ("10.0.0.1", "10.0.0.1", 7331, None),
            ("http://10.0.0.1:80/", "10.0.0.1", 80, Some(false)),
            ("HTTPS://node", "node", 7331, Some(true)),
            ("::1", "::1", 7331, None),
            ("[fe80::1]", "fe80::1", 7331, None),
            ("https://[::1]:443", "::1", 443, Some(true)),
        ] {
            assert_eq!(read(text), (host.to_owned(), port, tls), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant() {
        for (text, what) in [
            ("", "expected a host name or an IP address, found nothing"),
            (":7331", "expected a host name or an IP address, found nothing"),
            ("node:", "expected a port from 0 to 65535, found \"\""),
            ("node:65536", "expected a port from 0 to 65535, found \"65536\""),
            ("ftp://node", "expected http:// or https://, found ftp://"),
            ("http://node/rpc", "expected host:port, found the path \"/rpc\" behind it"),
            ("[::1", "expected ] behind the IPv6 address, found the end of the address"),
            ("[node]:1", "expected an IPv6 address in brackets, found \"node\""),
            ("[::1]7331", "expected a port behind the address, found \"7331\""),
            ("no de", "expected a host name or an IP address, found \"no de\""),
            ("n\u{f6}de", "expected a host name or an IP address, found \"n\u{f6}de\""),
        ] {
            assert_eq!(text.parse::<Address>().unwrap_err().to_string(), what, "{text}");
        }
    }

    #[test]
    fn a_secret_in_an_address_is_refused_and_not_repeated() {
        for text in ["http://me:hush@node", "me:hush@node:1", "http://hush@node/x?y"] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        }
    }

    #[test]
    fn which_addresses_are_this_machine() {
        for (text, yes) in [
            ("localhost", true),
            ("127.8.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("localhost.example.com", false),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().is_loopback(), yes, "{text}");
        }
    }
}
