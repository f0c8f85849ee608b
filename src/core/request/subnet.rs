//! Subnets, as `WSGITrustedProxies` names them: `10.0.0.1`, `10.0.0.0/8`, `10.0.0.0/255.0.0.0`, `10.1` (the
//! first octets), `fd00::/8`, `::FFFF:10.0.0.1`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// A network, or a single address, with no bits set beyond its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet(IpNet);

/// A text that is not a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSubnet(String);

impl Subnet {
    /// Parses an address, or a network with a prefix length or an IPv4 mask. IPv4-mapped IPv6 becomes IPv4.
    pub fn parse(text: &str) -> Result<Subnet, BadSubnet> {
        let bad = || BadSubnet(text.into());
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let (address, octets) = match address.parse::<IpAddr>() {
            Ok(address) => (address, None),
            Err(_) => {
                let (address, octets) = leading_octets(address).ok_or_else(bad)?;
                (IpAddr::V4(address), Some(octets))
            }
        };
        let bits = match (length, octets) {
            (Some(length), _) => prefix_length(length, address).ok_or_else(bad)?,
            (None, Some(octets)) => octets * 8,
            (None, None) => IpNet::from(address).max_prefix_len(),
        };
        let (address, bits) = match (address.to_canonical(), bits) {
            // A mapped network with a prefix shorter than 96 bits spans more than IPv4, so it stays IPv6.
            (IpAddr::V4(v4), 96..) if address.is_ipv6() => (IpAddr::V4(v4), bits - 96),
            _ => (address, bits),
        };
        let network = IpNet::new(address, bits).map_err(|_| bad())?;
        Ok(Subnet(network.trunc()))
    }

    /// Returns whether the subnet contains `address`; an IPv4-mapped address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BadSubnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unable to parse trusted proxy '{}': neither an IP address nor a network such as 10.0.0.0/8",
            self.0
        )
    }
}

impl std::error::Error for BadSubnet {}

/// Parses one to three octets, which stand for the network of all addresses that begin with them.
fn leading_octets(text: &str) -> Option<(Ipv4Addr, u8)> {
    let mut octets = [0; 4];
    let mut count = 0;
    for part in text.trim_end_matches('.').split('.') {
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) || count == 3 {
            return None;
        }
        octets[usize::from(count)] = part.parse().ok()?;
        count += 1;
    }
    Some((octets.into(), count))
}

/// Returns a length in digits, or an IPv4 mask.
fn prefix_length(text: &str, address: IpAddr) -> Option<u8> {
    if address.is_ipv4()
        && let Ok(mask) = text.parse::<Ipv4Addr>()
    {
        return ipnet::ipv4_mask_to_prefix(mask).ok();
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_: &u8| digits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_fall_into_subnets() {
        for (subnet, address, expected) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("10.0.0.0/255.0.0.0", "10.9.9.9", true),
            ("10", "10.9.9.9", true),
            ("10.1", "10.1.9.9", true),
            ("10.1.", "10.1.9.9", true),
            ("10.1", "10.2.9.9", false),
            ("192.168.0/24", "192.168.0.7", true),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "::1", true),
            ("::/0", "1.2.3.4", false),
            ("::1", "::1", true),
            ("fd00::/8", "fd12::1", true),
            ("FD00::/8", "fd12::1", true),
            ("2001:DB8::A", "2001:db8::a", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("::FFFF:10.0.0.0/104", "10.200.0.1", true),
            ("::ffff:10.0.0.0/104", "11.0.0.1", false),
        ] {
            let parsed = Subnet::parse(subnet).unwrap();
            assert_eq!(
                parsed.contains(address.parse().unwrap()),
                expected,
                "{subnet} {address}"
            );
        }
    }

    #[test]
    fn what_is_no_subnet_is_refused() {
        for text in [
            "",
            "/",
            "/8",
            "proxy.example",
            "10.0.0.1/33",
            "10.0.0.1/",
            "10.0.0.1/-1",
            "10.0.0.1/+8",
            "10.0.0.0/255.0.255.0",
            "1.2.3.4.5",
            "256.1",
            "10..1",
            "::1/129",
            "::1/8/8",
            "::1/255.0.0.0",
            "fe80::1%eth0",
        ] {
            assert!(Subnet::parse(text).is_err(), "{text}");
        }
    }
}
