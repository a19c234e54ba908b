//! The host names that this server answers to.
//!
//! A page in a browser can point its own name at 127.0.0.1 and then talk to a local server as to
//! its own origin. The Host header still carries that name, so a list of known ones stops it.
//! Addresses cannot be pointed elsewhere, so a server on all addresses may accept any of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The names and addresses that a Host header may carry, whatever the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownHosts {
    names: Vec<Box<str>>,
    addresses: Vec<IpAddr>,
    any_address: bool,
}

impl Default for KnownHosts {
    /// `localhost`, `127.0.0.1` and `[::1]`.
    fn default() -> Self {
        Self {
            names: vec!["localhost".into()],
            addresses: vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            any_address: false,
        }
    }
}

impl KnownHosts {
    /// Adds a name as clients write it, without a port; an address is taken as one.
    pub fn add(&mut self, name: &str) {
        let unbracketed = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(name);
        match unbracketed.parse() {
            Ok(address) => self.addresses.push(address),
            Err(_) => self.names.push(name.into()),
        }
    }

    /// Adds the address that the server listens on. The unspecified one (`0.0.0.0`, `::`) stands
    /// for every address that the machine has, so any address is known from then on.
    pub fn add_bound(&mut self, address: IpAddr) {
        self.any_address |= address.is_unspecified();
        self.addresses.push(address);
    }

    /// Whether `host`, with or without a port, is known; `None` if it is no host at all.
    pub(super) fn knows(&self, host: &[u8]) -> Option<bool> {
        let host = str::from_utf8(host).ok()?;
        if let Some(rest) = host.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            check_port(port)?;
            let address: Ipv6Addr = address.parse().ok()?;
            return Some(self.knows_address(address.into()));
        }
        let name_length = host.find(':').unwrap_or(host.len());
        let (name, port) = host.split_at(name_length);
        check_port(port)?;
        if name.is_empty() || name.contains(|c: char| !c.is_ascii_graphic() || "/?#@".contains(c)) {
            return None;
        }
        if self
            .names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
        {
            return Some(true);
        }
        Some(
            name.parse()
                .is_ok_and(|address: Ipv4Addr| self.knows_address(address.into())),
        )
    }

    fn knows_address(&self, address: IpAddr) -> bool {
        self.any_address || self.addresses.contains(&address)
    }
}

/// Nothing, or a colon and digits, or a colon alone (RFC 3986, 3.2.3).
fn check_port(port: &str) -> Option<()> {
    let digits = if port.is_empty() {
        ""
    } else {
        port.strip_prefix(':')?
    };
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(())
}

#[cfg(test)]
mod tests {
    use super::KnownHosts;

    #[test]
    fn loopback_is_known_with_any_port_and_case() {
        let hosts = KnownHosts::default();
        for host in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1:8379",
            "127.0.0.1:",
            "[::1]",
            "[0:0::1]:80",
        ] {
            assert_eq!(hosts.knows(host.as_bytes()), Some(true), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_unknown() {
        let hosts = KnownHosts::default();
        for host in [
            "evil.example",
            "localhost.",
            "localhost.evil.example:80",
            "127.0.0.2",
            "[::2]",
        ] {
            assert_eq!(hosts.knows(host.as_bytes()), Some(false), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_told_apart() {
        let hosts = KnownHosts::default();
        for host in [
            "",
            ":80",
            "localhost:x",
            "[::1",
            "[::1]x",
            "[evil]",
            "a@localhost",
            "a b",
            "::1",
            "\u{e9}",
        ] {
            assert_eq!(hosts.knows(host.as_bytes()), None, "{host}");
        }
        assert_eq!(hosts.knows(b"\xff"), None);
    }

    #[test]
    fn configured_and_bound_hosts_are_known() {
        let mut hosts = KnownHosts::default();
        hosts.add("Cache.Internal");
        hosts.add("[fd00::7]");
        hosts.add_bound("10.0.0.7".parse().unwrap());
        for host in ["cache.internal:80", "[fd00::7]:80", "10.0.0.7"] {
            assert_eq!(hosts.knows(host.as_bytes()), Some(true), "{host}");
        }
        assert_eq!(hosts.knows(b"10.0.0.8"), Some(false));
    }

    #[test]
    fn all_addresses_are_known_when_bound_to_all_but_names_are_not() {
        let mut hosts = KnownHosts::default();
        hosts.add_bound("0.0.0.0".parse().unwrap());
        assert_eq!(hosts.knows(b"192.0.2.1:80"), Some(true));
        assert_eq!(hosts.knows(b"evil.example"), Some(false));
    }
}
