use std::sync::Arc;

use bytes::Bytes;

use super::make::{Editor, create, name};
use crate::doc::{BlobHasher, BlobKey};
use crate::store::backend::{Backend, BlobWriter, DatabaseKey, StagedBlob};

super::conformance!(
    small_attachments_come_with_their_commit,
    large_attachments_are_streamed,
    attachments_belong_to_their_database,
);

pub(super) fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

pub(super) async fn stage(store: &dyn Backend, db: DatabaseKey, content: &[u8]) -> StagedBlob {
    let mut writer: Box<dyn BlobWriter> = store.write_blob(db).await.expect("a writer is given");
    for piece in content.chunks(10_000) {
        writer.write(Bytes::copy_from_slice(piece)).await.expect("a piece is taken");
    }
    writer.finish().await.expect("the bytes are taken")
}

pub(super) async fn read(store: &dyn Backend, db: DatabaseKey, key: &BlobKey) -> Option<Vec<u8>> {
    let mut reader = store.read_blob(db, key).await.expect("it is looked up")?;
    let mut all = Vec::new();
    while let Some(piece) = reader.next().await.expect("a piece is read") {
        assert!(!piece.is_empty() && piece.len() <= 64 * 1024);
        all.extend_from_slice(&piece);
    }
    Some(all)
}

async fn small_attachments_come_with_their_commit(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    for (n, length) in [0, 5, 30_000, 32 * 1024].into_iter().enumerate() {
        let content = bytes(length);
        let staged = stage(&*store, db, &content).await;
        assert_eq!(staged.blob, BlobHasher::of(&content));
        assert_eq!(staged.small.as_deref(), Some(&content[..]));
        assert_eq!(read(&*store, db, &staged.blob.key).await, None);
        let mut doc = editor.put(&format!("d{n}"), &["1-a"]);
        let key = staged.blob.key;
        doc.blobs.push(staged);
        editor.commit(&*store, db, vec![doc]).await;
        assert_eq!(read(&*store, db, &key).await, Some(content));
    }
}

async fn large_attachments_are_streamed(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    for length in [32 * 1024 + 1, 64 * 1024, 1_000_000] {
        let content = bytes(length);
        let staged = stage(&*store, db, &content).await;
        assert_eq!((staged.blob, staged.small), (BlobHasher::of(&content), None));
        assert!(read(&*store, db, &staged.blob.key).await == Some(content.clone()));
        // The same bytes taken twice are the same attachment.
        stage(&*store, db, &content).await;
        assert!(read(&*store, db, &staged.blob.key).await == Some(content));
    }
    let mut unfinished = store.write_blob(db).await.expect("a writer is given");
    unfinished.write(bytes(200_000).into()).await.expect("a piece is taken");
    drop(unfinished);
    assert_eq!(read(&*store, db, &BlobHasher::of(&bytes(200_000)).key).await, None);
}

async fn attachments_belong_to_their_database(store: Arc<dyn Backend>) {
    let (one, two) = (create(&*store, "one").await, create(&*store, "two").await);
    let staged = stage(&*store, one, &bytes(100_000)).await;
    assert_eq!(read(&*store, two, &staged.blob.key).await, None);
    store.destroy_database(&name("one")).await.expect("it is destroyed");
    assert_eq!(read(&*store, one, &staged.blob.key).await, None);
}
