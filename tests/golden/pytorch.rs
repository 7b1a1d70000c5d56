//! PyTorch files: what PyTorch wrote is read exactly, what is written comes back, and nothing damaged or malicious does
//! more than give an error.

use cellsparse_tests as common;

use std::path::{Path, PathBuf};

use cellsparse_core::formats::foreign::{WeightsKind, read_weights};
use cellsparse_core::formats::pytorch::{StateDict, read_state_dict, write_state_dict};
use cellsparse_core::formats::tensors::{read_foreign_tensors, write_tensors};
use cellsparse_core::random::Random;
use cellsparse_core::{ErrorKind, Model};

use crate::keras::stored_zip;

fn path(name: &str) -> PathBuf {
    common::fixtures().join("cellpose").join(name)
}

/// Bit patterns of the values, so that infinities and signed zeros count.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The same names, shapes and values; the order is that of `expected` only if `ordered`.
fn assert_same(found: &StateDict, expected: &StateDict, ordered: bool) {
    let sorted = |dict: &StateDict| {
        let mut arrays = dict.arrays.clone();
        if !ordered {
            arrays.sort_by(|a, b| a.name.cmp(&b.name));
        }
        arrays
    };
    assert_eq!(found.arrays.len(), expected.arrays.len());
    for (found, expected) in sorted(found).iter().zip(&sorted(expected)) {
        assert_eq!((&found.name, &found.shape), (&expected.name, &expected.shape));
        assert_eq!(bits(&found.values), bits(&expected.values), "{}", found.name);
    }
}

fn write(path: &Path, dict: &StateDict) {
    let arrays = dict.arrays.iter().map(|a| (a.name.clone(), a.shape.as_slice(), a.values.as_slice()));
    write_state_dict(path, arrays).unwrap();
}

#[test]
fn a_cellpose_network_is_read_in_both_forms() {
    let mut expected = read_foreign_tensors(&path("cpnet_small.safetensors")).unwrap();
    expected.arrays.retain(|array| array.name.starts_with("weights."));
    for array in &mut expected.arrays {
        array.name = array.name.strip_prefix("weights.").unwrap().to_string();
        // The recording kept the counters, which are single numbers, as arrays of one.
        if array.name.ends_with("num_batches_tracked") {
            array.shape.clear();
        }
    }
    assert_eq!(expected.arrays.len(), 237);
    let new = read_state_dict(path("small_net.pth")).unwrap();
    let old = read_state_dict(path("small_net_legacy.pth")).unwrap();
    assert_same(&new, &expected, false);
    assert_same(&old, &new, true);
    assert_eq!(new.arrays[0].name, "diam_mean");
    assert!(new.notes.is_empty() && old.notes.is_empty());
    let counters: Vec<_> = new.arrays.iter().filter(|a| a.name.ends_with("num_batches_tracked")).collect();
    assert!(!counters.is_empty() && counters.iter().all(|a| a.shape.is_empty() && a.values.len() == 1));
}

#[test]
fn every_element_type_and_every_view() {
    let expected = read_foreign_tensors(&path("kinds_float32.safetensors")).unwrap();
    for name in ["kinds.pth", "kinds_legacy.pth"] {
        let found = read_state_dict(path(name)).unwrap();
        assert_same(&found, &expected, true);
    }
    let names: Vec<&str> = expected.arrays.iter().map(|a| a.name.as_str()).collect();
    assert!(
        ["transposed", "expanded", "empty", "half", "bfloat16", "double", "bool"].iter().all(|n| names.contains(n))
    );
}

