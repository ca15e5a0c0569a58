//! One piece of work that Python waits for or awaits: the only place that releases the GIL, hears signals, cancels and
//! survives `fork()`.
//!
//! A verb runs as a task on one multi-threaded runtime per process, which nobody but [`RUNTIME`] holds: so [`shutdown`] can end it. [`Job::wait`]
//! looks up ten times a second, for signals and for progress; [`Job::future`] hands the same task to asyncio. Both cancel in the same way:
//! the task is dropped, and [`Progress::cancel`] tells its blocking half, which stops at its next check and removes what it had begun.

use super::error::to_python;
use crate::base::progress::Progress;
use crate::error::{Error, Result};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3_async_runtimes::{TaskLocals, generic};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{AbortHandle, JoinError, JoinHandle};

/// How often a waiting thread looks up: the longest that a signal waits, and the shortest time between two progress calls.
const TICK: Duration = Duration::from_millis(100);
/// How long a cancelled task may take to end before its caller gets the exception all the same.
const GRACE: Duration = Duration::from_millis(50);
/// How long the interpreter's end waits for cancelled work to remove its files.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Makes the Python object of a result, once the GIL is held again.
type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
type Work = Pin<Box<dyn Future<Output = Result<Finish>> + Send>>;
type Ended = Result<Result<Finish>, JoinError>;

/// Work that has not begun: `wait` for it, or await it, once.
#[pyclass(frozen, module = "evbackup._evbackup")]
pub(crate) struct Job {
    work: Mutex<Option<Work>>,
    progress: Progress,
}

impl Job {
    /// Work whose result `finish` turns into a Python object.
    pub(crate) fn new<T, F>(
        start: impl FnOnce(Progress) -> F,
        finish: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Self
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let progress = Progress::new();
        let work = start(progress.clone());
        let work = async move {
            let value = work.await?;
            Ok(Box::new(move |py: Python<'_>| finish(py, value)) as Finish)
        };
        Self { work: Mutex::new(Some(Box::pin(work))), progress }
    }

    /// Starts the work; a second time there is none.
    fn start(&self, runtime: &Handle) -> PyResult<(Task, JoinHandle<Result<Finish>>)> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let work = work.ok_or_else(|| PyRuntimeError::new_err("a job can be waited for or awaited once"))?;
        let handle = runtime.spawn(work);
        Ok((Task { handle: handle.abort_handle(), progress: self.progress.clone() }, handle))
    }
}

#[pymethods]
impl Job {
    /// Waits for the result with the GIL released. `on_progress`, called without arguments at most ten times a second and once
    /// at the end, looks at `state()`; what it raises, and what a signal handler raises, cancels the work.
    #[pyo3(signature = (on_progress=None))]
    fn wait(&self, py: Python<'_>, on_progress: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let runtime = runtime()?;
        let (task, handle) = self.start(&runtime)?;
        let (sender, mut receiver) = sync_channel(1);
        // Whoever waits may have gone by then.
        runtime.spawn(async move { drop(sender.send(handle.await)) });
        let look = |py: Python<'_>| {
            py.check_signals()?;
            on_progress.map_or(Ok(()), |callback| callback.call0().map(drop))
        };
        loop {
            let ended = py.detach(|| within(TICK, &mut receiver));
            let looked = look(py);
            match (ended, looked) {
                (Some(ended), Ok(())) => return finish(py, ended),
                (Some(_), Err(raised)) => return Err(raised),
                (None, Ok(())) => {}
                (None, Err(raised)) => {
                    task.cancel();
                    drop(py.detach(|| within(GRACE, &mut receiver)));
                    return Err(raised);
                }
            }
        }
    }

    /// An `asyncio.Future` of the running loop; cancelling it cancels the work.
    fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        expect_asyncio(py)?;
        let runtime = runtime()?;
        let (task, handle) = self.start(&runtime)?;
        let _within = runtime.enter();
        generic::future_into_py::<Bridge, _, _>(py, async move {
            let ended = handle.await;
            drop(task);
            Ok(Outcome(ended))
        })
    }

    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.future(py)?.call_method0("__await__")
    }

    /// How far it is: phase, bytes, bytes expected (0: unknown), entries, height (0: unknown), seconds.
    fn state(&self) -> (&'static str, u64, u64, u64, u64, f64) {
        let state = self.progress.state();
        (state.phase.name(), state.bytes, state.total_bytes, state.entries, state.height, state.elapsed_s)
    }
}

