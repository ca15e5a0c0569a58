//! One piece of work that Python waits for or awaits: the only place that releases the GIL, hears signals, cancels and
//! survives `fork()`.
//!
//! A verb runs as a task on one multi-threaded runtime per process. [`Job::wait`] looks up ten times a second, for signals and for
//! progress; [`Job::future`] hands the same task to asyncio. Both cancel in the same way: the task is dropped, and
//! [`Progress::cancel`] tells its blocking half, which stops at its next check and removes what it had begun.

use super::error::to_python;
use crate::base::progress::Progress;
use crate::error::{Error, Result};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3_async_runtimes::{TaskLocals, generic};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinError, JoinHandle};

/// How often a waiting thread looks up: the longest that a signal waits, and the shortest time between two progress calls.
const TICK: Duration = Duration::from_millis(100);
/// How long a cancelled task may take to end before its caller gets the exception all the same.
const GRACE: Duration = Duration::from_millis(50);
/// How long the interpreter's end waits for cancelled work to remove its files.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Makes the Python object of a result, once the GIL is held again.
type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
type Work = Pin<Box<dyn Future<Output = Result<Finish>> + Send>>;

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
    fn start(&self, runtime: &Runtime) -> PyResult<Task> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let work = work.ok_or_else(|| PyRuntimeError::new_err("a job can be waited for or awaited once"))?;
        Ok(Task { handle: runtime.spawn(work), progress: self.progress.clone() })
    }
}

#[pymethods]
impl Job {
    /// Waits for the result with the GIL released. `on_progress`, called without arguments at most ten times a second and once
    /// at the end, looks at `state()`; what it raises, and what a signal handler raises, cancels the work.
    #[pyo3(signature = (on_progress=None))]
    fn wait(&self, py: Python<'_>, on_progress: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let runtime = runtime()?;
        let mut task = self.start(&runtime)?;
        let look = |py: Python<'_>| {
            py.check_signals()?;
            on_progress.map_or(Ok(()), |callback| callback.call0().map(drop))
        };
        loop {
            let ended = py.detach(|| {
                runtime.block_on(async { tokio::time::timeout(TICK, &mut task.handle).await.ok() })
            });
            let looked = look(py);
            match (ended, looked) {
                (Some(ended), Ok(())) => return finish(py, ended),
                (Some(_), Err(raised)) => return Err(raised),
                (None, Ok(())) => {}
                (None, Err(raised)) => {
                    task.cancel();
                    let _ = py.detach(|| {
                        runtime.block_on(async { tokio::time::timeout(GRACE, &mut task.handle).await })
                    });
                    return Err(raised);
                }
            }
        }
    }

    /// An `asyncio.Future` of the running loop; cancelling it cancels the work.
    fn future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        refuse_forked(py)?;
        let runtime = runtime()?;
        let mut task = self.start(&runtime)?;
        let _within = runtime.enter();
        generic::future_into_py::<Bridge, _, _>(py, async move {
            let ended = (&mut task.handle).await;
            // Nobody is left to hear it where the interpreter has ended meanwhile.
            match Python::try_attach(|py| finish(py, ended)) {
                Some(result) => result,
                None => std::future::pending().await,
            }
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
    handle: JoinHandle<Result<Finish>>,
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

fn finish(py: Python<'_>, ended: Result<Result<Finish>, JoinError>) -> PyResult<Py<PyAny>> {
    match ended {
        Ok(Ok(finish)) => finish(py),
        Ok(Err(error)) => Err(to_python(py, &error)),
        Err(error) if error.is_cancelled() => Err(to_python(py, &Error::cancelled())),
        Err(error) => Err(PyRuntimeError::new_err(format!("a bug in evbackup: {error}"))),
    }
}

static RUNTIME: Mutex<Option<(u32, Arc<Runtime>)>> = Mutex::new(None);

/// The runtime of this process. A forked child inherits its parent's without the threads, and waiting on that would hang for
/// ever: it gets its own.
pub(crate) fn runtime() -> PyResult<Arc<Runtime>> {
    let process = std::process::id();
    let mut held = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((owner, runtime)) = &*held
        && *owner == process
    {
        return Ok(Arc::clone(runtime));
    }
    let fresh = Arc::new(Builder::new_multi_thread().thread_name("evbackup").enable_all().build()?);
    if let Some(inherited) = held.replace((process, Arc::clone(&fresh))) {
        // Dropping it would join threads that this process does not have.
        std::mem::forget(inherited);
    }
    Ok(fresh)
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

/// A child that forked while a loop ran has that loop's descriptors in common with its parent.
fn refuse_forked(py: Python<'_>) -> PyResult<()> {
    static OWNER: OnceLock<u32> = OnceLock::new();
    let process = std::process::id();
    if *OWNER.get_or_init(|| process) == process {
        return Ok(());
    }
    let error =
        Error::unsupported("expected asyncio in the process that imported evbackup, found a forked child")
            .with_hint(
                "start workers with the spawn or forkserver method, or call the function without _async",
            );
    Err(to_python(py, &error))
}

/// Waits a few seconds for cancelled work to clean up; at the interpreter's end.
#[pyfunction]
pub(crate) fn shutdown(py: Python<'_>) {
    let held = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take();
    match held {
        Some((owner, runtime)) if owner == std::process::id() => {
            // Another thread that still waits holds the runtime too; then it ends with the process.
            if let Some(runtime) = Arc::into_inner(runtime) {
                py.detach(|| runtime.shutdown_timeout(SHUTDOWN));
            }
        }
        inherited => std::mem::forget(inherited),
    }
}
