//! An accelerator works on the next part while the CPU looks at the last one.

use std::ops::ControlFlow;

use crate::error::Result;
use crate::networks::Device;

/// Computes something for every item in order and hands it to `visit`, until that says to stop. On an accelerator the next one is
/// computed meanwhile.
pub(super) fn ahead<I: Sync, T: Send>(
    device: &Device,
    items: &[I],
    compute: impl Fn(&I) -> Result<T> + Sync,
    visit: &mut dyn FnMut(T) -> Result<ControlFlow<()>>,
) -> Result<ControlFlow<()>> {
    let compute = &compute;
    let mut next = None;
    for (index, item) in items.iter().enumerate() {
        let current = next.take().unwrap_or_else(|| compute(item))?;
        let later = items.get(index + 1).map(|item| move || compute(item));
        let (visited, computed) = beside(device, later, || visit(current));
        if visited?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        next = computed;
    }
    Ok(ControlFlow::Continue(()))
}

/// Does `now`, and on an accelerator `next` at the same time on another thread of the pool; the CPU has no hands free for it.
pub(super) fn beside<A, B: Send>(
    device: &Device,
    next: Option<impl FnOnce() -> B + Send>,
    now: impl FnOnce() -> A,
) -> (A, Option<B>) {
    let Some(next) = next.filter(|_| !device.is_cpu()) else { return (now(), None) };
    let mut computed = None;
    let done = rayon::in_place_scope(|scope| {
        scope.spawn(|_| computed = Some(next()));
        now()
    });
    (done, computed)
}

#[cfg(all(test, feature = "candle"))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Error;

    #[test]
    fn the_next_part_is_begun_before_the_last_one_is_done() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        let begun = AtomicUsize::new(0);
        let compute = |item: &usize| {
            begun.fetch_max(*item, Ordering::SeqCst);
            Ok(*item)
        };
        let mut seen = Vec::new();
        let ended = pool.install(|| {
            ahead(&Device::stand_in(None), &[1, 2, 3], compute, &mut |item| {
                // Waits for the other thread, which a computation in turn would not have begun.
                let wait = std::time::Instant::now();
                while begun.load(Ordering::SeqCst) < (item + 1).min(3) && wait.elapsed().as_secs() < 20 {
                    std::thread::yield_now();
                }
                assert_eq!(begun.load(Ordering::SeqCst), (item + 1).min(3));
                seen.push(item);
                Ok(ControlFlow::Continue(()))
            })
        });
        assert!(ended.unwrap().is_continue());
        assert_eq!(seen, [1, 2, 3]);
    }

    #[test]
    fn it_ends_at_a_failure_and_when_it_is_told_to() {
        for device in [Device::cpu(), Device::stand_in(None)] {
            let mut seen = Vec::new();
            let mut note = |item: usize| {
                seen.push(item);
                Ok(if item == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            };
            assert!(ahead(&device, &[1, 2, 3], |item| Ok(*item), &mut note).unwrap().is_break());
            let fail = |item: &usize| if *item == 1 { Ok(1) } else { Err(Error::Cancelled) };
            assert!(matches!(ahead(&device, &[1, 2, 3], fail, &mut note), Err(Error::Cancelled)));
            assert_eq!(seen, [1, 2, 1]);
        }
    }
}
