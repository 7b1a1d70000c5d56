//! What the code for accelerators asks of Candle is what its Metal backend implements.
//!
//! No machine of the project has Metal, and kernels are looked up by name when they run. So the source of the pinned version is read:
//! every method of tensors that the code calls must be in the table below, and every kernel behind it in the source, for the
//! numbers that networks compute with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sources that run on an accelerator.
const SOURCES: [&str; 11] = [
    "networks/candle_engine.rs",
    "networks/device_layers.rs",
    "networks/device_network.rs",
    "networks/device_norm.rs",
    "networks/device_upload.rs",
    "training/device/learner.rs",
    "training/device/loss.rs",
    "training/device/loss_cellpose.rs",
    "training/device/loss_elephant.rs",
    "training/device/loss_stardist.rs",
    "training/device/optimizer.rs",
];

/// What a method of tensors runs on the device.
#[derive(Clone, Copy)]
enum Runs {
    /// Nothing, or a copy from or to the CPU.
    Nothing,
    /// Copies of values that lie apart.
    Copy,
    /// A kernel for every value.
    Unary(&'static str),
    /// A kernel for every value, which Metal has for contiguous ones only: they are made so where it is called.
    OfContiguous(&'static str),
    /// Kernels for pairs of values.
    Binary(&'static [&'static str]),
    /// Sums.
    Sum,
    /// A factor and an offset.
    Affine,
    /// Conversion between the numbers of a network, and from what comparisons give.
    Cast,
    /// Values by their indices of 32 bits.
    Select,
    /// A product of matrices.
    Product,
    /// Values of windows side by side, and a product.
    Convolution,
}

/// Every method that the sources call, in the order of the alphabet.
const METHODS: [(&str, Runs); 58] = [
    ("abs", Runs::Unary("abs")),
    ("affine", Runs::Affine),
    ("broadcast_add", Runs::Binary(&["badd"])),
    ("broadcast_as", Runs::Nothing),
    ("broadcast_div", Runs::Binary(&["bdiv"])),
    ("broadcast_mul", Runs::Binary(&["bmul"])),
    ("broadcast_sub", Runs::Binary(&["bsub"])),
    ("cat", Runs::Copy),
    ("clamp", Runs::Binary(&["bmaximum", "bminimum"])),
    ("contiguous", Runs::Copy),
    ("conv2d", Runs::Convolution),
    ("device", Runs::Nothing),
    ("dim", Runs::Nothing),
    ("dims", Runs::Nothing),
    ("dims2", Runs::Nothing),
    ("dims4", Runs::Nothing),
    ("dtype", Runs::Nothing),
    ("elem_count", Runs::Nothing),
    ("eq", Runs::Binary(&["eq"])),
    ("exp", Runs::Unary("exp")),
    ("flatten_all", Runs::Nothing),
    ("from_slice", Runs::Nothing),
    ("from_vec", Runs::Nothing),
    ("ge", Runs::Binary(&["ge"])),
    ("gt", Runs::Binary(&["gt"])),
    ("index_select", Runs::Select),
    ("le", Runs::Binary(&["le"])),
    ("log", Runs::Unary("log")),
    ("lt", Runs::Binary(&["lt"])),
    ("matmul", Runs::Product),
    ("maximum", Runs::Binary(&["bmaximum"])),
    ("mean", Runs::Sum),
    ("mean_keepdim", Runs::Sum),
    ("minimum", Runs::Binary(&["bminimum"])),
    ("narrow", Runs::Nothing),
    ("neg", Runs::Unary("neg")),
    ("ones", Runs::Nothing),
    ("pad_with_zeros", Runs::Copy),
    ("permute", Runs::Nothing),
    ("recip", Runs::OfContiguous("recip")),
    ("relu", Runs::Unary("relu")),
    ("reshape", Runs::Copy),
    ("sign", Runs::OfContiguous("sign")),
    ("sqr", Runs::Unary("sqr")),
    ("sqrt", Runs::Unary("sqrt")),
    ("squeeze", Runs::Nothing),
    ("stack", Runs::Copy),
    ("sum", Runs::Sum),
    ("sum_keepdim", Runs::Sum),
    ("to_device", Runs::Nothing),
    ("to_dtype", Runs::Cast),
    ("to_scalar", Runs::Nothing),
    ("to_vec1", Runs::Nothing),
    ("to_vec2", Runs::Nothing),
    ("transpose", Runs::Nothing),
    ("unsqueeze", Runs::Nothing),
    ("zeros", Runs::Nothing),
    ("zeros_like", Runs::Nothing),
];

/// Methods that numbers and slices have, too, and that are called on these only.
const OF_OTHERS: [&str; 4] = ["get", "max", "min", "powf"];

/// The numbers of networks on Metal, as Candle's types, kernels and constants name them.
const NUMBERS: [[&str; 3]; 2] = [["F32", "f32", "FLOAT"], ["BF16", "bf16", "BFLOAT"]];

/// The folders of Candle's core and of its kernels for Metal, if they are on this machine.
fn candle() -> Option<[PathBuf; 2]> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let told = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--manifest-path"])
        .arg(manifest)
        .output()
        .ok()?;
    let metadata: serde_json::Value = serde_json::from_slice(&told.stdout).ok()?;
    let package = metadata["packages"].as_array()?.iter().find(|package| package["name"] == "candle-core")?;
    let core = Path::new(package["manifest_path"].as_str()?).parent()?.to_path_buf();
    let kernels = core.with_file_name(format!("candle-metal-kernels-{}", package["version"].as_str()?));
    (kernels.is_dir() && core.join("src/metal_backend/mod.rs").is_file()).then_some([core, kernels])
}

