//! Packages of bioimage.io: a model as a zip archive with a description, a network, tensors to test it with and a picture.
//!
//! Source: the model description 0.5 of bioimage.io (`bioimageio.spec.model.v0_5`). What goes into the description is in `model`.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use ndarray::{ArrayD, ArrayView3};
use serde_json::Value;

use super::archive::{Archive, Packer};
use super::foreign::DESCRIPTIONS;
use super::yaml;
use crate::error::{Error, Result};
use crate::raster::{encode_rgb_png, write_atomically};

/// The model of this library within a package that it wrote.
pub const OWN_MODEL: &str = "cellsparse.safetensors";
/// Largest model of this library that is read from a package: 4 GiB.
const MAX_MODEL: u64 = u32::MAX as u64;

/// What writes a file, the same each time.
pub type Content<'a> = Box<dyn Fn(&mut dyn Write) -> io::Result<()> + 'a>;

/// A package that is about to be written.
pub struct Package<'a> {
    files: Vec<(String, Content<'a>)>,
}

impl<'a> Package<'a> {
    /// A package with that description, as `rdf.yaml`.
    pub fn new(description: &Value) -> Self {
        let mut package = Self::empty();
        package.text(DESCRIPTIONS[0], yaml::write(description));
        package
    }

    /// An archive of files without a description.
    pub fn empty() -> Self {
        Self { files: Vec::new() }
    }

    /// Adds a file whose content is written twice.
    pub fn file(&mut self, name: &str, content: Content<'a>) {
        self.files.push((name.to_string(), content));
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, text: String) {
        self.file(name, Box::new(move |writer| writer.write_all(text.as_bytes())));
    }

    /// Adds an array of 32-bit floats as NumPy writes it.
    pub fn array(&mut self, name: &str, array: ArrayD<f32>) {
        self.file(name, Box::new(move |writer| write_npy(writer, &array)));
    }

    /// Adds a picture `[H, W, 3]` as a PNG.
    ///
    /// # Errors
    /// As [`encode_rgb_png`].
    pub fn picture(&mut self, name: &str, pixels: ArrayView3<'_, u8>) -> Result<()> {
        let bytes = encode_rgb_png(pixels)?;
        self.file(name, Box::new(move |writer| writer.write_all(&bytes)));
        Ok(())
    }

    /// Writes the package, atomically.
    ///
    /// # Errors
    /// [`Error::Limit`] beyond 4 GiB; [`Error::Io`], [`Error::NotFound`] when it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, |writer| {
            self.write(writer).map_err(|source| match source.kind() {
                io::ErrorKind::InvalidInput => Error::limit(path, "a package has at most 4 GiB"),
                _ => Error::io(path, source),
            })
        })
    }

    fn write(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let mut packer = Packer::new(writer);
        for (name, content) in &self.files {
            packer.add_made(name, content)?;
        }
        packer.finish()
    }
}

/// Format 1.0 of NumPy (`numpy.lib.format`).
fn write_npy(writer: &mut dyn Write, array: &ArrayD<f32>) -> io::Result<()> {
    let sides: String = array.shape().iter().map(|side| format!("{side}, ")).collect();
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", sides.trim_end());
    // Magic, version, length and header take a multiple of 64 bytes, and the header ends in a line feed.
    let whole = (10 + header.len() + 1).next_multiple_of(64);
    header.extend(std::iter::repeat_n(' ', whole - 11 - header.len()));
    header.push('\n');
    writer.write_all(b"\x93NUMPY\x01\0")?;
    writer.write_all(&(header.len() as u16).to_le_bytes())?;
    writer.write_all(header.as_bytes())?;
    array.iter().try_for_each(|value| writer.write_all(&value.to_le_bytes()))
}

/// The model of this library in a package, if it wrote the package: the content of a `.safetensors` file, read as it is asked
/// for. That of an archive was compared with its checksum.
///
/// # Errors
/// [`Error::File`] for a damaged archive, [`Error::Io`].
pub fn own_model(path: &Path) -> Result<Option<Box<dyn Read>>> {
    let failed = |source| Error::io(path, source);
    if path.is_dir() {
        let inner = path.join(OWN_MODEL);
        return match inner.is_file() {
            true => Ok(Some(Box::new(BufReader::new(std::fs::File::open(&inner).map_err(failed)?)))),
            false => Ok(None),
        };
    }
    let archive = Archive::of_file(std::fs::File::open(path).map_err(failed)?);
    let found = archive.and_then(|archive| archive.content(OWN_MODEL, MAX_MODEL));
    Ok(found.map_err(|reason| Error::file(path, reason))?.map(|content| Box::new(content.reader()) as Box<dyn Read>))
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_package_holds_what_was_put_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let mut package = Package::new(&json!({"type": "model"}));
        package.text("README.md", "# x\n".into());
        package.array("test_input.npy", arr2(&[[1.0, 2.0, 3.0]]).into_dyn());
        package.save(&path).unwrap();
        assert!(own_model(&path).unwrap().is_none());
        package.text(OWN_MODEL, "weights".into());
        package.save(&path).unwrap();
        let mut model = Vec::new();
        own_model(&path).unwrap().unwrap().read_to_end(&mut model).unwrap();
        assert_eq!(model, b"weights");
        let bytes = std::fs::read(&path).unwrap();
        let archive = Archive::open(&bytes).unwrap();
        assert_eq!(&archive.read("rdf.yaml").unwrap().unwrap()[..], b"type: \"model\"\n");
        let array = archive.read("test_input.npy").unwrap().unwrap();
        assert_eq!((array.len(), &array[..8], array[127]), (128 + 12, &b"\x93NUMPY\x01\0"[..], b'\n'));
        assert!(String::from_utf8_lossy(&array).contains("'shape': (1, 3,), "));
    }
}
