//! Calls of one kind that are under way at the same moment, made as one: they share a round trip, and a commit.
//!
//! Nobody waits for company. Whoever comes while no call is under way makes one at once; what comes meanwhile is taken along
//! by the next, which leaves as soon as the last one is back. So a call alone costs what it did, and the more there are at
//! once, the less each costs.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::domain::name::Name;
use crate::domain::renewal::Renewal;
use crate::store::{Making, Named, StoreError, Write};

/// How many are made as one at most.
const MOST: usize = 256;

/// How long the next call waits for the last one. Where a call hangs, others are not held up by it.
const PATIENCE: Duration = Duration::from_millis(100);

/// Calls that are made as one: what is asked for, and who waits for the answer.
pub(super) struct Together<A, T> {
    waiting: Mutex<Waiting<A, T>>,
    /// Belongs to who makes the next call.
    turn: tokio::sync::Mutex<()>,
}

/// What no call has taken along yet, in the order in which it came.
struct Waiting<A, T> {
    asked: VecDeque<(A, oneshot::Sender<T>)>,
    /// How many have been taken along.
    taken: u64,
}

impl<A, T> Default for Together<A, T> {
    fn default() -> Together<A, T> {
        let waiting = Mutex::new(Waiting { asked: VecDeque::new(), taken: 0 });
        Together { waiting, turn: tokio::sync::Mutex::default() }
    }
}

impl<A: Clone, T> Together<A, T> {
    /// Asks, with all who do so meanwhile. `work` makes one call of many, and answers in their order. It is made by one of
    /// those who ask; where that one goes away, the others ask anew, so that what was asked for may be done twice.
    pub async fn ask<W: Future<Output = Vec<T>>>(&self, asked: A, work: impl Fn(Vec<A>) -> W) -> T {
        loop {
            let (answer, mut answered) = oneshot::channel();
            let number = {
                let mut waiting = self.waiting();
                waiting.asked.push_back((asked.clone(), answer));
                waiting.taken + waiting.asked.len() as u64
            };
            let turn = tokio::select! {
                biased;
                answered = &mut answered => match answered {
                    Ok(answer) => return answer,
                    Err(_) => continue,
                },
                turn = self.turn.lock() => turn,
            };
            let mut turn = Some(turn);
            while self.waiting().taken < number {
                self.make(&work, &mut turn).await;
            }
            // Who has taken it along may have let go of the turn.
            drop(turn);
            if let Ok(answer) = answered.await {
                return answer;
            }
        }
    }