/// A file of PyTorch in which all float arrays are views of one block, kernels with the channels last, from an offset on, nested
/// under a key: what `model.to(memory_format=torch.channels_last)` and flat buffers of optimisers leave behind.
fn views_of_one_block(dict: &StateDict, kind: &str, bytes_of: impl Fn(f32) -> Vec<u8>) -> Vec<u8> {
    const EMPTY: &[u8] = b"ccollections\nOrderedDict\n)R";
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let int = |out: &mut Vec<u8>, number: usize| {
        out.push(b'J');
        out.extend((number as i32).to_le_bytes());
    };
    let floats: Vec<_> = dict.arrays.iter().filter(|array| !array.name.ends_with("num_batches_tracked")).collect();
    let total = 3 + floats.iter().map(|array| array.values.len()).sum::<usize>();
    let mut block: Vec<u8> = (0..3).flat_map(|_| bytes_of(7.0)).collect();
    let mut pickle = b"\x80\x02}(".to_vec();
    text(&mut pickle, "epoch");
    pickle.extend(b"K\x03");
    text(&mut pickle, "model_state_dict");
    pickle.extend(EMPTY);
    pickle.push(b'(');
    let mut offset = 3;
    for array in floats {
        // Order of the axes in the block, the outermost first.
        let order: Vec<usize> =
            if array.shape.len() == 4 { vec![0, 2, 3, 1] } else { (0..array.shape.len()).collect() };
        let mut strides = vec![1; array.shape.len()];
        for pair in (1..order.len()).rev() {
            strides[order[pair - 1]] = strides[order[pair]] * array.shape[order[pair]];
        }
        let mut placed = vec![0.0; array.values.len()];
        for (index, value) in array.values.iter().enumerate() {
            let (mut rest, mut place) = (index, 0);
            for axis in (0..array.shape.len()).rev() {
                place += rest % array.shape[axis] * strides[axis];
                rest /= array.shape[axis];
            }
            placed[place] = *value;
        }
        block.extend(placed.into_iter().flat_map(&bytes_of));
        text(&mut pickle, &array.name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{kind}\n").as_bytes());
        text(&mut pickle, "0");
        text(&mut pickle, "cpu");
        int(&mut pickle, total);
        pickle.extend(b"tQ");
        int(&mut pickle, offset);
        pickle.push(b'(');
        array.shape.iter().for_each(|side| int(&mut pickle, *side));
        pickle.extend(b"t(");
        strides.iter().for_each(|stride| int(&mut pickle, *stride));
        pickle.extend(b"t\x89");
        pickle.extend(EMPTY);
        pickle.extend(b"tR");
        offset += array.values.len();
    }
    pickle.extend(b"uu.");
    stored_zip(&[("a/data.pkl".into(), pickle), ("a/byteorder".into(), b"little".to_vec()), ("a/data/0".into(), block)])
}

#[test]
fn a_network_with_the_channels_last_in_one_block_is_the_same_network() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pth");
    let dict = read_state_dict(path("small_net.pth")).unwrap();
    let expected = Model::from_state_dict(dict.clone().into_named_arrays()).unwrap();
    std::fs::write(&file, views_of_one_block(&dict, "FloatStorage", |value| value.to_le_bytes().to_vec())).unwrap();
    let found = Model::import(&file, None).unwrap();
    assert_eq!(found.model.weights(), expected.weights());
    assert!(found.notes.iter().any(|note| note.contains("'model_state_dict'")), "{:?}", found.notes);
    // The upper half of each number.
    let half = |value: f32| value.to_le_bytes()[2..].to_vec();
    std::fs::write(&file, views_of_one_block(&dict, "BFloat16Storage", half)).unwrap();
    let found = Model::import(&file, None).unwrap().model;
    for (found, expected) in found.weights().parameters().iter().zip(expected.weights().parameters()) {
        let rounded = expected.values.iter().map(|value| f32::from_bits(value.to_bits() & 0xffff_0000));
        assert!(found.values.iter().copied().eq(rounded), "{}", expected.spec.name);
    }
    // A view that leaves its block is refused.
    let bytes = views_of_one_block(&dict, "FloatStorage", |value| value.to_le_bytes()[..3].to_vec());
    std::fs::write(&file, bytes).unwrap();
    assert!(Model::import(&file, None).unwrap_err().to_string().contains("block"));
}

#[test]
fn wrappers_are_opened_and_named() {
    let dict = read_state_dict(path("wrapped.pth")).unwrap();
    let names: Vec<&str> = dict.arrays.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]);
    let notes = dict.notes.join("; ");
    for word in ["'state_dict'", "2 state dicts", "first", "'module.'"] {
        assert!(notes.contains(word), "{word}: {notes}");
    }
}

#[test]
fn what_is_written_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["small_net.pth", "kinds.pth"] {
        let dict = read_state_dict(path(name)).unwrap();
        let copy = folder.path().join(name);
        write(&copy, &dict);
        assert_same(&read_state_dict(&copy).unwrap(), &dict, true);
        assert_eq!(WeightsKind::of(&copy).unwrap(), WeightsKind::PyTorch);
        let first = std::fs::read(&copy).unwrap();
        write(&copy, &dict);
        assert!(first == std::fs::read(&copy).unwrap(), "the same weights make the same file");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file may stay");
}

#[test]
fn nonsense_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pth");
    let refused = |arrays: &[(&str, &[usize], &[f32])]| {
        let arrays = arrays.iter().map(|(name, shape, values)| (name.to_string(), *shape, *values));
        write_state_dict(&file, arrays).unwrap_err().to_string()
    };
    assert!(refused(&[("a", &[2], &[1.0])]).contains("[2] and 1 values"));
    assert!(refused(&[("a", &[usize::MAX, 2], &[1.0])]).contains("'a'"));
    assert!(refused(&[("a", &[0, usize::MAX, 2], &[])]).contains("'a'"));
    assert!(refused(&[("a", &[], &[1.0]), ("a", &[], &[1.0])]).contains("two arrays"));
    assert!(refused(&[("bn.num_batches_tracked", &[], &[0.5])]).contains("0.5"));
    assert!(refused(&[("bn.num_batches_tracked", &[], &[f32::NAN])]).contains("NaN"));
    assert!(!file.exists());
}