/// A running task that is cancelled when its owner goes.
struct Task {
    handle: AbortHandle,
    progress: Progress,
}

impl Task {
    fn cancel(&self) {
        self.progress.cancel();
        self.handle.abort();
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// What a task has come to, unless it still runs after so long.
fn within(time: Duration, receiver: &mut Receiver<Ended>) -> Option<Ended> {
    match receiver.recv_timeout(time) {
        Ok(ended) => Some(ended),
        Err(RecvTimeoutError::Timeout) => None,
        // The runtime is gone, and the interpreter is on its way: what a daemon thread would say now, nobody hears.
        Err(RecvTimeoutError::Disconnected) => loop {
            std::thread::park();
        },
    }
}

/// What becomes a Python object where the bridge holds the GIL, on a thread that may wait for it.
struct Outcome(Ended);

impl<'py> IntoPyObject<'py> for Outcome {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        finish(py, self.0).map(|object| object.into_bound(py))
    }
}

fn finish(py: Python<'_>, ended: Ended) -> PyResult<Py<PyAny>> {
    match ended {
        Ok(Ok(finish)) => finish(py),
        Ok(Err(error)) => Err(to_python(py, &error)),
        Err(error) if error.is_cancelled() => Err(to_python(py, &Error::cancelled())),
        Err(error) => Err(PyRuntimeError::new_err(format!("a bug in evbackup: {error}"))),
    }
}

static RUNTIME: Mutex<Option<(u32, Runtime)>> = Mutex::new(None);
/// The process that imported this.
static IMPORTER: OnceLock<u32> = OnceLock::new();
/// Its interpreter is about to end.
static ENDING: AtomicBool = AtomicBool::new(false);

/// The runtime of this process. A forked child inherits its parent's without the threads, and waiting on that would hang for
/// ever: it gets its own.
fn runtime() -> PyResult<Handle> {
    let process = std::process::id();
    let mut held = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, runtime)) = &*held
        && *owner == process
    {
        return Ok(runtime.handle().clone());
    }
    let fresh = Builder::new_multi_thread().thread_name("evbackup").enable_all().build()?;
    let handle = fresh.handle().clone();
    if let Some(inherited) = held.replace((process, fresh)) {
        // Dropping it would join threads that this process does not have.
        std::mem::forget(inherited);
    }
    Ok(handle)
}

/// What brings a result to asyncio runs on the runtime of this process, too: `shutdown` waits for it. A thread of the library's own runtime
/// may still be in Python when the interpreter ends, at which Python up to 3.13 ends the thread, and with it the process.
struct Bridge;

impl generic::Runtime for Bridge {
    type JoinError = JoinError;
    type JoinHandle = JoinHandle<()>;

    fn spawn<F: Future<Output = ()> + Send + 'static>(work: F) -> JoinHandle<()> {
        tokio::spawn(work)
    }

    fn spawn_blocking<F: FnOnce() + Send + 'static>(work: F) -> JoinHandle<()> {
        tokio::task::spawn_blocking(work)
    }
}

impl generic::ContextExt for Bridge {
    fn scope<F, R>(_: TaskLocals, work: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        // No work of ours calls asyncio.
        Box::pin(work)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}

/// Remembers which process this is; at import.
pub(crate) fn imported() {
    IMPORTER.get_or_init(std::process::id);
}

/// A forked child has its parent's loops, with their descriptors. And a result that is on its way when the interpreter ends must be waited
/// for: of what begins behind [`shutdown`], nobody does.
fn expect_asyncio(py: Python<'_>) -> PyResult<()> {
    let error = if ENDING.load(Relaxed) {
        Error::unsupported("expected asyncio before the interpreter ends, found it ending")
            .with_hint("call the function without _async")
    } else if IMPORTER.get() != Some(&std::process::id()) {
        let what = "expected asyncio in the process that imported evbackup, found a forked child";
        Error::unsupported(what).with_hint(
            "start workers with the spawn or forkserver method, or call the function without _async",
        )
    } else {
        return Ok(());
    };
    Err(to_python(py, &error))
}

/// Ends the runtime, at the interpreter's end: waits a few seconds for cancelled work to clean up, and for results that are on their way.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) {
    ENDING.store(true, Relaxed);
    let held = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take();
    match held {
        Some((owner, runtime)) if owner == std::process::id() => {
            py.detach(|| runtime.shutdown_timeout(SHUTDOWN));
        }
        inherited => std::mem::forget(inherited),
    }
}
