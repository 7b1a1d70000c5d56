//! Progress events as Python sees them.

use cellsparse_core::{ControlFlow, Progress};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::work;

/// Calls `observer` with the event; `False` means to stop.
///
/// The arguments are those of `cellsparse.TrainingEvent`, in order.
pub fn call(py: Python<'_>, observer: &Py<PyAny>, event: &Progress) -> PyResult<ControlFlow> {
    let losses = PyDict::new(py);
    for (name, value) in &event.losses {
        losses.set_item(name, f64::from(*value))?;
    }
    let arguments = (
        event.step,
        event.total_steps,
        event.epoch,
        f64::from(event.loss),
        losses,
        f64::from(event.learning_rate),
        event.elapsed.as_secs_f64(),
        event.remaining.as_secs_f64(),
        event.validation_loss.map(f64::from),
    );
    let answer = work::call(py, observer, arguments.into_pyobject(py)?)?;
    Ok(if answer.is(&*pyo3::types::PyBool::new(py, false)) { ControlFlow::Stop } else { ControlFlow::Continue })
}
