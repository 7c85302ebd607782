//! Work that outlives the answer to its request.

use std::future::Future;
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::LocalBoxFuture;

/// Keeps futures running after their request was answered, or its client has hung up.
#[derive(Clone)]
pub struct Background {
    spawn: Rc<dyn Fn(LocalBoxFuture<'static, ()>)>,
}

/// The rest of some work, to be done after its result was handed over.
pub type Rest = LocalBoxFuture<'static, ()>;

/// No work is left.
pub fn nothing() -> Rest {
    Box::pin(std::future::ready(()))
}

/// The runtime dropped work before it had a result.
#[derive(Debug, thiserror::Error)]
#[error("the runtime gave up background work")]
pub struct Dropped;

impl Background {
    /// A background that hands every future to `spawn`, which runs it to its end.
    pub fn new(spawn: impl Fn(LocalBoxFuture<'static, ()>) + 'static) -> Self {
        Self {
            spawn: Rc::new(spawn),
        }
    }

    /// Runs `work` to its end, whoever waits for it.
    pub fn run(&self, work: impl Future<Output = ()> + 'static) {
        (self.spawn)(Box::pin(work));
    }

    /// Runs `work` to its end even if the caller is dropped, and waits for its result; what
    /// it leaves to be done goes on after that.
    ///
    /// # Errors
    ///
    /// The runtime gave up.
    pub async fn finish<T: 'static>(
        &self,
        work: impl Future<Output = (T, Rest)> + 'static,
    ) -> Result<T, Dropped> {
        let (hand_over, result) = oneshot::channel();
        self.run(async move {
            let (value, rest) = work.await;
            // Nobody waits any more when the client has hung up; the rest is due all the same.
            let _ = hand_over.send(value);
            rest.await;
        });
        result.await.map_err(|_| Dropped)
    }
}
