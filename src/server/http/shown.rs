//! Documents as answers show them: with stubs, or with their attachments' bytes streamed in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use serde_json::json;

use crate::doc::{Attachment, Attachments, Document};
use crate::store::Database;

use super::answer::{Out, Stop};

/// Which attachments are shown with their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bytes {
    /// None.
    Stubs,
    /// Those that were added after this generation; 0 for all of them.
    After(u64),
}

impl Bytes {
    pub(super) fn all_if(all: bool) -> Self {
        if all { Self::After(0) } else { Self::Stubs }
    }

    pub(super) fn includes(self, attachment: &Attachment) -> bool {
        match self {
            Self::Stubs => false,
            // One that does not tell its generation may be new.
            Self::After(generation) => attachment.revpos == 0 || attachment.revpos > generation,
        }
    }
}

/// Writes a document's JSON.
pub(super) async fn write_document(
    out: &mut Out,
    database: &Database,
    mut document: Document,
    bytes: Bytes,
) -> Result<(), Stop> {
    if !document.attachments.values().any(|attachment| bytes.includes(attachment)) {
        return out.text(&document.to_json()).await;
    }
    let attachments = std::mem::take(&mut document.attachments);
    let text = document.to_json();
    let open = text.strip_suffix('}').unwrap_or(&text);
    out.text(open).await?;
    out.text(",\"_attachments\":{").await?;
    write_attachments(out, database, &attachments, bytes).await?;
    out.text("}}").await
}

async fn write_attachments(
    out: &mut Out,
    database: &Database,
    attachments: &Attachments,
    bytes: Bytes,
) -> Result<(), Stop> {
    for (index, (name, attachment)) in attachments.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        out.text(&format!("{comma}{}:", json!(name))).await?;
        let told = attachment_json(attachment);
        if !bytes.includes(attachment) {
            let length = attachment.length().unwrap_or_default();
            out.text(&format!("{told},\"length\":{length},\"stub\":true}}")).await?;
            continue;
        }
        out.text(&format!("{told},\"data\":\"")).await?;
        write_base64(out, database, attachment).await?;
        out.text("\"}").await?;
    }
    Ok(())
}

/// What is told of every attachment, without its length and the closing brace.
fn attachment_json(attachment: &Attachment) -> String {
    use std::fmt::Write as _;
    let mut text = format!("{{\"content_type\":{}", json!(attachment.content_type));
    let _ = write!(text, ",\"revpos\":{}", attachment.revpos);
    if let Some(digest) = attachment.digest() {
        let _ = write!(text, ",\"digest\":\"{digest}\"");
    }
    text
}

async fn write_base64(
    out: &mut Out,
    database: &Database,
    attachment: &Attachment,
) -> Result<(), Stop> {
    let mut reader = database.open_attachment(attachment.clone()).await?;
    let mut rest = BytesMut::new();
    while let Some(piece) = reader.next().await? {
        rest.extend_from_slice(&piece);
        // Three bytes are four characters: what is left over waits for the next piece.
        let whole = rest.split_to(rest.len() / 3 * 3);
        out.text(&STANDARD.encode(whole)).await?;
    }
    out.text(&STANDARD.encode(rest)).await
}
