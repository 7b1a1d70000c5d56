//! Models.

use cellsparse::*;
use jni::objects::{JClass, JObject, JString};
use jni::sys::{jboolean, jint, jlong};
use jni::{EnvUnowned, jni_mangle};

use crate::bridge::{c, check, enter, handle, produce, produce_text, refuse, text, token};
use crate::images::Described;

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_new<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    algorithm: JString<'local>,
    config: JString<'local>,
    seed: jlong,
) -> jlong {
    enter(env, &class, |env| {
        let (algorithm, config) = (text(env, &algorithm)?, text(env, &config)?);
        let seed = u64::try_from(seed).map_err(|_| refuse(format!("the seed is {seed}; it must be 0 or more")))?;
        Ok(handle(produce(|out| c!(cellsparse_model_new(algorithm.as_ptr(), config.as_ptr(), seed, out)))?))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_load<'local>(env: EnvUnowned<'local>, class: JClass<'local>, path: JString<'local>) -> jlong {
    enter(env, &class, |env| {
        let path = text(env, &path)?;
        Ok(handle(produce(|out| c!(cellsparse_model_load(path.as_ptr(), out)))?))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn convert<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    source: JString<'local>,
    target: JString<'local>,
    config: JString<'local>,
) -> JString<'local> {
    enter(env, &class, |env| {
        let (source, target) = (text(env, &source)?, text(env, &target)?);
        let config = if config.is_null() { None } else { Some(text(env, &config)?) };
        let config = config.as_ref().map_or(std::ptr::null(), |config| config.as_ptr());
        produce_text(env, |out| c!(cellsparse_convert(source.as_ptr(), target.as_ptr(), config, out)))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_save<'local>(env: EnvUnowned<'local>, class: JClass<'local>, model: jlong, path: JString<'local>) {
    enter(env, &class, |env| {
        let path = text(env, &path)?;
        check(c!(cellsparse_model_save(token(model), path.as_ptr())))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_reset<'local>(env: EnvUnowned<'local>, class: JClass<'local>, model: jlong, seed: jlong) {
    enter(env, &class, |_| {
        let seed = u64::try_from(seed).map_err(|_| refuse(format!("the seed is {seed}; it must be 0 or more")))?;
        check(c!(cellsparse_model_reset(token(model), seed)))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_info<'local>(env: EnvUnowned<'local>, class: JClass<'local>, model: jlong) -> JString<'local> {
    enter(env, &class, |env| produce_text(env, |out| c!(cellsparse_model_info(token(model), out))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_history<'local>(env: EnvUnowned<'local>, class: JClass<'local>, model: jlong) -> JString<'local> {
    enter(env, &class, |env| produce_text(env, |out| c!(cellsparse_model_history(token(model), out))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_last_training<'local>(env: EnvUnowned<'local>, class: JClass<'local>, model: jlong) -> JString<'local> {
    enter(env, &class, |env| produce_text(env, |out| c!(cellsparse_model_last_training(token(model), out))))
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_predict<'local>(
    env: EnvUnowned<'local>,
    class: JClass<'local>,
    model: jlong,
    pixels: JObject<'local>,
    direct: jboolean,
    dtype: jint,
    offset: jlong,
    height: jint,
    width: jint,
    channels: jint,
    row_stride: jlong,
    column_stride: jlong,
    channel_stride: jlong,
    options: JString<'local>,
    cancel: jlong,
) -> jlong {
    enter(env, &class, |env| {
        let shape = [height, width, channels];
        let strides = [row_stride, column_stride, channel_stride];
        let image = Described { pixels: &pixels, direct, dtype, offset, shape, strides }.pin(env)?;
        let options = text(env, &options)?;
        let (model, view, cancel) = (token(model), image.view(), token(cancel));
        let found = produce(|out| c!(cellsparse_model_predict(model, Some(&view), options.as_ptr(), cancel, out)))?;
        Ok(handle(found))
    })
}

#[jni_mangle("io.github.cellsparse.Native")]
pub fn model_free<'local>(env: EnvUnowned<'local>, class: JClass<'local>, model: jlong) {
    enter(env, &class, |_| check(c!(cellsparse_model_free(token(model)))))
}
