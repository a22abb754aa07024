//! Where a registry is: a host and maybe a port.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// A registry's `host[:port]`: a DNS name, an IPv4 address or an IPv6 address in brackets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryHost(String);

text_type!(RegistryHost);

impl RegistryHost {
    /// Longest text: a DNS name of 253 bytes, a colon and a port of five digits.
    pub const LEN_MAX: usize = 259;

    /// Returns the host without the port; an IPv6 address keeps its brackets.
    pub fn host(&self) -> &str {
        split_port(&self.0).0
    }

    /// Returns the port, if one is named.
    pub fn port(&self) -> Option<u16> {
        split_port(&self.0).1.and_then(|port| port.parse().ok())
    }

    /// Says whether the host is this machine: `localhost`, `127.*` or `[::1]`.
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        if let Some(address) = unbracketed(host) {
            return address
                .parse()
                .is_ok_and(|address: Ipv6Addr| address.is_loopback());
        }
        host.eq_ignore_ascii_case("localhost")
            || host
                .parse()
                .is_ok_and(|address: Ipv4Addr| address.is_loopback())
    }
}

impl FromStr for RegistryHost {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, ParseHostError> {
        if text.len() > Self::LEN_MAX {
            return Err(ParseHostError::TooLong { len: text.len() });
        }
        let (host, port) = split_port(text);
        if let Some(address) = unbracketed(host) {
            address
                .parse::<Ipv6Addr>()
                .map_err(|_| ParseHostError::Ipv6)?;
        } else {
            parse_name(host)?;
        }
        match port {
            Some(port) if !is_port(port) => Err(ParseHostError::Port),
            Some(_) | None => Ok(Self(text.to_owned())),
        }
    }
}

/// Why a text is not a registry host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseHostError {
    /// There is no host before the port, or a label between dots is empty.
    #[error("host name has an empty part")]
    Empty,
    /// The text is longer than any DNS name with a port.
    #[error("host is {len} bytes, the limit is {}", RegistryHost::LEN_MAX)]
    TooLong {
        /// Length of the text in bytes.
        len: usize,
    },
    /// A character cannot be in a host name.
    #[error("host name has the character {character:?}")]
    Character {
        /// The character.
        character: char,
    },
    /// A label begins or ends with a hyphen.
    #[error("a part of the host name begins or ends with a hyphen")]
    Hyphen,
    /// The brackets do not hold an IPv6 address.
    #[error("the brackets do not hold an IPv6 address")]
    Ipv6,
    /// The port is no number from 1 to 65535.
    #[error("port is no number from 1 to 65535")]
    Port,
}

/// Splits at the colon of the port, which is never inside brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        Some(_) | None => (text, None),
    }
}

fn unbracketed(host: &str) -> Option<&str> {
    host.strip_prefix('[')?.strip_suffix(']')
}

fn parse_name(name: &str) -> Result<(), ParseHostError> {
    for label in name.split('.') {
        if label.is_empty() {
            return Err(ParseHostError::Empty);
        }
        let allowed = |character: char| character.is_ascii_alphanumeric() || character == '-';
        if let Some(character) = label.chars().find(|character| !allowed(*character)) {
            return Err(ParseHostError::Character { character });
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(ParseHostError::Hyphen);
        }
    }
    Ok(())
}

fn is_port(text: &str) -> bool {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits && text.parse().is_ok_and(|port: u16| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_every_form_are_accepted() {
        for (text, host, port) in [
            ("localhost", "localhost", None),
            ("localhost:5000", "localhost", Some(5000)),
            ("registry.example.com", "registry.example.com", None),
            ("10.0.0.7:80", "10.0.0.7", Some(80)),
            ("[::1]:5000", "[::1]", Some(5000)),
            ("[fd00::2]", "[fd00::2]", None),
        ] {
            let parsed: RegistryHost = text.parse().unwrap();
            assert_eq!((parsed.host(), parsed.port()), (host, port), "{text}");
        }
    }

    #[test]
    fn malformed_hosts_are_refused_with_the_reason() {
        for (text, reason) in [
            ("", ParseHostError::Empty),
            (":5000", ParseHostError::Empty),
            ("a..b", ParseHostError::Empty),
            ("a_b", ParseHostError::Character { character: '_' }),
            ("user@host", ParseHostError::Character { character: '@' }),
            ("-a.b", ParseHostError::Hyphen),
            ("[::g]", ParseHostError::Ipv6),
            ("a:", ParseHostError::Port),
            ("a:+80", ParseHostError::Port),
            ("a:0", ParseHostError::Port),
            ("a:65536", ParseHostError::Port),
        ] {
            assert_eq!(text.parse::<RegistryHost>(), Err(reason), "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (text, loopback) in [
            ("localhost:1", true),
            ("127.8.9.1", true),
            ("[::1]:80", true),
            ("10.0.0.1", false),
            ("localhost.example.com", false),
            ("127.example.com", false),
            ("[::2]", false),
        ] {
            assert_eq!(
                text.parse::<RegistryHost>().unwrap().is_loopback(),
                loopback,
                "{text}"
            );
        }
    }
}
