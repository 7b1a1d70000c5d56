//! Handles: tokens that are looked up in a table, so that a wrong one is an error and no crash.
//!
//! A token is a number that is given out once, typed as a pointer so that C tells the types apart. Nothing is ever read
//! through it.

use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{
    Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError,
};

use crate::pointers::Out;
use crate::status::{Failure, Outcome, cellsparse_status};

/// Tokens are odd, which no address of an allocated object is, and never repeat.
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// The objects of one type behind their tokens.
pub(crate) struct Table<T>(LazyLock<Mutex<HashMap<usize, Arc<T>>>>);

impl<T> Table<T> {
    pub const fn new() -> Self {
        Self(LazyLock::new(Mutex::default))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }
}

/// What lies behind a handle of the C type `Token`.
pub(crate) trait Behind: Sized + 'static {
    /// The opaque C type.
    type Token;
    /// What messages call it.
    const NAME: &'static str;

    fn table() -> &'static Table<Self>;

    /// Hands `self` to the caller. Nothing is kept when the output is NULL.
    fn publish(self, out: Out<'_, *mut Self::Token>, name: &str) -> Outcome<()> {
        let out = out.ok_or_else(|| Failure::null(name))?;
        let token = NEXT.fetch_add(2, Ordering::Relaxed);
        Self::table().lock().insert(token, Arc::new(self));
        out.write(ptr::without_provenance_mut(token));
        Ok(())
    }

    /// The object of a handle. It lives as long as the answer, even if the handle is freed meanwhile.
    fn find(handle: *const Self::Token) -> Outcome<Arc<Self>> {
        if handle.is_null() {
            return Err(Failure::null(Self::NAME));
        }
        Self::table().lock().get(&handle.addr()).cloned().ok_or_else(invalid::<Self>)
    }

    /// Gives the handle back; NULL is nothing to give back.
    fn free(handle: *mut Self::Token) -> Outcome<()> {
        if handle.is_null() {
            return Ok(());
        }
        let object = Self::table().lock().remove(&handle.addr()).ok_or_else(invalid::<Self>)?;
        // Dropped here, outside the lock of the table.
        drop(object);
        Ok(())
    }
}

fn invalid<T: Behind>() -> Failure {
    let message = format!("this is no {} handle: it was freed before, or is of another type", T::NAME);
    Failure::new(cellsparse_status::InvalidHandle, message)
}

fn busy(what: &str) -> Failure {
    let message =
        format!("the {what} is in use by another call; wait for its end, or give every thread its own {what}");
    Failure::new(cellsparse_status::Busy, message)
}

/// Shared access, refused while a call changes the object.
pub(crate) fn read<'a, T>(lock: &'a RwLock<T>, what: &str) -> Outcome<RwLockReadGuard<'a, T>> {
    match lock.try_read() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(busy(what)),
    }
}

/// Exclusive access, refused while any other call has the object.
pub(crate) fn write<'a, T>(lock: &'a RwLock<T>, what: &str) -> Outcome<RwLockWriteGuard<'a, T>> {
    match lock.try_write() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(busy(what)),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;

    struct Thing(u8);
    struct Token;

    impl Behind for Thing {
        type Token = Token;
        const NAME: &'static str = "thing";

        fn table() -> &'static Table<Self> {
            static TABLE: Table<Thing> = Table::new();
            &TABLE
        }
    }

    #[test]
    fn a_freed_handle_is_refused_and_its_object_lives_until_its_last_user_is_done() {
        let mut slot = MaybeUninit::new(ptr::null_mut());
        Thing(3).publish(Some(&mut slot), "out").unwrap();
        // SAFETY: initialised above.
        let handle = unsafe { slot.assume_init() };
        let user = Thing::find(handle).unwrap();
        Thing::free(handle).unwrap();
        assert_eq!(user.0, 3);
        let failures = [Thing::free(handle).unwrap_err(), Thing::find(handle).map(drop).unwrap_err()];
        assert!(failures.iter().all(|failure| failure.status == cellsparse_status::InvalidHandle));
        assert_eq!(Thing::table().len(), 0);
        Thing::free(ptr::null_mut()).unwrap();
        assert_eq!(Thing::find(ptr::null()).map(drop).unwrap_err().status, cellsparse_status::NullPointer);
        assert_eq!(Thing(1).publish(None, "out").unwrap_err().status, cellsparse_status::NullPointer);
    }

    #[test]
    fn a_taken_lock_is_busy() {
        let lock = RwLock::new(0);
        let one = read(&lock, "thing").unwrap();
        assert!(read(&lock, "thing").is_ok());
        assert_eq!(write(&lock, "thing").map(drop).unwrap_err().status, cellsparse_status::Busy);
        drop(one);
        let _changing = write(&lock, "thing").unwrap();
        assert_eq!(read(&lock, "thing").map(drop).unwrap_err().status, cellsparse_status::Busy);
    }
}
