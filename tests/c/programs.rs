//! C and C++ programs over the header: strict compilation, sanitizers, valgrind, and results equal to the command line's.

#[cfg(target_os = "linux")]
mod faults;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cellsparse_core::Model;
use cellsparse_core::raster::{Image, RawLabels, read_image, read_label_file, write_gray_png8, write_wire_labels};
use cellsparse_core::synthetic::{AnnotationOptions, FieldOptions, annotate, draw_field};
use ndarray::{Array2, Axis};

// The library is linked to build its files; the programs use them as a C program would.
use cellsparse as _;

/// What a static library needs beside itself.
const SYSTEM_LIBRARIES: [&str; 3] = ["-lpthread", "-ldl", "-lm"];
const STRICT: [&str; 6] = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Where cargo left the library that belongs to this test.
fn libraries() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    test.parent().expect("a folder").to_path_buf()
}

fn run(command: &mut Command) -> Output {
    let output = command.env("RUST_BACKTRACE", "0").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// How a program is linked with the library.
#[derive(Clone, Copy, PartialEq)]
enum Linking {
    Static,
    Shared,
}

fn compile(source: &str, flags: &[&str], linking: Linking, to: &Path) -> PathBuf {
    let root = root();
    let cpp = source.ends_with(".cpp");
    let (compiler, standard) = if cpp { ("c++", "-std=c++17") } else { ("cc", "-std=c99") };
    let program = to.join("program");
    let mut command = Command::new(compiler);
    command.arg(format!("-DFIXTURES=\"{}\"", root.join("tests/fixtures").display()));
    command.arg(standard).args(STRICT).args(flags).arg("-I").arg(root.join("include")).arg(root.join(source));
    match linking {
        Linking::Static => command.arg(libraries().join("libcellsparse.a")),
        Linking::Shared => {
            // The name that the library gives itself is not that of its file.
            let shared = to.join("libcellsparse.so.0");
            if !shared.exists() {
                fs::copy(libraries().join("libcellsparse.so"), &shared).expect("the shared library");
            }
            command.arg(shared).arg(format!("-Wl,-rpath,{}", to.display()))
        }
    };
    run(command.args(SYSTEM_LIBRARIES).arg("-o").arg(&program));
    program
}

fn passes(command: &mut Command) {
    let output = run(command);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "passed");
}

#[test]
fn misuse_is_refused_without_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile("tests/c/misuse.c", &[], Linking::Shared, folder.path());
    passes(&mut Command::new(program));
}

#[test]
fn misuse_is_clean_under_sanitizers() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let program = compile("tests/c/misuse.c", &flags, Linking::Static, folder.path());
    passes(&mut Command::new(program));
}

#[test]
#[cfg_attr(not(valgrind), ignore = "valgrind is not installed: this check is left to continuous integration")]
fn misuse_is_clean_under_valgrind() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = compile("tests/c/misuse.c", &[], Linking::Shared, folder.path());
    let flags = [
        "--quiet",
        "--error-exitcode=9",
        "--leak-check=full",
        "--show-leak-kinds=definite",
        "--errors-for-leak-kinds=definite",
    ];
    passes(Command::new("valgrind").args(flags).arg(program));
}

