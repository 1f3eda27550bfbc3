//! A light reader of live changes: it looks at frames and at the place at their end, and reads rows
//! only where it is told to, so that a thousand of them leave the processor to the gateway.

use std::collections::HashMap;
use std::time::Instant;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::process::Outcome;

/// Messages that may be under way to a subscriber; it asks for more when half have come.
pub const CREDIT: u32 = 16;

/// Bytes of a message's end that are kept; its place is among them.
const TAIL_BYTES: usize = 256;

/// A message that came: everything up to a place.
pub struct Arrival {
    pub at: Instant,
    pub last_seq: u64,
}

pub struct Subscriber {
    socket: TcpStream,
    buffer: Vec<u8>,
    reads_rows: bool,
    unpaid: u32,
    pub arrivals: Vec<Arrival>,
    /// Which document is at which place, by the numbers in both; where rows are read.
    pub places: HashMap<u64, usize>,
}

impl Subscriber {
    pub fn new(socket: TcpStream, reads_rows: bool) -> Self {
        let (arrivals, places) = (Vec::new(), HashMap::new());
        Self { socket, buffer: Vec::new(), reads_rows, unpaid: 0, arrivals, places }
    }

    /// Reads until everything up to a place has come, at least one message.
    pub async fn read_until(&mut self, seq: u64) -> Outcome<()> {
        loop {
            let last_seq = self.read_message().await?;
            self.unpaid += 1;
            if self.unpaid == CREDIT / 2 {
                self.unpaid = 0;
                let more = format!("[\"more\",1,1,{}]", CREDIT / 2);
                self.socket.write_all(&text_frame(&more)).await?;
            }
            if last_seq >= seq {
                return Ok(());
            }
        }
    }

    async fn read_message(&mut self) -> Outcome<u64> {
        const TEXT: u8 = 0x81;
        const EMPTY_PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
        let (mut head, mut length) = self.read_frame().await?;
        while self.buffer[0] != TEXT {
            self.buffer.drain(..head + length);
            self.socket.write_all(&EMPTY_PONG).await?;
            (head, length) = self.read_frame().await?;
        }
        let at = Instant::now();
        let text = &self.buffer[head..head + length];
        let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(TAIL_BYTES)..]);
        let (_, place) = tail
            .rsplit_once("\"last_seq\":\"")
            .ok_or_else(|| format!("a message without a place: {tail}"))?;
        let last_seq = seq_number(place)?;
        if self.reads_rows {
            let message: Value = serde_json::from_slice(text)?;
            for row in message[3].as_array().ok_or("a message without rows")? {
                let seq = seq_number(row["seq"].as_str().unwrap_or_default())?;
                let n = row["docs"][0]["n"].as_u64().ok_or("a row without its document")?;
                self.places.insert(seq, usize::try_from(n)?);
            }
        }
        self.buffer.drain(..head + length);
        self.arrivals.push(Arrival { at, last_seq });
        Ok(last_seq)
    }

    /// Bytes of the next frame's head and payload, when all of them are there.
    async fn read_frame(&mut self) -> Outcome<(usize, usize)> {
        loop {
            match frame_head(&self.buffer) {
                Some((head, length)) if self.buffer.len() >= head + length => {
                    return Ok((head, length));
                }
                _ => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Outcome<()> {
        self.buffer.reserve(16 * 1024);
        match self.socket.read_buf(&mut self.buffer).await? {
            0 => Err("the gateway hung up".into()),
            _ => Ok(()),
        }
    }
}

fn seq_number(seq: &str) -> Outcome<u64> {
    Ok(seq.split('-').next().unwrap_or_default().parse()?)
}

/// Bytes of a frame's head and of its payload, if the head is there.
fn frame_head(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1)? {
        126 => {
            let length = bytes.get(2..4)?.first_chunk::<2>()?;
            Some((4, usize::from(u16::from_be_bytes(*length))))
        }
        127 => {
            let length = bytes.get(2..10)?.first_chunk::<8>()?;
            Some((10, usize::try_from(u64::from_be_bytes(*length)).ok()?))
        }
        short => Some((2, usize::from(short))),
    }
}

/// The next message as it is.
pub async fn message(socket: &mut (impl AsyncRead + Unpin)) -> Outcome<String> {
    let mut head = vec![socket.read_u8().await?, socket.read_u8().await?];
    let (_, length) = loop {
        match frame_head(&head) {
            Some(found) => break found,
            None => head.push(socket.read_u8().await?),
        }
    };
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).await?;
    Ok(String::from_utf8(payload)?)
}

/// A text message of a client. Its mask of zeros leaves the payload as it is.
pub fn text_frame(text: &str) -> Vec<u8> {
    const TEXT: u8 = 0x81;
    const MASKED: u8 = 0x80;
    let mut frame = vec![TEXT];
    match u16::try_from(text.len()) {
        Ok(length) if length < 126 => frame.push(MASKED | length as u8),
        Ok(length) => {
            frame.push(MASKED | 0x7e);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(MASKED | 0x7f);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}
