//! Calls on their way: many at a time, their answers in the order of the questions.

use crate::error::{Error, Result};
use std::collections::VecDeque;
use std::future::Future;
use tokio::task::JoinHandle;

/// A call that is given up with its owner.
struct Flight<T>(JoinHandle<Result<T>>);

impl<T> Drop for Flight<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Calls in the order in which they were begun, each with what it is called by.
pub(super) struct Window<N, T> {
    flights: VecDeque<(N, Flight<T>)>,
}

impl<N, T: Send + 'static> Window<N, T> {
    pub(super) fn new() -> Self {
        Self { flights: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Begins a call.
    pub(super) fn begin(&mut self, name: N, call: impl Future<Output = Result<T>> + Send + 'static) {
        self.flights.push_back((name, Flight(tokio::spawn(call))));
    }

    /// The answer to the oldest call; `None` when there is none on its way.
    pub(super) async fn next(&mut self) -> Option<(N, Result<T>)> {
        let (name, mut flight) = self.flights.pop_front()?;
        let answer = (&mut flight.0).await;
        let died = |error| Err(Error::io(format!("a task has died: {error}")));
        Some((name, answer.unwrap_or_else(died)))
    }

    /// Gives up what is on its way.
    pub(super) fn clear(&mut self) {
        self.flights.clear();
    }
}
