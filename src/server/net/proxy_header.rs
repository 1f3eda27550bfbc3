//! The PROXY protocol, versions 1 and 2: a proxy tells whom it speaks for before anything else.

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of a header of version 1, with its line's end; so says its specification.
const V1_BYTES_MAX: usize = 107;

/// Bytes of a header of version 2 without its first 16: addresses, and what proxies add to them.
const V2_BYTES_MAX: usize = 4096;

/// Reads a header and nothing after it; the client's address, `None` where the proxy speaks for
/// itself.
///
/// # Errors
/// `InvalidData` for anything that is no PROXY header; the stream's own.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        header.resize(16, 0);
        stream.read_exact(&mut header[12..]).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > V2_BYTES_MAX {
            return Err(malformed());
        }
        header.resize(16 + length, 0);
        stream.read_exact(&mut header[16..]).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() == V1_BYTES_MAX {
                return Err(malformed());
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(malformed());
    }
    address(&header).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it does not begin with a PROXY header")
}

/// The outer `None` is for a header that cannot be read.
fn address(header: &[u8]) -> Option<Option<SocketAddr>> {
    match HeaderResult::parse(header) {
        HeaderResult::V1(header) => match header.ok()?.addresses {
            v1::Addresses::Unknown => Some(None),
            v1::Addresses::Tcp4(ip) => Some(Some((ip.source_address, ip.source_port).into())),
            v1::Addresses::Tcp6(ip) => Some(Some((ip.source_address, ip.source_port).into())),
        },
        HeaderResult::V2(header) => {
            let header = header.ok()?;
            if header.command == v2::Command::Local {
                return Some(None);
            }
            match header.addresses {
                v2::Addresses::IPv4(ip) => Some(Some((ip.source_address, ip.source_port).into())),
                v2::Addresses::IPv6(ip) => Some(Some((ip.source_address, ip.source_port).into())),
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => Some(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(bytes: &[u8], expected: Option<Option<&str>>) {
        let mut stream = bytes;
        let read = read(&mut stream).await;
        let expected = expected.map(|address| address.map(|text| text.parse().unwrap()));
        assert_eq!(read.ok(), expected, "{bytes:?}");
        if expected.is_some() {
            assert_eq!(stream, b"GET", "what follows is not the header's");
        }
    }

    #[tokio::test]
    async fn both_versions_are_read_and_nothing_after_them() {
        let v1 = |line: &str| format!("{line}\r\nGET").into_bytes();
        check(&v1("PROXY TCP4 192.0.2.1 10.0.0.1 5000 80"), Some(Some("192.0.2.1:5000"))).await;
        check(&v1("PROXY TCP6 2001:db8::1 ::1 5000 80"), Some(Some("[2001:db8::1]:5000"))).await;
        check(&v1("PROXY UNKNOWN"), Some(None)).await;
        let v2 = |command: u8, family: u8, rest: &[u8]| {
            let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
            [SIGNATURE, &[0x20 | command, family][..], &length, rest, b"GET"].concat()
        };
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x13, 0x88, 0, 80];
        check(&v2(1, 0x11, &v4), Some(Some("192.0.2.1:5000"))).await;
        check(&v2(0, 0x11, &v4), Some(None)).await;
        check(&v2(0, 0, &[]), Some(None)).await;
        let with_more = [&v4[..], &[0x04, 0, 2, 1, 2]].concat();
        check(&v2(1, 0x11, &with_more), Some(Some("192.0.2.1:5000"))).await;
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        check(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n", None).await;
        check(b"PROXY TCP4 192.0.2.1\r\nGET", None).await;
        check(b"PROXY TCP4 192.0.2.256 10.0.0.1 5000 80\r\nGET", None).await;
        check(format!("PROXY TCP4 {}\r\n", "1".repeat(200)).as_bytes(), None).await;
        check(&[SIGNATURE, &[0x21, 0x11, 0x10, 0x01][..], &[0; 0x1001]].concat(), None).await;
        check(&[SIGNATURE, &[0x31, 0x11, 0, 12][..], &[0; 12]].concat(), None).await;
        check(b"PROXY", None).await;
    }
}
