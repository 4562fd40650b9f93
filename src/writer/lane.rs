//! One table's way in: sends what its queue has gathered.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::sleep_until;
use uuid::Uuid;

use super::batch::Batch;
use super::part::Outcome;
use super::queue::{Answer, Gathered, Next, Queue, refused};
use super::shared::Shared;
use super::sql;
use crate::records::Record;

/// The lane's task: ends when its queue has ended and everything is sent. While batches are under
/// way, each in a task of its own, the queue gathers the next one.
pub(super) async fn run<R: Record>(shared: Arc<Shared>, queue: Arc<Queue<R>>) {
    // Even if a batch's task panics, those who wait are told.
    let _gone = Abandon(&*queue);
    let slots = if sql::last_wins(R::TABLE) { 1 } else { shared.config.connections };
    let mut under_way = JoinSet::new();
    loop {
        let mut due = None;
        while under_way.len() < slots {
            match queue.next() {
                Next::Send(batch) => drop(under_way.spawn(store(shared.clone(), queue.clone(), batch))),
                Next::Wait(until) => {
                    due = Some(until);
                    break;
                }
                Next::Idle => break,
                Next::End if under_way.is_empty() => return,
                Next::End => break,
            }
        }
        // Idle: nothing runs until the first record comes.
        tokio::select! {
            Some(done) = under_way.join_next() => if let Err(error) = done && error.is_panic() {
                std::panic::resume_unwind(error.into_panic());
            },
            () = queue.changed.notified() => {}
            () = async { sleep_until(due.expect("asked only if there is one")).await }, if due.is_some() => {}
        }
    }
}

/// Sends a batch until it is stored and tells who waits for it.
async fn store<R: Record>(shared: Arc<Shared>, queue: Arc<Queue<R>>, batch: Gathered<R>) {
    let Gathered { number, rows, bytes, answers, .. } = batch;
    let count = rows.len() as u64;
    let mut batch = Batch::freeze(Uuid::now_v7(), shared.config.producer.clone(), rows, false);
    let outcome = shared.store(&mut batch).await;
    shared.counters.left(count, bytes);
    answer::<R>(answers, outcome);
    queue.stored(number, count, bytes);
}

fn answer<R: Record>(answers: Vec<Answer>, mut outcome: Outcome) {
    outcome.refused.sort_by_key(|refused| refused.place);
    for (place, answer) in answers {
        let fate = match outcome.refused.binary_search_by_key(&place, |refused| refused.place) {
            Ok(at) => Err(refused(R::TABLE, &outcome.refused[at].reason)),
            Err(_) => Ok(()),
        };
        let _ = answer.send(fate);
    }
}

struct Abandon<'a, R>(&'a Queue<R>);

impl<R> Drop for Abandon<'_, R> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