    /// Makes a call of those that wait, and gives each its answer. The turn is let go where the call takes long.
    async fn make<W: Future<Output = Vec<T>>, U>(&self, work: &impl Fn(Vec<A>) -> W, turn: &mut Option<U>) {
        let (asked, answers): (Vec<_>, Vec<_>) = {
            let mut waiting = self.waiting();
            let count = waiting.asked.len().min(MOST);
            waiting.taken += count as u64;
            // Nobody waits any more for what was asked by who has gone away.
            waiting.asked.drain(..count).filter(|(_, answer)| !answer.is_closed()).unzip()
        };
        let mut made = std::pin::pin!(work(asked));
        let made = match timeout(PATIENCE, &mut made).await {
            Ok(made) => made,
            Err(_) => {
                *turn = None;
                made.await
            }
        };
        // Who has gone away meanwhile needs none.
        answers.into_iter().zip(made).for_each(|(answer, made)| drop(answer.send(made)));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<A, T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reads and the writes of claims under way.
#[derive(Default)]
pub(super) struct Renewals {
    pub(super) reads: Together<Name, Made<Named>>,
    pub(super) writes: Together<Renewal, Made<Write>>,
    /// Of first claims.
    pub(super) makings: Together<Making, Made<Option<Write>>>,
}

/// What became of one of several calls of the store that were made as one.
pub(super) enum Made<T> {
    /// It has this answer.
    Answer(Result<T, StoreError>),
    /// They failed, perhaps for the sake of one of them: it is to be made apart.
    Apart,
}

/// What became of each of `count` calls that were made as one. Where the store is away or can't be written to, all of them have failed.
pub(super) fn each<T>(made: Result<Vec<T>, StoreError>, count: usize) -> Vec<Made<T>> {
    match made {
        Ok(answers) => answers.into_iter().map(|answer| Made::Answer(Ok(answer))).collect(),
        Err(error @ (StoreError::Unavailable(_) | StoreError::Unwritable(_))) => {
            (0..count).map(|_| Made::Answer(Err(error.clone()))).collect()
        }
        Err(error) if count == 1 => vec![Made::Answer(Err(error))],
        Err(_) => (0..count).map(|_| Made::Apart).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    /// Notes which calls are made as one, and makes each once it is let.
    #[derive(Default)]
    struct Calls {
        together: Together<u32, u32>,
        made: Mutex<Vec<Vec<u32>>>,
        go: Notify,
    }

    impl Calls {
        async fn ask(&self, number: u32) -> u32 {
            let work = async |asked: Vec<u32>| {
                self.made.lock().unwrap().push(asked.clone());
                self.go.notified().await;
                asked.iter().map(|number| number * 2).collect()
            };
            self.together.ask(number, work).await
        }

        fn made(&self) -> Vec<Vec<u32>> {
            self.made.lock().unwrap().clone()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_a_call_is_under_way_leaves_with_the_next_one_and_each_has_its_own_answer() {
        let calls = Arc::new(Calls::default());
        let mut first = std::pin::pin!(calls.ask(1));
        assert!(futures::poll!(&mut first).is_pending());
        assert_eq!(calls.made(), [vec![1]], "it waits for no company");
        let mut others = std::pin::pin!(join_all((2..600).map(|number| calls.ask(number))));
        assert!(futures::poll!(&mut others).is_pending());
        assert_eq!(calls.made().len(), 1);
        calls.go.notify_one();
        assert_eq!(first.await, 2);
        let mut done = None;
        while done.is_none() {
            calls.go.notify_one();
            tokio::task::yield_now().await;
            if let std::task::Poll::Ready(answers) = futures::poll!(&mut others) {
                done = Some(answers);
            }
        }
        assert_eq!(done.unwrap(), (2..600).map(|number| number * 2).collect::<Vec<_>>());
        let sizes: Vec<_> = calls.made().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, MOST, MOST, 598 - 2 * MOST]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_takes_nothing_from_the_others() {
        let calls = Calls::default();
        let mut first = Box::pin(calls.ask(1));
        assert!(futures::poll!(&mut first).is_pending());
        let (mut second, mut third) = (Box::pin(calls.ask(2)), Box::pin(calls.ask(3)));
        let mut fourth = Box::pin(calls.ask(4));
        assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut third).is_pending());
        assert!(futures::poll!(&mut fourth).is_pending());
        drop(third);
        calls.go.notify_one();
        assert_eq!(first.await, 2);
        // The second makes the call for the fourth, and goes away.
        assert!(futures::poll!(&mut second).is_pending());
        drop(second);
        calls.go.notify_one();
        assert_eq!(fourth.await, 8);
        assert_eq!(calls.made(), [vec![1], vec![2, 4], vec![4]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_holds_up_no_other() {
        let calls = Calls::default();
        let mut hangs = Box::pin(calls.ask(1));
        assert!(futures::poll!(&mut hangs).is_pending());
        let mut second = Box::pin(calls.ask(2));
        assert!(futures::poll!(&mut second).is_pending());
        tokio::time::advance(PATIENCE).await;
        assert!(futures::poll!(&mut hangs).is_pending());
        assert!(futures::poll!(&mut second).is_pending());
        assert_eq!(calls.made(), [vec![1], vec![2]]);
        // Nor does who is taken along by one that hangs.
        let (mut third, mut fourth) = (Box::pin(calls.ask(3)), Box::pin(calls.ask(4)));
        assert!(futures::poll!(&mut third).is_pending() && futures::poll!(&mut fourth).is_pending());
        tokio::time::advance(PATIENCE).await;
        assert!(futures::poll!(&mut second).is_pending() && futures::poll!(&mut third).is_pending());
        tokio::time::advance(PATIENCE).await;
        assert!(futures::poll!(&mut third).is_pending() && futures::poll!(&mut fourth).is_pending());
        let mut fifth = Box::pin(calls.ask(5));
        assert!(futures::poll!(&mut fifth).is_pending());
        assert_eq!(calls.made(), [vec![1], vec![2], vec![3, 4], vec![5]]);
        calls.go.notify_waiters();
        assert_eq!((fifth.await, second.await, hangs.await), (10, 4, 2));
        assert_eq!((third.await, fourth.await), (6, 8));
    }

    #[test]
    fn what_fails_is_made_apart_unless_the_store_is_away() {
        let failed = each::<u32>(Err(StoreError::Failed("odd".into())), 2);
        assert!(failed.iter().all(|made| matches!(made, Made::Apart)));
        for error in [StoreError::Unavailable("away".into()), StoreError::Unwritable("full".into())] {
            let failed = each::<u32>(Err(error), 2);
            assert!(failed.len() == 2 && failed.iter().all(|made| matches!(made, Made::Answer(Err(_)))));
        }
        let alone = each::<u32>(Err(StoreError::Failed("odd".into())), 1);
        assert!(matches!(alone[..], [Made::Answer(Err(_))]));
    }
}
