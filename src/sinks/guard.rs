//! Where webhooks may lead: to hosts of others, and into networks of our own only where that is said. The addresses that are
//! checked are those that are connected to, so that a name which changes its mind in between leads nowhere.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use ipnet::IpNet;
use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use tokio::{net::lookup_host, time::timeout};

use crate::{faults::broken, outbound};

/// How long a name may take to be resolved.
const LOOKUP_WAIT: Duration = Duration::from_secs(10);
/// Most addresses of one name.
const MOST_ADDRESSES: usize = 16;
/// Port of webhooks where no other is allowed.
const HTTPS: u16 = 443;

/// Networks that lead to this machine, to its neighbours, to what clouds tell their machines, or nowhere (IANA's registries of
/// special-purpose addresses). An IPv4 address within an IPv6 one is checked by itself, where the network says which it is.
const CLOSED: [&str; 36] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Azure's platform: public by its number only. The metadata of others is in networks above and below.
    "168.63.129.16/32",
    // Unspecified, loopback, IPv4-compatible.
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Why a webhook is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The URL itself.
    #[error("{0}")]
    Url(&'static str),
    /// It leads to an address that is not open.
    #[error(
        "leads to {0}, which is no address of the public internet; for a network of your own set allow_networks or allow_private"
    )]
    Closed(IpAddr),
    /// It leads out of our own networks on a port that is open within them only.
    #[error("leads to {0} on another port than 443, which is open to allow_networks alone; name it in ports")]
    Port(IpAddr),
    /// It leads nowhere.
    #[error("its name cannot be resolved: {0}")]
    Unresolved(String),
}