#[test]
fn kinds_are_told_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    for (content, kind) in [
        (&b"\x89HDF\r\n\x1a\n\0\0\0\0\0"[..], Ok(WeightsKind::Hdf5)),
        (b"PK\x03\x04.........................&metadata.json{}", Ok(WeightsKind::Keras)),
        (b"PK\x03\x04.........................&archive/data.pkl", Ok(WeightsKind::PyTorch)),
        (b"PK\x03\x04.........................&stardist_weights.h5", Err("cut off; copy or download it again")),
        (b"", Err("empty")),
        (b"hello, this is a text", Err("known")),
        (b"\x10\0\0\0\0\0\0\0{\"a\": 1", Err("safetensors")),
    ] {
        std::fs::write(&file, content).unwrap();
        match (WeightsKind::of(&file), kind) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }
    std::fs::write(&file, b"\x89HDF\r\n\x1a\n").unwrap();
    assert!(read_weights(&file).unwrap_err().to_string().contains("Keras"));
    write_tensors(&file, [("a".to_string(), &[][..], &[1.0][..])], "{}".into()).unwrap();
    assert_eq!(WeightsKind::of(&file).unwrap(), WeightsKind::Cellsparse);
    assert!(read_weights(&file).unwrap_err().to_string().contains("already"));
    assert!(WeightsKind::of(folder.path()).unwrap_err().to_string().contains("folder"));
    assert_eq!(WeightsKind::of(path("kinds_float32.safetensors")).unwrap(), WeightsKind::Safetensors);
    assert_eq!(read_weights(path("kinds.pth")).unwrap(), read_state_dict(path("kinds.pth")).unwrap());
}

#[test]
fn the_length_of_a_header_is_taken_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.safetensors");
    let header = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    // Their bytes are those that pickles, programs of TensorFlow and ONNX files begin with.
    for length in [0x0280_usize, 0x0380, 0x0580, 0x1_0480, 0x12_0108, 0x1a_0308] {
        let mut content = (length as u64).to_le_bytes().to_vec();
        content.extend(header.bytes());
        content.resize(8 + length, b' ');
        content.extend(1.0_f32.to_le_bytes());
        std::fs::write(&file, content).unwrap();
        assert_eq!(WeightsKind::of(&file).unwrap(), WeightsKind::Safetensors, "{length:#x}");
        assert_eq!(read_weights(&file).unwrap().arrays[0].values, [1.0], "{length:#x}");
    }
}

#[test]
fn the_kind_of_a_file_of_any_size_is_told_by_its_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.safetensors");
    let bytes: u64 = 5 << 30;
    let header = format!(r#"{{"a":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{bytes}]}}}}"#, bytes / 4);
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, &(header.len() as u64).to_le_bytes()).unwrap();
    std::io::Write::write_all(&mut file, header.as_bytes()).unwrap();
    // Sparse: it takes no room on the disk.
    file.set_len(8 + header.len() as u64 + bytes).unwrap();
    assert_eq!(WeightsKind::of(&path).unwrap(), WeightsKind::Safetensors);
    assert_eq!(read_weights(&path).unwrap_err().kind(), ErrorKind::Limit);
}

/// Bytes of a file of the older form around a pickle of the weights; the blocks are those of `tail`.
fn sequence(weights: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    bytes.extend(weights);
    bytes.extend(tail);
    bytes
}

/// A state dict of one tensor `w` whose offset, shape and strides are the given instructions, over 4 floats.
fn one_tensor(geometry: &[u8]) -> Vec<u8> {
    let mut weights =
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\n".to_vec();
    weights.extend(b"U\x01kU\x03cpuK\x04NtQ");
    weights.extend(geometry);
    weights.extend(b"\x89}tRs.");
    let mut tail = b"\x80\x02](U\x01ke.".to_vec();
    tail.extend(4_u64.to_le_bytes());
    tail.extend([1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()));
    sequence(&weights, &tail)
}

