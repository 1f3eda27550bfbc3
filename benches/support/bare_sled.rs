//! The rows that an edit of a document touches, in sled with nothing around it.

use std::path::Path;

/// Bytes of a document's row, of its by-seq row and of a body that is kept beside them.
const DOC_BYTES: usize = 330;
const SEQ_BYTES: usize = 45;
const BODY_BYTES: usize = 240;

pub struct BareSled {
    db: sled::Db,
    file: std::fs::File,
    /// Of each document, by its number.
    seqs: Vec<u64>,
    last_seq: u64,
}

impl BareSled {
    pub fn open(directory: &Path, cache_bytes: u64, segment_bytes: usize) -> Self {
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(cache_bytes)
            .segment_size(segment_bytes)
            .flush_every_ms(None);
        let db = config.open().expect("sled opens");
        let file = std::fs::File::open(directory.join("db")).expect("sled's file");
        Self { db, file, seqs: Vec::new(), last_seq: 0 }
    }

    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Adds so many documents in one batch.
    pub fn add(&mut self, count: usize) {
        let mut batch = sled::Batch::default();
        for _ in 0..count {
            self.last_seq += 1;
            batch.insert(doc_key(self.seqs.len()), vec![b'd'; DOC_BYTES]);
            batch.insert(seq_key(self.last_seq), vec![b's'; SEQ_BYTES]);
            self.seqs.push(self.last_seq);
        }
        self.apply(batch);
    }

    /// Edits these documents in one batch, as the store does: each is read first.
    pub fn edit(&mut self, documents: &[usize]) {
        let mut batch = sled::Batch::default();
        for &number in documents {
            let key = doc_key(number);
            self.db.get(&key).expect("sled reads").expect("it was added");
            self.last_seq += 1;
            batch.remove(seq_key(self.seqs[number]));
            batch.insert(seq_key(self.last_seq), vec![b's'; SEQ_BYTES]);
            batch.insert(key, vec![b'D'; DOC_BYTES]);
            batch.insert(format!("b{number:010}").into_bytes(), vec![b'b'; BODY_BYTES]);
            self.seqs[number] = self.last_seq;
        }
        self.apply(batch);
    }

    fn apply(&self, batch: sled::Batch) {
        self.db.apply_batch(batch).expect("sled writes");
        self.db.flush().expect("sled flushes");
        self.file.sync_data().expect("the file is synced");
        // As the store does: without it sled's garbage grows for ever.
        for _ in 0..8 {
            crossbeam_epoch::pin().flush();
        }
    }
}

fn doc_key(number: usize) -> Vec<u8> {
    format!("ddocument-{number:09}").into_bytes()
}

fn seq_key(seq: u64) -> Vec<u8> {
    let mut key = vec![b's'];
    key.extend_from_slice(&seq.to_be_bytes());
    key
}
