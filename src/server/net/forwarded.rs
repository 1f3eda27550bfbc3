//! Whom a proxy speaks for: its headers count if the proxy is listed, and are not looked at
//! otherwise.
//!
//! A header is a list to which each proxy on the way adds at the end. What a client wrote stands
//! before that, so the list is read from its end, and the first address that is not itself a listed
//! proxy's is the client's. What it wrote may be anything, an opening quote or any byte, and changes
//! nothing of how the rest is read.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// The word that lists peers without an address: those at a Unix socket.
const UNIX: &str = "unix";

/// All clients of listed proxies without an address that do not say whom they speak for: they are
/// counted together, and not let go uncounted.
pub(in crate::server) const UNNAMED: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Which headers of a listed proxy count. Only one kind does: a proxy that writes one of them lets
/// a client's own of the other kind pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// How a client reached the gateway or the proxy in front of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Scheme {
    Http,
    Https,
}

/// The proxies that are believed.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct Proxies {
    networks: Vec<IpNet>,
    unix: bool,
    header: ForwardedHeader,
}

/// What a request's proxy told of its client.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Told {
    pub client: Option<SocketAddr>,
    pub host: Option<HeaderValue>,
    pub scheme: Option<Scheme>,
}

impl Proxies {
    /// Addresses, networks (`10.0.0.0/8`), and the word `unix`. The first that is none of them is
    /// handed back.
    pub(in crate::server) fn new(
        listed: &[String],
        header: ForwardedHeader,
    ) -> Result<Self, String> {
        let mut proxies = Self { header, ..Self::default() };
        for entry in listed {
            if entry == UNIX {
                proxies.unix = true;
                continue;
            }
            let address = entry.parse::<IpAddr>().map(IpNet::from);
            match address.or_else(|_| entry.parse::<IpNet>()) {
                Ok(network) => proxies.networks.push(network),
                Err(_) => return Err(entry.clone()),
            }
        }
        Ok(proxies)
    }

    /// Whether a peer is listed.
    pub(in crate::server) fn list(&self, peer: Option<SocketAddr>) -> bool {
        match peer {
            None => self.unix,
            Some(peer) => {
                let address = peer.ip().to_canonical();
                self.networks.iter().any(|network| network.contains(&address))
            }
        }
    }

    /// What a listed peer tells; `None` of any other.
    pub(in crate::server) fn told(
        &self,
        peer: Option<SocketAddr>,
        headers: &HeaderMap,
    ) -> Option<Told> {
        if !self.list(peer) {
            return None;
        }
        Some(match self.header {
            ForwardedHeader::XForwardedFor => Told {
                client: self.client(entries(headers, &X_FORWARDED_FOR).map(node_address)),
                host: entries(headers, &X_FORWARDED_HOST).last().and_then(header_value),
                scheme: entries(headers, &X_FORWARDED_PROTO).last().and_then(scheme),
            },
            ForwardedHeader::Forwarded => self.told_by_forwarded(headers),
        })
    }

    /// The last address that is not a listed proxy's, or else the first of all. An entry that is no
    /// address hides those before it.
    fn client<I>(&self, addresses: I) -> Option<SocketAddr>
    where
        I: DoubleEndedIterator<Item = Option<SocketAddr>>,
    {
        let mut client = None;
        for address in addresses.rev() {
            client = Some(address?).or(client);
            if !self.list(address) {
                break;
            }
        }
        client
    }

    fn told_by_forwarded(&self, headers: &HeaderMap) -> Told {
        let mut told = Told::default();
        let lines = headers.get_all(http::header::FORWARDED);
        for element in lines.iter().flat_map(elements).rev() {
            let pairs = split_quoted(element, ';').unwrap_or_default();
            let parameter = |wanted: &str| {
                pairs.iter().find_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    let found = name.trim().eq_ignore_ascii_case(wanted);
                    found.then(|| value.trim().trim_matches('"'))
                })
            };
            let Some(address) = parameter("for").and_then(node_address) else { break };
            told = Told {
                client: Some(address),
                host: parameter("host").and_then(header_value),
                scheme: parameter("proto").and_then(scheme),
            };
            if !self.list(Some(address)) {
                break;
            }
        }
        told
    }
}

