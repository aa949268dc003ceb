//! `[http]`: where we listen, and who may come in.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::outbound::{self, BadUrl};

/// `[http]`: where calls, health and metrics are served, and to whom.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address to listen on.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Seconds without a sign of life until the process is not ready; at twice that, a process in which nothing
    /// moves ends itself with exit code 70.
    pub stall_secs: u64,
    /// Where people reach our pages, such as `https://aftercheck.example`: comments of scores link to the call. Absent: no link.
    pub public_url: Option<String>,
    /// `on`: everybody signs in or has a key. `off`: whoever reaches loopback may do everything.
    pub auth: Auth,
    /// A proxy that has signed people in.
    pub proxy: ProxyConfig,
}

/// Whether people sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// Nobody does: only on loopback.
    #[default]
    Off,
    /// Everybody does.
    On,
}

/// `[http.proxy]`: a proxy in front of us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyConfig {
    /// Header with the name of whom the proxy has signed in, who must have an account here; absent: none is believed.
    pub header: Option<String>,
    /// Networks that the proxy asks from: the header is ignored from everywhere else.
    #[schemars(with = "Vec<String>")]
    pub trusted: Vec<IpNet>,
}

impl ProxyConfig {
    /// Whether an address is the proxy's.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

impl HttpConfig {
    /// Where people reach our pages.
    ///
    /// # Errors
    /// [`BadUrl`] where it is no address of pages.
    pub fn pages(&self) -> Result<Option<Url>, BadUrl> {
        self.public_url.as_deref().map(|url| outbound::url(url, true)).transpose()
    }

    /// Checks ranges, and that a public address has sign-in.
    ///
    /// # Errors
    /// The key, and what it needs.
    pub fn check(&self) -> Result<(), String> {
        let remedy = if !(1..=3600).contains(&self.stall_secs) {
            "stall_secs: need 1 to 3600"
        } else if self.auth == Auth::Off && !self.listen.ip().is_loopback() {
            "listen: without sign-in only a loopback address; set [http] auth = \"on\" and add people with `aftercheck people add`"
        } else if self.auth == Auth::Off && self.proxy.header.is_some() {
            "proxy.header: nobody is asked who they are; set [http] auth = \"on\""
        } else if self.proxy.header.is_some() && self.proxy.trusted.is_empty() {
            "proxy.trusted: name the network that the proxy asks from, such as [\"127.0.0.1/32\"]; else anybody could send the header"
        } else if self.proxy.trusted.iter().any(|network| network.prefix_len() == 0) {
            "proxy.trusted: a network of everybody is trusted by nobody; name the address of the proxy"
        } else if self
            .proxy
            .header
            .as_ref()
            .is_some_and(|name| name.parse::<axum::http::HeaderName>().is_err())
        {
            "proxy.header: not the name of a header"
        } else {
            return self.pages().map(drop).map_err(|error| format!("[http] public_url: {error}"));
        };
        Err(format!("[http] {remedy}"))
    }

    /// Whether browsers reach us over TLS only: then the cookie is never sent without.
    pub fn is_secure(&self) -> bool {
        !self.listen.ip().is_loopback()
            || self.public_url.as_ref().is_some_and(|url| url.starts_with("https://"))
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            stall_secs: 25,
            public_url: None,
            auth: Auth::default(),
            proxy: ProxyConfig::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut HttpConfig)) -> String {
        let mut config = HttpConfig::default();
        change(&mut config);
        config.check().unwrap_err()
    }

    #[test]
    fn a_public_address_needs_sign_in() {
        let public: SocketAddr = "0.0.0.0:80".parse().unwrap();
        let error = refused(|config| config.listen = public);
        assert!(error.contains("auth = \"on\"") && error.contains("people add"), "{error}");
        let config = HttpConfig { listen: public, auth: Auth::On, ..HttpConfig::default() };
        assert_eq!(config.check(), Ok(()));
        assert!(config.is_secure() && !HttpConfig::default().is_secure());
    }

    #[test]
    fn a_proxy_is_named_before_it_is_believed() {
        let header = Some("x-user".to_owned());
        let error = refused(|config| config.proxy.header = header.clone());
        assert!(error.contains("proxy.header"), "{error}");
        let on = |trusted: &[&str]| HttpConfig {
            auth: Auth::On,
            proxy: ProxyConfig {
                header: header.clone(),
                trusted: trusted.iter().map(|network| network.parse().unwrap()).collect(),
            },
            ..HttpConfig::default()
        };
        assert!(on(&[]).check().unwrap_err().contains("proxy.trusted"));
        assert!(on(&["0.0.0.0/0"]).check().unwrap_err().contains("everybody"));
        let config = on(&["10.1.0.0/16"]);
        assert_eq!(config.check(), Ok(()));
        assert!(config.proxy.trusts("10.1.2.3".parse().unwrap()));
        assert!(config.proxy.trusts("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!config.proxy.trusts("10.2.2.3".parse().unwrap()));
    }
}
