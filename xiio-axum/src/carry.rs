//! What carries WebSockets over HTTP/2: the connection and tasks of hyper's, which write what the sockets have sent. Cancelled with the server,
//! they go on as long as a socket has to say goodbye.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::rt::Executor;
use xiio::compat::GroupExecutor;
use xiio::{Promise, bracket, race};

/// The open WebSockets of one connection. Each is set when it is closed.
#[derive(Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<Vec<Promise<()>>>>);

impl Sockets {
    /// Counts a socket until this is dropped.
    pub(crate) fn open(&self) -> OpenSocket {
        let socket = Promise::new();
        let mut sockets = self.lock();
        sockets.retain(|socket| !socket.is_set());
        sockets.push(socket.clone());
        OpenSocket(socket)
    }

    /// Forgets all of them: nothing carries them any more.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    /// Comes when all are closed.
    async fn closed(&self) {
        while let Some(socket) = self.any_open() {
            socket.wait().await;
        }
    }

    fn any_open(&self) -> Option<Promise<()>> {
        self.lock().iter().find(|socket| !socket.is_set()).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Promise<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct OpenSocket(Promise<()>);

impl Drop for OpenSocket {
    fn drop(&mut self) {
        let _ = self.0.set(());
    }
}

/// Runs what carries the sockets, to its end. When it is cancelled, it goes on until they are closed.
pub(crate) async fn carry(carrier: impl Future<Output = ()>, sockets: &Sockets) {
    let carrier = Some(pin!(carrier));
    let usage = async |carrier: &mut Option<_>| {
        if let Some(running) = carrier {
            running.await;
        }
        *carrier = None;
    };
    let release = async |carrier| {
        if let Some(running) = carrier
            && sockets.any_open().is_some()
        {
            race!(() = sockets.closed() => {}, () = running => {});
        }
    };
    bracket(carrier, usage, release).await;
}

/// Runs the tasks of hyper's that carry sockets.
#[derive(Clone)]
pub(crate) struct Carriers<'a, 'env> {
    pub(crate) executor: GroupExecutor<'a, 'env>,
    pub(crate) sockets: Sockets,
}

impl<'env, F: Future<Output = ()> + 'env> Executor<F> for Carriers<'_, 'env> {
    fn execute(&self, task: F) {
        let sockets = self.sockets.clone();
        self.executor.execute(async move { carry(task, &sockets).await });
    }
}
