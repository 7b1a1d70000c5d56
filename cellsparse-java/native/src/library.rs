//! The library itself, and cancel handles.

use std::ffi::CStr;

use cellsparse::*;
use jni::objects::{JClass, JString};
use jni::sys::{jboolean, jint, jlong};
use jni::{EnvUnowned, jni_mangle};

use crate::bridge::{c, check, enter, handle, produce, produce_text, refuse, token};

#[jni_mangle("io.github.cellsparse.Native")]
pub fn abi_version<'local>(env: EnvUnowned<'local>, class: JClass<'local>) -> jint {
    enter(env, &class, |_| Ok(cellsparse_abi_version() as jint))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn version<'local>(env: EnvUnowned<'local>, class: JClass<'local>) -> JString<'local> {
    enter(env, &class, |env| {
        // SAFETY: the version is a static text that ends with NUL.
        let version = unsafe { CStr::from_ptr(cellsparse_version()) };
        Ok(env.new_string(version.to_string_lossy())?)
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn devices<'local>(env: EnvUnowned<'local>, class: JClass<'local>) -> JString<'local> {
    enter(env, &class, |env| produce_text(env, |out| c!(cellsparse_devices(out))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn live_handles<'local>(env: EnvUnowned<'local>, class: JClass<'local>) -> jlong {
    enter(env, &class, |_| Ok(produce(|out| c!(cellsparse_live_handles(out)))? as jlong))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn cancel_new<'local>(env: EnvUnowned<'local>, class: JClass<'local>) -> jlong {
    enter(env, &class, |_| Ok(handle(produce(|out| c!(cellsparse_cancel_new(out)))?)))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn cancel_raise<'local>(env: EnvUnowned<'local>, class: JClass<'local>, cancel: jlong) {
    enter(env, &class, |_| check(c!(cellsparse_cancel_raise(token(cancel)))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn cancel_is_raised<'local>(env: EnvUnowned<'local>, class: JClass<'local>, cancel: jlong) -> jboolean {
    enter(env, &class, |_| {
        let raised = produce(|out| c!(cellsparse_cancel_is_raised(token(cancel), out)))?;
        Ok(raised != 0)
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn cancel_free<'local>(env: EnvUnowned<'local>, class: JClass<'local>, cancel: jlong) {
    enter(env, &class, |_| check(c!(cellsparse_cancel_free(token(cancel)))))
}

/// Panics in the C library, and then here; for the tests of both walls.
#[jni_mangle("io.github.cellsparse.Native")]
pub fn test_panic<'local>(env: EnvUnowned<'local>, class: JClass<'local>) {
    enter(env, &class, |_| {
        #[cfg(debug_assertions)]
        {
            if check(cellsparse_test_panic()).is_ok() {
                return Err(refuse("the panic had no status"));
            }
            panic!("on purpose");
        }
        #[cfg(not(debug_assertions))]
        Err(refuse("this library has no debug assertions"))
    })
}
