//! Answers that are remembered, and equal requests that wait for one answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::access::secret::Digest;

use super::answer::Answer;

/// Remembers answers by digests of their requests.
#[derive(Debug)]
pub(super) struct Memo {
    usual: Duration,
    max: usize,
    known: Mutex<HashMap<Digest, Entry>>,
}

#[derive(Debug, Clone)]
struct Entry {
    answer: Arc<OnceCell<Answer>>,
    /// `None` while the answer is awaited.
    until: Option<Instant>,
}

impl Memo {
    pub(super) fn new(usual: Duration, max: usize) -> Self {
        Self { usual, max, known: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a request: remembered, awaited by somebody else already, or fetched.
    ///
    /// # Cancel safety
    /// Whoever waits for the same answer fetches it in the place of who was dropped.
    pub(super) async fn get<F>(&self, key: Digest, fetch: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Answer>,
    {
        let cell = self.entry(key);
        let mut fetched = false;
        let answer = cell
            .get_or_init(|| {
                fetched = true;
                fetch()
            })
            .await
            .clone();
        if fetched {
            self.settle(key, &cell, &answer);
        }
        answer
    }

    fn entry(&self, key: Digest) -> Arc<OnceCell<Answer>> {
        let now = Instant::now();
        let mut known = self.lock();
        let fresh = |entry: &Entry| entry.until.is_none_or(|until| now < until);
        if let Some(entry) = known.get(&key).filter(|entry| fresh(entry)) {
            return Arc::clone(&entry.answer);
        }
        if known.len() >= self.max {
            // What is remembered makes room; what somebody waits for has a second owner.
            known.retain(|_, entry| Arc::strong_count(&entry.answer) > 1);
        }
        let answer = Arc::new(OnceCell::new());
        if known.len() < self.max {
            known.insert(key, Entry { answer: Arc::clone(&answer), until: None });
        }
        answer
    }

    /// Remembers an answer from here on, or not.
    fn settle(&self, key: Digest, cell: &Arc<OnceCell<Answer>>, answer: &Answer) {
        let mut known = self.lock();
        // It may have been forgotten meanwhile, and asked for anew.
        if known.get(&key).is_none_or(|entry| !Arc::ptr_eq(&entry.answer, cell)) {
            return;
        }
        let until = answer.memory(self.usual).and_then(|time| Instant::now().checked_add(time));
        match until {
            Some(until) => {
                known.insert(key, Entry { answer: Arc::clone(cell), until: Some(until) });
            }
            None => {
                known.remove(&key);
            }
        }
    }

    /// Forgets everything: requests that come from here on are asked anew.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn denied() -> Answer {
        Answer::parse(br#"{"denied":{"reason":"no"}}"#).unwrap()
    }

    #[tokio::test]
    async fn equal_requests_share_one_call_and_its_failure() {
        let memo = Memo::new(Duration::from_secs(60), 10);
        let calls = AtomicUsize::new(0);
        let get = |key: u8, answer: Answer| {
            let calls = &calls;
            memo.get([key; 32], move || async move {
                calls.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                answer
            })
        };
        tokio::join!(get(1, denied()), get(1, denied()), get(1, denied()), get(2, denied()));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        get(1, denied()).await;
        assert_eq!(calls.load(Ordering::Relaxed), 2, "it is remembered");
        memo.forget();
        get(1, denied()).await;
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        tokio::join!(get(3, Answer::Failed), get(3, Answer::Failed));
        assert_eq!(calls.load(Ordering::Relaxed), 4, "a failure is shared");
        get(3, denied()).await;
        assert_eq!(calls.load(Ordering::Relaxed), 5, "and not remembered");
    }

    #[tokio::test]
    async fn one_that_is_dropped_is_fetched_by_who_waits() {
        let memo = Memo::new(Duration::from_secs(60), 10);
        let mut dropped = Box::pin(memo.get([1; 32], std::future::pending));
        assert!(futures::poll!(&mut dropped).is_pending());
        let mut waiting = Box::pin(memo.get([1; 32], || async { denied() }));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(dropped);
        assert!(matches!(waiting.await, Answer::Denied { .. }));
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let memo = Memo::new(Duration::from_secs(60), 3);
        for key in 0..10 {
            memo.get([key; 32], || async { denied() }).await;
            assert!(memo.lock().len() <= 3);
        }
        let none = Memo::new(Duration::ZERO, 3);
        none.get([1; 32], || async { denied() }).await;
        let answer = none.get([1; 32], || async { Answer::Unknown }).await;
        assert!(matches!(answer, Answer::Unknown), "zero remembers nothing");
    }
}
