//! Networks laid out in memory, and threads, kept between calls.

use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use rayon::ThreadPool;

use super::device;
use crate::error::Result;
use crate::networks::{Device, Engine};

/// What a model keeps to be quick when it is used again.
///
/// Nothing waits here: a call that finds it in use works with something of its own. So a process that was forked while another
/// thread held it does not wait for a thread that it does not have.
#[derive(Debug, Default)]
pub(super) struct EngineCache {
    /// Engines that are not in use, by shape and device. Cleared when the weights change.
    idle: Mutex<Vec<(Key, Engine)>>,
    pools: Arc<Pools>,
}

impl Clone for EngineCache {
    /// A copy begins with nothing: engines hold the weights of one model, which may change, and what one of the two works on
    /// is not to wait for the other.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The pools of a model, or of several that take turns.
#[derive(Debug, Default)]
struct Pools(Mutex<Vec<Pool>>);

/// The threads of a model, for others that take turns with it.
#[derive(Debug, Clone, Default)]
pub struct Threads(Arc<Pools>);

impl Threads {
    /// Runs work of networks that are no models of this library; see [`EngineCache::install`].
    #[cfg(feature = "sam")]
    pub(crate) fn install<T: Send>(
        &self,
        threads: Option<usize>,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        EngineCache { idle: Mutex::default(), pools: Arc::clone(&self.0) }.install(threads, work)
    }
}

type Key = ([usize; 3], String);

/// A pool of threads, and the process that has them.
#[derive(Debug)]
struct Pool {
    process: u32,
    threads: Arc<ThreadPool>,
}

/// Engines kept at most, and their bytes together; each holds the maps of one image. Cellpose reads an image in batches of two shapes,
/// and looks at it from two distances first.
const KEPT: usize = 4;
const KEPT_BYTES: usize = 1 << 30;

/// Pools kept at most, of different numbers of threads.
const POOLS: usize = 2;

impl EngineCache {
    /// An engine for that shape with the current weights, if one is free.
    pub fn take(&self, shape: [usize; 3], device: &Device) -> Option<Engine> {
        let mut engines = now(&self.idle)?;
        let key = key(shape, device);
        let found = engines.iter().position(|(other, _)| *other == key)?;
        Some(engines.swap_remove(found).1)
    }

    /// Keeps an engine for later.
    pub fn put(&self, shape: [usize; 3], device: &Device, engine: Engine) {
        if let Some(mut engines) = now(&self.idle) {
            engines.push((key(shape, device), engine));
            while engines.len() > KEPT || bytes(&engines) > KEPT_BYTES {
                engines.remove(0);
            }
        }
    }

    /// Forgets engines, those that were kept first before the others, until what is left and `more` bytes take at most `most`.
    pub fn make_room(&self, more: u64, most: u64) {
        if let Some(mut engines) = now(&self.idle) {
            let fit = |kept: &[_]| (bytes(kept) as u64).checked_add(more).is_some_and(|all| all <= most);
            while !engines.is_empty() && !fit(&engines) {
                engines.remove(0);
            }
        }
    }

    /// Forgets all engines.
    pub fn clear(&self) {
        if let Some(mut engines) = now(&self.idle) {
            engines.clear();
        }
    }

    /// Its threads.
    pub fn threads(&self) -> Threads {
        Threads(Arc::clone(&self.pools))
    }

    /// Works on other threads from now on.
    pub fn use_threads(&mut self, threads: &Threads) {
        self.pools = Arc::clone(&threads.0);
    }

    /// Forgets engines and threads.
    pub fn release(&self) {
        self.clear();
        if let Some(mut pools) = now(&self.pools.0) {
            pools.drain(..).for_each(Pool::end);
        }
    }