/// What an `X-Forwarded-` header lists, over all its lines. Nothing is quoted there. An entry that is
/// no text is empty.
fn entries<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
    let lines = headers.get_all(name).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(text)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default().trim()
}

/// The elements of one line of `Forwarded`. Of a line that breaks the grammar only what follows the
/// last comma, which the nearest proxy wrote; an empty one hides what was before.
fn elements(line: &HeaderValue) -> Vec<&str> {
    let whole = line.to_str().ok().and_then(|line| split_quoted(line, ','));
    whole.unwrap_or_else(|| {
        let last = line.as_bytes().rsplit(|byte| *byte == b',').next().map_or("", text);
        vec!["", last]
    })
}

/// Splits where a separator is not within a quoted string (RFC 9110, section 5.6.4); `None` if there
/// are quotes that do not enclose a whole value.
fn split_quoted(text: &str, separator: char) -> Option<Vec<&str>> {
    enum At {
        Plain,
        Quoted,
        Escaped,
        Closed,
    }
    let (mut at, mut previous, mut start, mut pieces) = (At::Plain, ' ', 0, Vec::new());
    for (index, char) in text.char_indices() {
        at = match (at, char) {
            (At::Plain, '"') if previous == '=' => At::Quoted,
            (At::Plain, '"' | '\\') => return None,
            (At::Quoted, '\\') => At::Escaped,
            (At::Quoted, '"') => At::Closed,
            (At::Quoted | At::Escaped, _) => At::Quoted,
            (At::Closed, ' ' | '\t') => At::Closed,
            (At::Closed, ',' | ';') | (At::Plain, _) => At::Plain,
            (At::Closed, _) => return None,
        };
        if char == separator && matches!(at, At::Plain) {
            pieces.push(text[start..index].trim());
            start = index + 1;
        }
        previous = char;
    }
    pieces.push(text[start..].trim());
    matches!(at, At::Plain | At::Closed).then_some(pieces)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn node_address(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, 0))
}

fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(text).ok().filter(|value| !value.is_empty())
}

