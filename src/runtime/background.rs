//! Work that outlives the answer to its request.

use std::future::Future;
use std::rc::Rc;

use futures::channel::oneshot;
use futures::future::LocalBoxFuture;

/// Keeps futures running after their request was answered, or after its client has hung up.
#[derive(Clone)]
pub struct Background {
    spawn: Rc<dyn Fn(LocalBoxFuture<'static, ()>)>,
}

/// The rest of some work, which is done after its result was handed over.
pub type Rest = LocalBoxFuture<'static, ()>;

/// No further work.
pub fn nothing() -> Rest {
    Box::pin(std::future::ready(()))
}

/// The runtime dropped the work before it had a result.
#[derive(Debug, thiserror::Error)]
#[error("the runtime gave up background work")]
pub struct Dropped;

impl Background {
    /// A background that passes every future to `spawn`, which must run it to its end.
    pub fn new(spawn: impl Fn(LocalBoxFuture<'static, ()>) + 'static) -> Self {
        Self {
            spawn: Rc::new(spawn),
        }
    }

    /// Runs `work` to its end, whether or not anyone waits for it.
    pub fn run(&self, work: impl Future<Output = ()> + 'static) {
        (self.spawn)(Box::pin(work));
    }

    /// Runs `work` to its end even if the caller is dropped, and waits for its result. The rest of
    /// the work continues after that.
    ///
    /// # Errors
    ///
    /// Fails if the runtime drops the work.
    pub async fn finish<T: 'static>(
        &self,
        work: impl Future<Output = (T, Rest)> + 'static,
    ) -> Result<T, Dropped> {
        let (hand_over, result) = oneshot::channel();
        self.run(async move {
            let (value, rest) = work.await;
            // If the client has hung up, nobody waits for the result, but the rest must still be
            // done.
            let _ = hand_over.send(value);
            rest.await;
        });
        result.await.map_err(|_| Dropped)
    }
}