/// A source without what is compiled for tests only.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn sources() -> Vec<(&'static str, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cellsparse-core/src");
    SOURCES.iter().map(|name| (*name, without_cuda(&code(&root.join(name))))).collect()
}

/// A source up to its module for CUDA alone, which stands at the end.
fn without_cuda(source: &str) -> String {
    source.split("#[cfg(feature = \"cuda\")]\nmod ").next().unwrap_or_default().to_string()
}

/// The names before an opening bracket that follow `mark`.
fn called<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(mark).skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
        let (name, rest) = rest.split_at(end);
        (rest.starts_with('(') || rest.starts_with("::<") || rest.starts_with('<')).then_some(name)
    })
}

/// The kernels that a method needs and the source does not have.
fn missing(runs: Runs, backend: &str, binary: &str) -> Vec<String> {
    let mut wanted: Vec<String> = Vec::new();
    let mut absent = Vec::new();
    let both = |kernel: String, of: &str| [format!("{of} => \"{kernel}\""), format!("{of} => \"{kernel}_strided\"")];
    for [dtype, kernel, constant] in NUMBERS {
        match runs {
            Runs::Nothing => {}
            Runs::Copy => wanted.extend([
                format!("DType::{dtype} => candle_metal_kernels::copy2d::{constant}"),
                format!("DType::{dtype} => candle_metal_kernels::unary::strided::copy::{constant}"),
            ]),
            Runs::Unary(name) => {
                let of = format!("(\"u{name}\", DType::{dtype})");
                wanted.extend(["contiguous", "strided"].map(|kind| format!("{of} => {kind}::{name}::{constant}")));
            }
            Runs::OfContiguous(name) => {
                wanted.push(format!("(\"u{name}\", DType::{dtype}) => contiguous::{name}::{constant}"));
            }
            Runs::Binary(names) => absent.extend(
                names.iter().filter(|name| !has_binary(binary, name, kernel)).map(|name| format!("{name}_{kernel}")),
            ),
            Runs::Sum => {
                let of = format!("(ReduceOp::Sum, DType::{dtype})");
                wanted.extend(["", "_strided"].map(|kind| format!("{of} => (\"fast_sum_{kernel}{kind}\"")));
            }
            Runs::Affine => wanted.extend(both(format!("affine_{kernel}"), &format!("DType::{dtype}"))),
            Runs::Cast => {
                let others = if dtype == "F32" { ["BF16", "U8"] } else { ["F32", "U8"] };
                for other in others {
                    let kernel = format!("cast_{}_{kernel}", other.to_lowercase());
                    wanted.extend(both(kernel, &format!("(DType::{other}, DType::{dtype})")));
                }
            }
            Runs::Select => wanted.push(format!("(DType::U32, DType::{dtype}) => \"is_u32_{kernel}\"")),
            Runs::Product => wanted.push(format!("DType::{dtype} => candle_metal_kernels::GemmDType::{dtype}")),
            Runs::Convolution => wanted.extend([
                format!("DType::{dtype} => \"im2col_{kernel}\""),
                format!("DType::{dtype} => candle_metal_kernels::GemmDType::{dtype}"),
            ]),
        }
    }
    absent.extend(wanted.into_iter().filter(|text| !backend.contains(text.as_str())));
    absent
}