#[test]
fn views_stay_inside_their_block() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pth");
    let read = |geometry: &[u8]| {
        std::fs::write(&file, one_tensor(geometry)).unwrap();
        read_state_dict(&file).map(|dict| dict.arrays[0].values.clone()).map_err(|error| error.to_string())
    };
    assert_eq!(read(b"K\x01K\x03\x85K\x01\x85").unwrap(), [2.0, 3.0, 4.0]);
    assert_eq!(read(b"K\x00K\x02K\x02\x86K\x01K\x02\x86").unwrap(), [1.0, 3.0, 2.0, 4.0]);
    assert_eq!(read(b"K\x03))").unwrap(), [4.0]);
    // The stride of an axis of length 1 means nothing, however large.
    assert_eq!(read(b"K\x03K\x01\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85").unwrap(), [4.0]);
    for (geometry, word) in [
        (&b"K\x02K\x03\x85K\x01\x85"[..], "beyond"),
        (b"K\x04))", "beyond"),
        (b"K\x00K\x02\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", "beyond"),
        (b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x02\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85", "beyond"),
        // Four floats repeated until memory is full.
        (b"K\x00\x8a\x06\0\0\0\0\0\x10\x85K\x00\x85", "more than the file can hold"),
        (b"K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x00K\x02\x87K\x00K\x00K\x00\x87", "more than the file"),
        (b"K\x00K\x02\x85)", "strides"),
        (b"K\x00J\xff\xff\xff\xff\x85K\x01\x85", "size of -1"),
        (b"K\x00(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t)", "17 axes"),
    ] {
        let message = read(geometry).unwrap_err();
        assert!(message.contains(word), "'{word}' is not in: {message}");
    }
}

#[test]
fn files_that_would_run_something_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pth");
    let proof = folder.path().join("ran");
    let command = format!("touch {}", proof.display());
    for module in ["os", "posix", "nt"] {
        let mut weights = format!("\u{2}c{module}\nsystem\n(X").into_bytes();
        weights.insert(0, 0x80);
        weights.extend((command.len() as u32).to_le_bytes());
        weights.extend(command.as_bytes());
        weights.extend(b"tR.");
        std::fs::write(&file, sequence(&weights, b"\x80\x02].")).unwrap();
        let message = read_state_dict(&file).unwrap_err().to_string();
        assert!(message.contains(&format!("'{module}.system'")) && message.contains("never run"), "{message}");
    }
    assert!(!proof.exists());
}

#[test]
fn dicts_in_dicts_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pth");
    let message = |weights: &[u8]| {
        std::fs::write(&file, sequence(weights, b"\x80\x02].")).unwrap();
        read_state_dict(&file).unwrap_err().to_string()
    };
    assert!(message(b"\x80\x02}q\0U\x01ah\0s.").contains("nested"));
    assert!(message(b"\x80\x02]q\0h\0a.").contains("nested"));
    assert!(message(b"\x80\x02}q\0U\x05modelh\0s.").contains("nested"));
    assert!(message(b"\x80\x02}.").contains("empty"));
    assert!(message(b"\x80\x02].").contains("empty list"));
    assert!(message(b"\x80\x02}U\x05epochK\x01s.").contains("'epoch'"));
    assert!(message(b"\x80\x02K\x01.").contains("no state dict"));
    // Each dict holds the one before it 200 times: 200^5 paths to the innermost.
    let mut weights = b"\x80\x02}q\0".to_vec();
    for level in 1..=5_u8 {
        weights.extend(b"}(");
        for key in 0..200 {
            weights.extend([b'K', key, b'h', level - 1]);
        }
        weights.extend([b'u', b'q', level]);
    }
    weights.push(b'.');
    assert!(message(&weights).contains("entries"));
}

#[test]
fn every_beginning_of_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pth");
    let written = folder.path().join("written.pth");
    write(&written, &read_state_dict(path("kinds.pth")).unwrap());
    for name in [path("kinds.pth"), path("kinds_legacy.pth"), path("wrapped.pth"), written, path("small_net.pth")] {
        let bytes = std::fs::read(&name).unwrap();
        let step = if bytes.len() > 50_000 { 997 } else { 1 };
        for length in (0..bytes.len()).step_by(step).chain(bytes.len().saturating_sub(40)..bytes.len()) {
            std::fs::write(&file, &bytes[..length]).unwrap();
            assert!(read_state_dict(&file).is_err(), "{length} bytes of {}", name.display());
        }
    }
}

#[test]
fn changed_bytes_give_an_error_or_weights() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.pth");
    let mut refused = 0;
    for (stream, name) in ["kinds.pth", "kinds_legacy.pth", "wrapped.pth"].into_iter().enumerate() {
        let original = std::fs::read(path(name)).unwrap();
        let mut random = Random::new(0, stream as u64);
        for _ in 0..3000 {
            let mut bytes = original.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            std::fs::write(&file, &bytes).unwrap();
            match read_weights(&file) {
                Ok(dict) => {
                    let values: usize = dict.arrays.iter().map(|a| a.values.len()).sum();
                    assert!(values <= bytes.len() + 65_536, "{values} values from {} bytes", bytes.len());
                    assert!(dict.arrays.iter().all(|a| a.values.len() == a.shape.iter().product::<usize>()));
                }
                Err(error) => {
                    let message = error.to_string();
                    assert!(!message.contains('\n') && message.len() < 600, "{message}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 1000, "{refused} refused");
}
