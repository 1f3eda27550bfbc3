//! Bodies that come compressed: decoded piece by piece, so that few bytes cannot become many at
//! once.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzDecoder;
use futures::{Stream, StreamExt as _};

use crate::proto::message::WireError;
use crate::server::error::{HttpRefusal, ToWire as _};

/// Compressed bytes decoded at a time. Deflate makes at most about 1,000 times as many of them.
const STEP_BYTES: usize = 256;

/// A decoder and the compressed bytes it has not seen yet.
pub(super) struct Gunzip<S> {
    source: S,
    decoder: Option<GzDecoder<Vec<u8>>>,
    waiting: Bytes,
}

impl<S> Gunzip<S>
where
    S: Stream<Item = Result<Bytes, WireError>> + Send + 'static,
{
    /// The decoded bytes of a compressed body.
    pub(super) fn pieces(source: S) -> impl Stream<Item = Result<Bytes, WireError>> + Send {
        let decoder = Some(GzDecoder::new(Vec::new()));
        let gunzip = Gunzip { source: Box::pin(source), decoder, waiting: Bytes::new() };
        futures::stream::unfold(gunzip, |mut gunzip| async move {
            let piece = gunzip.next_piece().await.transpose()?;
            if piece.is_err() {
                gunzip.decoder = None;
            }
            Some((piece, gunzip))
        })
    }
}

impl<S: Stream<Item = Result<Bytes, WireError>> + Unpin> Gunzip<S> {
    async fn next_piece(&mut self) -> Result<Option<Bytes>, WireError> {
        let bad = || HttpRefusal::BadGzip.to_wire();
        loop {
            let Some(decoder) = &mut self.decoder else { return Ok(None) };
            if self.waiting.is_empty() {
                match self.source.next().await.transpose()? {
                    Some(piece) => self.waiting = piece,
                    None => {
                        let decoder = self.decoder.take().ok_or_else(bad)?;
                        let rest = decoder.finish().map_err(|_| bad())?;
                        return Ok((!rest.is_empty()).then(|| rest.into()));
                    }
                }
                continue;
            }
            let step = self.waiting.split_to(self.waiting.len().min(STEP_BYTES));
            // The decoder is done with the first member of the file: what follows is not taken.
            decoder.write_all(&step).map_err(|_| bad())?;
            let decoded = std::mem::take(decoder.get_mut());
            if !decoded.is_empty() {
                return Ok(Some(decoded.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn gunzip(bytes: &[u8], cut: usize) -> Result<Vec<u8>, WireError> {
        let pieces: Vec<_> = bytes.chunks(cut).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let mut found = Vec::new();
        let mut decoded = Box::pin(Gunzip::pieces(futures::stream::iter(pieces)));
        while let Some(piece) = decoded.next().await {
            found.extend_from_slice(&piece?);
        }
        Ok(found)
    }

    #[tokio::test]
    async fn decodes_in_any_pieces_and_refuses_the_rest() {
        let plain: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&plain).unwrap();
        let packed = encoder.finish().unwrap();
        for cut in [1, 7, 4096, packed.len()] {
            assert_eq!(gunzip(&packed, cut).await.unwrap(), plain, "{cut}");
        }
        for bad in [&packed[..packed.len() - 3], b"not gzip", b"", &packed[5..]] {
            assert_eq!(gunzip(bad, 100).await.unwrap_err().status, 400);
        }
    }
}