/// Looks up names: the system, or a test.
#[async_trait]
pub trait Lookup: Send + Sync {
    /// Addresses of a host.
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// Asks the system.
struct System;

#[async_trait]
impl Lookup for System {
    async fn addresses(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(lookup_host((host, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// What is open beside the public internet.
#[derive(Debug, Clone, Default)]
pub struct Open {
    /// Every address.
    pub everything: bool,
    /// These networks.
    pub networks: Vec<IpNet>,
    /// Ports beside 443; every port where these are empty and the network is our own.
    pub ports: Vec<u16>,
    /// Whether plain http is.
    pub http: bool,
}

/// Says where webhooks may lead, and resolves names for the client.
#[derive(Clone)]
pub struct Guard {
    open: Arc<Open>,
    lookup: Arc<dyn Lookup>,
    /// Whether the port is one that is open within our own networks only.
    within: bool,
}

impl Guard {
    /// A guard that asks the system for names.
    pub fn new(open: Open) -> Self {
        Self::with(open, Arc::new(System))
    }

    /// A guard that asks this for names.
    pub fn with(open: Open, lookup: Arc<dyn Lookup>) -> Self {
        Self { open: Arc::new(open), lookup, within: false }
    }

    /// Reads a URL, and checks what can be said of it before its name is resolved.
    ///
    /// # Errors
    /// [`Refused`]; never with a part of the URL in it, which may hold a secret.
    pub fn url(&self, text: &str) -> Result<Url, Refused> {
        let unreadable = "not an https URL; write it like https://host.example/path";
        let url: Url = text.trim().parse().map_err(|_| Refused::Url(unreadable))?;
        let port = url.port_or_known_default().unwrap_or_default();
        let is_ours = self.open.everything || !self.open.networks.is_empty();
        let checks = [
            (matches!(url.scheme(), "http" | "https") && url.has_host(), unreadable),
            (
                url.scheme() == "https" || self.open.http,
                "plain http; use https, or set allow_http where the network is trusted",
            ),
            (
                url.username().is_empty() && url.password().is_none() && url.fragment().is_none(),
                "takes no user, password or fragment; leave them out",
            ),
            (
                port == HTTPS || self.open.ports.contains(&port) || (is_ours && self.open.ports.is_empty()),
                "another port than 443; name it in ports",
            ),
        ];
        if let Some((_, wrong)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(Refused::Url(wrong));
        }
        // The client asks nobody about a host that is an address already.
        match literal(&url) {
            Some(address) => self.on(port).admit(address).map(|_| url),
            None => Ok(url),
        }
    }

    /// A client that connects to checked addresses only.
    ///
    /// # Errors
    /// Where https has no certificates to trust.
    pub fn client(&self, url: &Url) -> Result<Client, reqwest::Error> {
        let port = url.port_or_known_default().unwrap_or_default();
        outbound::builder(url, 1).dns_resolver(Arc::new(self.on(port))).build()
    }

    /// The guard of a port.
    fn on(&self, port: u16) -> Self {
        let is_usual = port == HTTPS || self.open.ports.contains(&port);
        Self { within: !is_usual && !self.open.everything, ..self.clone() }
    }

    /// Addresses of a host, all of them open: a name that leads to one that is not is not trusted with the others.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn resolve_host(&self, host: &str) -> Result<Vec<IpAddr>, Refused> {
        let unresolved = |why: String| Refused::Unresolved(why);
        let found = timeout(LOOKUP_WAIT, self.lookup.addresses(host)).await;
        let found = found.map_err(|_| unresolved(format!("no answer within {} s", LOOKUP_WAIT.as_secs())))?;
        let found = found.map_err(|error| unresolved(error.kind().to_string()))?;
        if found.is_empty() {
            return Err(unresolved("it has no address".into()));
        }
        found.into_iter().take(MOST_ADDRESSES).map(|address| self.admit(address)).collect()
    }

    /// Lets an address through that is open.
    fn admit(&self, address: IpAddr) -> Result<IpAddr, Refused> {
        let is_ours = self.open.networks.iter().any(|network| network.contains(&address.to_canonical()));
        if self.open.everything || broken("open_guard") || is_ours {
            return Ok(address);
        }
        match (is_closed(address), self.within) {
            (true, _) => Err(Refused::Closed(address)),
            (false, true) => Err(Refused::Port(address)),
            (false, false) => Ok(address),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let addresses = guard.resolve_host(name.as_str()).await?;
            // The client puts the port in.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}

/// The address that a URL names itself.
pub fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_matches(['[', ']']).parse().ok()
}

/// Whether an address is none of the public internet.
fn is_closed(address: IpAddr) -> bool {
    let within = |address: IpAddr| {
        CLOSED.iter().filter_map(|text| text.parse::<IpNet>().ok()).any(|network| network.contains(&address))
    };
    within(address) || matches!(address, IpAddr::V6(address) if within_v6(address).is_some_and(within))
}

/// The IPv4 address that the last half of an interface identifier holds (ISATAP, RFC 5214): some systems route it.
fn within_v6(address: Ipv6Addr) -> Option<IpAddr> {
    let segments = address.segments();
    let is_isatap = matches!(segments[4], 0 | 0x0200) && segments[5] == 0x5efe;
    let [.., a, b, c, d] = address.octets();
    is_isatap.then(|| IpAddr::from([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_closed_network_is_one() {
        for text in CLOSED {
            assert!(text.parse::<IpNet>().is_ok(), "{text}");
        }
    }

    #[test]
    fn addresses_of_ours_are_closed_however_they_are_written() {
        for closed in [
            "127.0.0.1",
            "127.255.255.254",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "169.254.170.2",
            "100.64.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "203.0.113.7",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "2a00:1450:4001:0:0:5efe:127.0.0.1",
        ] {
            assert!(is_closed(closed.parse().unwrap()), "{closed}");
        }
        for open in [
            "93.184.216.34",
            "8.8.8.8",
            "172.15.255.255",
            "172.32.0.1",
            "100.63.255.255",
            "2a00:1450:4001::1",
        ] {
            assert!(!is_closed(open.parse().unwrap()), "{open}");
        }
    }

    #[test]
    fn a_url_is_checked_as_the_client_reads_it() {
        let guard = Guard::new(Open::default());
        assert!(guard.url("https://hooks.example/a?b=c").is_ok());
        for (url, wrong) in [
            ("https://2130706433/", "leads to 127.0.0.1"),
            ("https://0x7f.1/", "leads to 127.0.0.1"),
            ("https://0177.0.0.1/", "leads to 127.0.0.1"),
            ("https://①②⑦.0.0.1/", "leads to 127.0.0.1"),
            ("https://[::ffff:169.254.169.254]/", "169.254.169.254"),
            ("http://hooks.example/", "plain http"),
            ("https://u:p@hooks.example/", "no user"),
            ("https://hooks.example:8443/", "ports"),
            ("ftp://hooks.example/", "not an https URL"),
            ("hooks.example", "not an https URL"),
        ] {
            let error = guard.url(url).unwrap_err().to_string();
            assert!(error.contains(wrong), "{url}: {error}");
        }
        let ours = Open { networks: vec!["10.1.0.0/16".parse().unwrap()], ..Open::default() };
        let guard = Guard::new(ours);
        assert!(guard.url("https://10.1.2.3:8443/").is_ok());
        assert!(guard.url("https://[::ffff:10.1.2.3]/").is_ok());
        assert!(guard.url("https://10.2.2.3/").is_err());
        assert!(guard.url("https://8.8.8.8/").is_ok());
        assert_eq!(guard.url("https://8.8.8.8:6379/"), Err(Refused::Port("8.8.8.8".parse().unwrap())));
    }

    struct Says(Vec<IpAddr>);

    #[async_trait]
    impl Lookup for Says {
        async fn addresses(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
            Ok(self.0.clone())
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_as_well_leads_nowhere() {
        let says = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
            Guard::with(Open::default(), Arc::new(Says(addresses)))
        };
        assert!(says(&["93.184.216.34"]).resolve_host("a").await.is_ok());
        let mixed = says(&["93.184.216.34", "169.254.169.254"]).resolve_host("a").await;
        assert_eq!(mixed, Err(Refused::Closed("169.254.169.254".parse().unwrap())));
        assert!(matches!(says(&[]).resolve_host("a").await, Err(Refused::Unresolved(_))));
    }
}
