//! A gate: only a few calls at a time do work that keeps the processor busy. The others wait in
//! front of it.
//!
//! Whoever waits looks again from time to time, because the runtime does not let one request wake
//! another. The runtime may also forget a call whose client has hung up, without dropping what the
//! call holds. So a place in the gate is free again after some seconds, whatever becomes of its
//! holder.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::clock::Clock;
use crate::domain::time::Timestamp;

/// The longest time until a call that waits looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Milliseconds after which a call stops waiting.
const WAIT: i64 = 10_000;
/// Milliseconds after which a call counts as gone. It may still be at work; then one more is.
const GONE: i64 = 5_000;

/// The calls that are inside.
#[derive(Default)]
pub struct Gate {
    inside: RefCell<Vec<Inside>>,
    last_id: Cell<u64>,
}

struct Inside {
    id: u64,
    name: String,
    since: Timestamp,
}

/// A place inside the gate, until it is dropped.
pub struct Pass<'a> {
    gate: &'a Gate,
    id: u64,
}

impl Gate {
    /// Goes in, unless `room` calls under this name are inside.
    pub fn try_enter(&self, clock: &dyn Clock, name: &str, room: usize) -> Option<Pass<'_>> {
        let now = clock.now();
        let mut inside = self.inside.borrow_mut();
        inside.retain(|one| now.since(one.since) < GONE);
        if inside.iter().filter(|one| one.name == name).count() >= room {
            return None;
        }
        let id = self.last_id.get().wrapping_add(1);
        self.last_id.set(id);
        inside.push(Inside {
            id,
            name: name.to_owned(),
            since: now,
        });
        Some(Pass { gate: self, id })
    }

    /// Waits until there is room under this name. Returns `None` if there is none for too long.
    pub async fn enter(&self, clock: &dyn Clock, name: &str, room: usize) -> Option<Pass<'_>> {
        let began = clock.now();
        loop {
            if let Some(pass) = self.try_enter(clock, name, room) {
                return Some(pass);
            }
            if clock.now().since(began) > WAIT {
                return None;
            }
            clock.jitter(LOOK_AGAIN).await;
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut inside = self.gate.inside.borrow_mut();
        inside.retain(|one| one.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use async_trait::async_trait;
    use futures::executor::LocalPool;
    use futures::future::{Either, select};
    use futures::task::LocalSpawnExt as _;

    use super::*;

    /// Time passes when a test says so, or when everybody sleeps.
    #[derive(Default)]
    struct Moments(Cell<i64>);

    #[async_trait(?Send)]
    impl Clock for Moments {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.get())
        }

        fn random(&self, bytes: &mut [u8]) {
            bytes.fill(128);
        }

        async fn sleep(&self, duration: Duration) {
            let until = self.0.get() + i64::try_from(duration.as_millis()).unwrap();
            std::future::poll_fn(|context| {
                if self.0.get() >= until {
                    return std::task::Poll::Ready(());
                }
                self.0.set(self.0.get() + 1);
                context.waker().wake_by_ref();
                std::task::Poll::Pending
            })
            .await;
        }
    }

    #[test]
    fn there_is_room_for_so_many_under_each_name() {
        let (gate, clock) = (Gate::default(), Moments::default());
        let enter = |name: &str| gate.try_enter(&clock, name, 2);
        let first = enter("home").unwrap();
        let _second = enter("home").unwrap();
        assert!(enter("home").is_none());
        let _other = enter("office").unwrap();
        drop(first);
        let _third = enter("home").unwrap();
        assert!(enter("home").is_none());
    }

    #[test]
    fn who_waits_goes_in_when_another_is_done_or_dropped() {
        let (gate, clock) = (Rc::new(Gate::default()), Rc::new(Moments::default()));
        let mut pool = LocalPool::new();
        let at_work = {
            let (gate, clock) = (gate.clone(), clock.clone());
            let work = async move {
                let _pass = gate.enter(clock.as_ref(), "home", 1).await.unwrap();
                std::future::pending::<()>().await;
            };
            pool.spawner().spawn_local_with_handle(work).unwrap()
        };
        pool.run_until_stalled();
        assert!(gate.try_enter(clock.as_ref(), "home", 1).is_none());
        let waits = async { gate.enter(clock.as_ref(), "home", 1).await.is_some() };
        // Its future is dropped while it is inside.
        drop(at_work);
        assert!(pool.run_until(waits));
        assert!(
            clock.0.get() < GONE,
            "it did not wait until the other was gone"
        );
        assert!(gate.inside.borrow().is_empty());
    }

    #[test]
    fn a_forgotten_call_keeps_its_place_for_some_seconds_only() {
        let (gate, clock) = (Gate::default(), Moments::default());
        let forgotten = gate.try_enter(&clock, "home", 1).unwrap();
        let next = futures::executor::block_on(gate.enter(&clock, "home", 1));
        let next = next.unwrap();
        assert!((GONE..WAIT).contains(&clock.0.get()));
        // If the forgotten one comes back, it gives up nobody else's place.
        drop(forgotten);
        assert!(gate.try_enter(&clock, "home", 1).is_none());
        drop(next);
        assert!(gate.inside.borrow().is_empty());
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (gate, clock) = (Gate::default(), Moments::default());
        // Others go in and out before it all the time.
        let crowd = async {
            loop {
                gate.inside.borrow_mut().clear();
                let pass = gate.try_enter(&clock, "home", 1).unwrap();
                clock.sleep(Duration::from_millis(1)).await;
                std::mem::forget(pass);
            }
        };
        let waits = async { gate.enter(&clock, "home", 1).await.is_none() };
        let both = select(Box::pin(crowd), Box::pin(waits));
        let gave_up = match futures::executor::block_on(both) {
            Either::Left((never, _)) => never,
            Either::Right((gave_up, _)) => gave_up,
        };
        assert!(gave_up);
        assert!(clock.0.get() > WAIT);
    }
}