fn scheme(text: &str) -> Option<Scheme> {
    match text.to_ascii_lowercase().as_str() {
        "https" | "wss" => Some(Scheme::Https),
        "http" | "ws" => Some(Scheme::Http),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        headers
    }

    fn proxies(header: ForwardedHeader) -> Proxies {
        let listed = ["10.0.0.0/8", "2001:db8:1::/48", "192.0.2.7"].map(str::to_owned);
        Proxies::new(&listed, header).unwrap()
    }

    fn client(header: ForwardedHeader, peer: &str, lines: &[(&str, &str)]) -> Option<String> {
        let told = proxies(header).told(Some(peer.parse().unwrap()), &headers(lines))?;
        Some(told.client.map_or("none".into(), |client| client.ip().to_string()))
    }

    #[test]
    fn only_listed_peers_are_believed() {
        let check = |peer: &str, expected: bool| {
            let proxies = proxies(ForwardedHeader::XForwardedFor);
            assert_eq!(proxies.list(Some(peer.parse().unwrap())), expected, "{peer}");
        };
        check("10.255.0.1:1", true);
        check("11.0.0.1:1", false);
        check("192.0.2.7:1", true);
        check("192.0.2.8:1", false);
        check("[::ffff:10.0.0.1]:1", true);
        check("[2001:db8:1:2::3]:1", true);
        check("[2001:db8:2::3]:1", false);
        assert!(!proxies(ForwardedHeader::XForwardedFor).list(None));
        let unix = Proxies::new(&["unix".into()], ForwardedHeader::XForwardedFor).unwrap();
        assert!(unix.list(None) && !unix.list(Some("10.0.0.1:1".parse().unwrap())));
        for bad in ["", "10.0.0.0/33", "proxy.example", "UNIX"] {
            let refused = Proxies::new(&[bad.into()], ForwardedHeader::XForwardedFor);
            assert_eq!(refused.err().as_deref(), Some(bad));
        }
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let check = |lines: &[&str], expected: &str| {
            let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
            let found = client(ForwardedHeader::XForwardedFor, "10.0.0.1:1", &lines);
            assert_eq!(found.as_deref(), Some(expected), "{lines:?}");
        };
        check(&["203.0.113.9"], "203.0.113.9");
        check(&["6.6.6.6, 203.0.113.9"], "203.0.113.9");
        check(&["6.6.6.6", "203.0.113.9,10.3.0.1"], "203.0.113.9");
        check(&["10.4.0.1, 10.3.0.1"], "10.4.0.1");
        check(&["203.0.113.9:4711"], "203.0.113.9");
        check(&["2001:db8::9"], "2001:db8::9");
        check(&["[2001:db8::9]:80"], "2001:db8::9");
        check(&["\", 203.0.113.9"], "203.0.113.9");
        check(&["ä\", 6.6.6.6, 203.0.113.9"], "203.0.113.9");
        check(&["6.6.6.6, unknown"], "none");
        check(&[], "none");
        let unlisted = client(
            ForwardedHeader::XForwardedFor,
            "203.0.113.1:1",
            &[("x-forwarded-for", "6.6.6.6")],
        );
        assert_eq!(unlisted, None);
    }

    #[test]
    fn an_entry_that_is_no_address_hides_those_before_it() {
        let found = client(
            ForwardedHeader::XForwardedFor,
            "10.0.0.1:1",
            &[("x-forwarded-for", "6.6.6.6, nonsense, 10.3.0.1")],
        );
        assert_eq!(found.as_deref(), Some("none"));
    }

    #[test]
    fn forwarded_tells_address_host_and_scheme() {
        let told = |text: &str| {
            let headers = headers(&[("forwarded", text), ("x-forwarded-for", "6.6.6.6")]);
            let peer = Some("10.0.0.1:1".parse().unwrap());
            proxies(ForwardedHeader::Forwarded).told(peer, &headers).unwrap()
        };
        let whole = told(
            "for=6.6.6.6;host=evil, For=\"[2001:db8::9]:47\";proto=https;host=\"app.example:81\", for=10.1.1.1;host=inner",
        );
        let expected = Told {
            client: Some("[2001:db8::9]:47".parse().unwrap()),
            host: Some(HeaderValue::from_static("app.example:81")),
            scheme: Some(Scheme::Https),
        };
        assert_eq!(whole, expected);
        assert_eq!(told("for=\"a,b;c\""), Told::default());
        assert_eq!(told("for=_hidden, for=10.1.1.1").client, Some("10.1.1.1:0".parse().unwrap()));
    }

    #[test]
    fn nothing_that_a_client_writes_before_a_proxy_hides_or_replaces_what_it_says() {
        let check = |sent: &str, appended: &str, expected: &str| {
            let line = format!("{sent}, {appended}");
            let found = client(ForwardedHeader::Forwarded, "10.0.0.1:1", &[("forwarded", &line)]);
            assert_eq!(found.as_deref(), Some(expected), "{line}");
        };
        for sent in [
            r#"for=6.6.6.6;x="\"""#,
            r#"for=6.6.6.6;x="\""#,
            r#"for=6.6.6.6;x=""#,
            r#"for=6.6.6.6;x="\"#,
            r#"for=6.6.6.6;x="a"b"#,
            "for=6.6.6.6;x=ä\"",
            "\"",
            "\\",
        ] {
            check(sent, "for=203.0.113.9", "203.0.113.9");
            check(sent, r#"for="[2001:db8::9]:47";proto=https"#, "2001:db8::9");
            check(sent, r#"for=203.0.113.9;host="x\"""#, "203.0.113.9");
        }
        check(r#"for=6.6.6.6;x=""#, "for=203.0.113.9, for=10.1.1.1", "10.1.1.1");
        check("\"", r#"for=203.0.113.9;host="x, for=6.6.6.6""#, "none");
        check("for=6.6.6.6", r#"for=203.0.113.9;host="x, for=6.6.6.6""#, "203.0.113.9");
    }

    #[test]
    fn the_nearest_proxy_tells_host_and_scheme() {
        let headers = headers(&[
            ("x-forwarded-host", "evil.example, app.example"),
            ("x-forwarded-proto", "http,https"),
            ("forwarded", "for=6.6.6.6;host=evil.example"),
        ]);
        let peer = Some("10.0.0.1:1".parse().unwrap());
        let told = proxies(ForwardedHeader::XForwardedFor).told(peer, &headers).unwrap();
        assert_eq!(told.host.unwrap(), "app.example");
        assert_eq!(told.scheme, Some(Scheme::Https));
        assert_eq!(told.client, None);
    }
}