    /// Runs `work` on that many threads: in the pool that the caller is in, or in one of the model's own.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for a number outside 1..=1024,
    /// [`Error::Internal`](crate::Error::Internal) when the threads cannot be started.
    pub fn install<T: Send>(&self, threads: Option<usize>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self.pool_for(threads)? {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// The pool for that many threads; `None` for a caller who is in one.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn pool_for(&self, threads: Option<usize>) -> Result<Option<Arc<ThreadPool>>> {
        let threads = device::thread_count(threads)?;
        if rayon::current_thread_index().is_some() { Ok(None) } else { self.pool(threads).map(Some) }
    }

    fn pool(&self, threads: usize) -> Result<Arc<ThreadPool>> {
        let Some(mut pools) = now(&self.pools.0) else { return Ok(Arc::new(device::thread_pool(threads)?)) };
        let process = std::process::id();
        // The threads of a parent did not come along with a fork.
        let (mine, others) = pools.drain(..).partition(|pool| pool.process == process);
        *pools = mine;
        Vec::into_iter(others).for_each(Pool::end);
        if let Some(found) = pools.iter().find(|pool| pool.threads.current_num_threads() == threads) {
            return Ok(Arc::clone(&found.threads));
        }
        if pools.len() >= POOLS {
            pools.remove(0).end();
        }
        let made = Arc::new(device::thread_pool(threads)?);
        pools.push(Pool { process, threads: Arc::clone(&made) });
        Ok(made)
    }
}

impl Pool {
    /// Ends the threads, if they are there. Those of a parent took locks that nobody gives back here.
    fn end(self) {
        if self.process != std::process::id() {
            std::mem::forget(self.threads);
        }
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        if let Ok(pools) = self.0.get_mut() {
            pools.drain(..).for_each(Pool::end);
        }
    }
}

/// The content of a lock that nobody holds.
fn now<T>(lock: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match lock.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

fn bytes(engines: &[(Key, Engine)]) -> usize {
    engines.iter().map(|(_, engine)| engine.bytes()).sum()
}

fn key(shape: [usize; 3], device: &Device) -> Key {
    (shape, device.location())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::ElephantConfig;

    #[test]
    fn pools_are_kept_and_that_of_the_caller_is_taken() {
        let engines = EngineCache::default();
        let seen = |threads| engines.install(threads, || Ok(std::thread::current().id())).unwrap();
        let first = engines.pool(1).unwrap();
        assert!(Arc::ptr_eq(&first, &engines.pool(1).unwrap()));
        assert_eq!(seen(Some(1)), seen(Some(1)), "the one thread of one pool");
        let own = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let inside = own.install(|| (std::thread::current().id(), seen(Some(2))));
        assert_eq!(inside.0, inside.1);
        let mut copy = engines.clone();
        assert!(!Arc::ptr_eq(&first, &copy.pool(1).unwrap()), "a copy has threads of its own");
        copy.use_threads(&engines.threads());
        assert!(Arc::ptr_eq(&first, &copy.pool(1).unwrap()));
        engines.release();
        assert!(!Arc::ptr_eq(&first, &engines.pool(1).unwrap()));
        // A pool of another process is not used and not waited for.
        engines.pools.0.lock().unwrap()[0].process = 0;
        let begin = std::time::Instant::now();
        assert_ne!(seen(Some(1)), seen(Some(2)));
        assert_eq!(engines.pools.0.lock().unwrap().len(), 2);
        assert!(begin.elapsed().as_secs() < 5);
    }

    #[test]
    fn engines_make_room_for_others() {
        let graph = Arc::new(ElephantConfig { widths: vec![2, 2], ..Default::default() }.graph());
        let (cache, device) = (EngineCache::default(), Device::cpu());
        let shapes = [[1, 32, 32], [1, 64, 64]];
        let each = shapes.map(|shape| {
            let engine = Engine::new(&graph, &device, shape, false).unwrap();
            let bytes = engine.bytes() as u64;
            cache.put(shape, &device, engine);
            bytes
        });
        let kept = || cache.idle.lock().unwrap().iter().map(|((shape, _), _)| *shape).collect::<Vec<_>>();
        cache.make_room(7, each[0] + each[1] + 7);
        assert_eq!(kept(), shapes);
        cache.make_room(8, each[0] + each[1] + 7);
        assert_eq!(kept(), shapes[1..], "the first one goes first");
        cache.make_room(u64::MAX, u64::MAX);
        assert_eq!(kept(), [[0; 3]; 0]);
    }

    #[test]
    fn a_lock_that_is_held_is_not_waited_for() {
        let engines = EngineCache::default();
        let (_idle, _pools) = (engines.idle.lock().unwrap(), engines.pools.0.lock().unwrap());
        assert!(engines.take([1, 2, 3], &Device::cpu()).is_none());
        assert_eq!(engines.install(Some(1), || Ok(rayon::current_num_threads())).unwrap(), 1);
    }
}