#[test]
fn the_cpp_example_finds_outlines() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let program = compile("examples/c/train_and_predict.cpp", &flags, Linking::Static, folder.path());
    let options = r#"{"steps": 80, "batch_size": 2, "patch_size": 64}"#;
    let output = run(Command::new(&program).args(["stardist", options]));
    let text = String::from_utf8_lossy(&output.stdout);
    let features: serde_json::Value = serde_json::from_str(&text).expect("GeoJSON");
    let features = features.as_array().expect("a list");
    assert!(!features.is_empty(), "{text}");
    assert!(features.iter().all(|feature| feature["geometry"]["type"] == "Polygon"), "{text}");
    let wrong = Command::new(&program).args(["stardist", r#"{"stesp": 2}"#]).output().expect("the program starts");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("stesp"));
}

#[test]
fn the_program_of_the_guide_runs() {
    let guide = fs::read_to_string(root().join("docs/c.md")).expect("docs/c.md");
    let program = guide.split("```c\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a program");
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("guide.c");
    fs::write(&source, program).expect("a file");
    let program = compile(&source.display().to_string(), &[], Linking::Static, folder.path());
    let output = run(&mut Command::new(program));
    assert!(output.stdout.starts_with(b"[{\"type\":\"Feature\""), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Writes a grey image in the format of the C example.
fn write_pgm(path: &Path, values: &Array2<u16>) {
    let mut bytes = format!("P5\n{} {}\n65535\n", values.ncols(), values.nrows()).into_bytes();
    bytes.extend(values.iter().flat_map(|value| value.to_be_bytes()));
    fs::write(path, bytes).expect("a file");
}

fn read_pgm(path: &Path, shape: (usize, usize)) -> Array2<i32> {
    let bytes = fs::read(path).expect("the program's label image");
    let pixels = &bytes[bytes.len() - 2 * shape.0 * shape.1..];
    let values = pixels.as_chunks().0.iter().map(|pair| i32::from(u16::from_be_bytes(*pair)));
    Array2::from_shape_vec(shape, values.collect()).expect("the shape")
}

fn grey(image: &Image) -> Array2<u16> {
    image.to_f32().index_axis(Axis(2), 0).mapv(|value| value as u16)
}

#[test]
fn a_c_program_gives_the_label_images_of_the_command_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    for name in ["image", "sparse", "unseen", "out"] {
        fs::create_dir(at(name)).expect("a folder");
    }
    let options = FieldOptions { height: 128, width: 112, ..FieldOptions::default() };
    let field = draw_field(&options, 5).expect("a field");
    let labels = annotate(&field, &AnnotationOptions::default(), 5);
    let unseen = draw_field(&options, 6).expect("a field").image;
    write_wire_labels(at("sparse"), "a", &labels).expect("labels");
    for (image, name) in [(&field.image, "image/a.png"), (&unseen, "unseen/b.png")] {
        write_gray_png8(at(name), grey(image).mapv(|value| value as u8).view()).expect("an image");
        assert_eq!(&read_image(at(name)).expect("an image"), image);
    }
    write_pgm(&at("a.pgm"), &grey(&field.image));
    write_pgm(&at("sparse.pgm"), &labels.mapv(|label| (label + 1) as u16));
    write_pgm(&at("b.pgm"), &grey(&unseen));

    let program = compile("examples/c/train_and_predict.c", &[], Linking::Shared, folder.path());
    let cli = || Command::new(env!("CARGO_BIN_EXE_cellsparse"));
    // A short training of Cellpose finds nothing yet; the model files are compared for all.
    for (algorithm, steps) in [("stardist", "16"), ("cellpose", "3"), ("elephant", "6")] {
        let path = at("cli.safetensors");
        let train = ["--steps", steps, "--batch-size", "2", "--patch-size", "64", "--seed", "11"];
        run(cli()
            .args(["train", "--algorithm", algorithm])
            .args(train)
            .arg("--images")
            .arg(at("image"))
            .arg("--labels")
            .arg(at("sparse"))
            .arg("--model")
            .arg(&path));
        run(cli()
            .arg("predict")
            .arg("--model")
            .arg(&path)
            .arg("--images")
            .arg(at("unseen"))
            .arg("--out")
            .arg(at("out")));
        let RawLabels::Unsigned(expected) = read_label_file(at("out/b.png")).expect("labels") else {
            panic!("label files are unsigned")
        };
        let options = format!(r#"{{"steps": {steps}, "batch_size": 2, "patch_size": 64, "seed": 11}}"#);
        let (out, model) = (at("b_out.pgm"), at("c.safetensors"));
        run(Command::new(&program).args([algorithm, &options, "11"]).args([
            at("a.pgm"),
            at("sparse.pgm"),
            at("b.pgm"),
            out.clone(),
            model.clone(),
        ]));
        assert!(
            Model::load(&model).expect("a model").weights() == Model::load(&path).expect("a model").weights(),
            "{algorithm}: the weights differ"
        );
        let found = read_pgm(&out, expected.dim());
        assert_eq!(found.mapv(|label| label as u32), expected, "{algorithm}");
        eprintln!("{algorithm}: {} pixels of cells", found.iter().filter(|label| **label > 0).count());
        assert!(algorithm == "cellpose" || found.iter().any(|label| *label > 0), "{algorithm} finds nothing");
    }
}
