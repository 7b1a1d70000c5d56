//! Files that are read only if they are regular ones, and that appear whole or not at all.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a file so that `path` is the old file or the new one, never half of it: a temporary file in the same folder
/// is filled, flushed to disk and renamed.
///
/// A symbolic link stays, and the file that it names is replaced; a new file takes over the permissions of the old one.
/// What an interrupted write of the same file has left in the folder is removed.
///
/// # Errors
/// [`Error::File`] when `path` names something other than a regular file (a device, a pipe, a folder); [`Error::Io`],
/// [`Error::NotFound`] when the folder is missing, full or not writable; and whatever `fill` returns.
pub fn write_atomically(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut BufWriter<&mut fs::File>) -> Result<()>,
) -> Result<()> {
    let mut growing = GrowingFile::create(path)?;
    let mut writer = BufWriter::new(growing.file());
    fill(&mut writer)?;
    let flushed = writer.flush();
    drop(writer);
    flushed.map_err(|source| Error::io(&growing.path, source))?;
    growing.finish()
}

/// A file that is filled bit by bit and takes the place of the one at its path when it is finished; dropped before, it
/// leaves nothing behind.
#[derive(Debug)]
pub struct GrowingFile {
    temporary: tempfile::NamedTempFile,
    path: PathBuf,
}

impl GrowingFile {
    /// Begins an empty file beside `path`.
    ///
    /// # Errors
    /// As [`write_atomically`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = linked(path.as_ref())?;
        let old = fs::metadata(&path).ok();
        if old.as_ref().is_some_and(|old| !old.is_file()) {
            let kind = if path.is_dir() { "a folder" } else { "a device or a pipe" };
            return Err(Error::file(path, format!("is {kind}, which no file may replace; give the path of a file")));
        }
        let folder = folder_of(&path);
        let prefix = temporary_prefix(&path);
        remove_leftovers(folder, &prefix);
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix);
        // The default of a temporary file is private to its owner; a result is readable as any other file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(folder).map_err(|source| Error::io(folder, source))?;
        // Held as long as this process lives and writes: whoever gets the lock may remove the file. Where locks do not exist,
        // nothing is removed.
        let _ = temporary.as_file().try_lock();
        if let Some(old) = old {
            let _ = temporary.as_file().set_permissions(old.permissions());
        }
        Ok(Self { temporary, path })
    }

    /// The file that grows.
    pub fn file(&mut self) -> &mut fs::File {
        self.temporary.as_file_mut()
    }

    /// The path that the file will have.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Flushes the file to disk and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(self) -> Result<()> {
        let Self { temporary, path } = self;
        temporary.as_file().sync_all().map_err(|source| Error::io(&path, source))?;
        temporary.persist(&path).map_err(|error| Error::io(&path, error.error))?;
        // The rename itself is made durable where folders can be opened; where not, the file is whole all the same.
        #[cfg(unix)]
        if let Ok(folder) = fs::File::open(folder_of(&path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Refuses what is no regular file before it is opened: opening a pipe waits for a writer, and devices may never end.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Io`]; [`Error::File`] for a folder, pipe, device or socket.
pub fn require_regular_file(path: impl AsRef<Path>) -> Result<fs::Metadata> {
    let path = path.as_ref();
    let metadata = fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if metadata.is_dir() {
        return Err(Error::file(path, "this is a folder; one file was expected"));
    }
    if !metadata.is_file() {
        return Err(Error::file(
            path,
            "this is not a regular file (a pipe, a device or a socket); copy its content into a file first",
        ));
    }
    Ok(metadata)
}

/// The file that a path names, behind symbolic links.
fn linked(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Error::file(path, "is a symbolic link that leads in a circle; give the path of a file"))
}

/// Symbolic links that are followed one after the other.
const LINKS: usize = 40;

/// The beginning of the names of temporary files for a file.
fn temporary_prefix(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    // Names have a limit, mostly of 255 bytes.
    let name: String = name.chars().take(48).collect();
    format!(".cellsparse-{name}-")
}

/// Removes temporary files of writes that did not end: nobody holds their locks.
fn remove_leftovers(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix)) {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let dead = is_file && fs::File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if dead {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        fs::write(&path, b"old").unwrap();
        let failed = write_atomically(&path, |writer| {
            writer.write_all(b"half").map_err(|source| Error::io("x", source))?;
            Err(Error::Cancelled)
        });
        assert!(matches!(failed, Err(Error::Cancelled)));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(matches!(write_atomically(folder.path(), |_| Ok(())), Err(Error::File { .. })));
        let missing = folder.path().join("no/such/x.bin");
        assert!(matches!(write_atomically(missing, |_| Ok(())), Err(Error::NotFound { .. })));
    }

    #[test]
    fn what_a_dead_write_has_left_is_removed_and_that_of_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.bin");
        let [dead, alive, other] = [".cellsparse-x.bin-dead", ".cellsparse-x.bin-live", ".cellsparse-y.bin-dead"]
            .map(|name| folder.path().join(name));
        for path in [&dead, &alive, &other] {
            fs::write(path, b"half").unwrap();
        }
        let held = fs::File::open(&alive).unwrap();
        held.try_lock().unwrap();
        write_atomically(&path, |_| Ok(())).unwrap();
        assert!(!dead.exists() && alive.exists() && other.exists() && path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_modes_stay_and_devices_are_not_replaced() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("there")).unwrap();
        let (file, link, chain) =
            (folder.path().join("there/x.bin"), folder.path().join("link"), folder.path().join("chain"));
        symlink("there/x.bin", &link).unwrap();
        symlink("link", &chain).unwrap();
        // The file behind the links need not be there yet.
        for text in [b"new", b"two"] {
            write_atomically(&chain, |writer| writer.write_all(text).map_err(|source| Error::io("x", source))).unwrap();
            assert_eq!(fs::read(&file).unwrap(), text);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        }
        write_atomically(&link, |_| Ok(())).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(
            fs::symlink_metadata(&chain).unwrap().is_symlink() && fs::symlink_metadata(&link).unwrap().is_symlink()
        );
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        for path in [Path::new("/dev/null"), &folder.path().join("a")] {
            assert!(matches!(write_atomically(path, |_| Ok(())), Err(Error::File { .. })), "{}", path.display());
        }
    }
}