/// Whether the kernels for pairs have an operation: a macro makes those for all numbers.
fn has_binary(source: &str, name: &str, numbers: &str) -> bool {
    let (call, makes) = match name.strip_prefix('b') {
        Some(_) => (format!("init_binary({name})"), "init_binary_k(bop, bop, "),
        None => (format!("init_boolean_binary({name},"), "init_binary_k(op_name, binary_op, "),
    };
    source.contains(&call) && source.contains(&format!("{makes}{numbers},"))
}

#[test]
fn every_operation_is_one_that_metal_has() {
    let Some([core, kernels]) = candle() else {
        eprintln!("left out: the source of candle-metal-kernels is not on this machine (cargo fetch brings it)");
        return;
    };
    let read = |path: PathBuf| fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let tensor = ["tensor", "tensor_cat", "conv"].map(|name| read(core.join(format!("src/{name}.rs")))).concat();
    let has: BTreeSet<&str> = called(&tensor, "pub fn ").chain(MACRO_MADE).collect();
    assert!(has.len() > 150, "{has:?}");
    let backend = read(core.join("src/metal_backend/mod.rs"));
    let binary = read(kernels.join("src/metal_src/binary.metal"));
    let table: BTreeMap<&str, Runs> = METHODS.into_iter().collect();
    assert!(METHODS.windows(2).all(|pair| pair[0].0 < pair[1].0));

    let mut used = BTreeSet::new();
    for (source, text) in sources() {
        for method in called(&text, ".").chain(called(&text, "Tensor::")).filter(|method| has.contains(method)) {
            if OF_OTHERS.contains(&method) {
                continue;
            }
            let runs =
                table.get(method).unwrap_or_else(|| panic!("{source} calls '{method}', which the table does not have"));
            let absent = missing(*runs, &backend, &binary);
            assert!(absent.is_empty(), "{source} calls '{method}', for which Metal lacks {absent:?}");
            if let Runs::OfContiguous(name) = runs {
                let (called, rightly) = (format!(".{name}()"), format!(".contiguous()?.{name}()"));
                let text = text.split_whitespace().collect::<String>();
                assert_eq!(text.matches(&called).count(), text.matches(&rightly).count(), "{source} calls '{name}'");
            }
            used.insert(method.to_string());
        }
    }
    assert!(used.len() > 40, "{used:?}");
    // Operators.
    assert_eq!(missing(Runs::Binary(&["badd", "bsub", "bmul", "bdiv"]), &backend, &binary), Vec::<String>::new());
    // The test can fail.
    for absent in [Runs::Unary("cbrt"), Runs::Binary(&["bpow"]), Runs::Binary(&["almost"])] {
        assert!(!missing(absent, &backend, &binary).is_empty());
    }
}

/// Methods of tensors that macros define.
const MACRO_MADE: [&str; 21] = [
    "recip",
    "neg",
    "exp",
    "log",
    "sin",
    "cos",
    "tanh",
    "abs",
    "sqr",
    "sqrt",
    "relu",
    "sign",
    "maximum",
    "minimum",
    "broadcast_add",
    "broadcast_mul",
    "broadcast_sub",
    "broadcast_div",
    "broadcast_maximum",
    "broadcast_minimum",
    "erf",
];

#[test]
fn numbers_of_64_bits_are_made_on_the_cpu() {
    for (name, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("to_dtype(DType::F64)")) {
            let before = lines[index.saturating_sub(1)..=index].join(" ");
            assert!(before.contains("Device::Cpu"), "{name}: Metal has no numbers of 64 bits: {line}");
        }
    }
}
