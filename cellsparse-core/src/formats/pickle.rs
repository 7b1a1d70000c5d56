//! The part of Python's pickle format that PyTorch state dicts use, read as data: nothing named in a file is ever run.
//!
//! Source of the instructions: Python's `pickletools` module, protocols 2 to 5. Names of functions and classes are
//! compared with a short list; any other is refused at once. Tuples, lists and dicts live in tables and are referred to
//! by index, so neither deep nesting nor cycles cost stack. Every instruction adds at most a few words of memory, and
//! their number is limited. Errors are texts without the file's name.

use std::collections::HashMap;

use super::numbers::Number;
use super::shortened::shortened;

/// Most instructions of one pickle. A state dict has about 40 for each tensor.
const MAX_OPERATIONS: usize = 1 << 20;
/// Most axes of a tensor.
const MAX_AXES: usize = 16;

/// A Python object; containers are indices into the tables of [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// Something that weights do not depend on: None, a float, bytes.
    Other,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bit, little-endian two's complement.
    Long(&'a [u8]),
    Text(&'a str),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

/// The functions and classes that a state dict names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Number),
}

/// A block of numbers outside the pickle.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) number: Number,
    /// Number of elements of the block.
    pub(super) length: usize,
    /// Part of the block that is meant: first element and length. Old files have such views.
    pub(super) view: Option<(usize, usize)>,
}

/// A tensor: a strided view of a storage.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor {
    pub(super) storage: usize,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// One pickle, read.
#[derive(Debug, Default)]
pub(super) struct Pickle<'a> {
    pub(super) tuples: Vec<Vec<Value<'a>>>,
    pub(super) lists: Vec<Vec<Value<'a>>>,
    /// Entries in order; of equal keys the last one counts.
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<Tensor>,
}

/// Reads the pickle at the beginning of `bytes`: its objects, the outermost one, and the number of bytes it takes.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, Value<'_>, usize), String> {
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), out: Pickle::default() };
    for _ in 0..MAX_OPERATIONS {
        if let Some(root) = machine.step()? {
            return Ok((machine.out, root, machine.at));
        }
    }
    Err(format!("its description of the weights has more than {MAX_OPERATIONS} instructions"))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at the marks; what lies below the last one is out of reach.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'a>>,
    out: Pickle<'a>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction; the value at the end.
    fn step(&mut self) -> Result<Option<Value<'a>>, String> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'q' | b'r' | 0x94 => self.memoize(code)?,
            b'h' | b'j' => self.recall(code)?,
            b'N' => self.stack.push(Value::Other),
            0x88 | 0x89 => self.stack.push(Value::Bool(code == 0x88)),
            b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(code)?,
            b'X' | 0x8c | 0x8d | b'T' | b'U' => self.text(code)?,
            b'B' | b'C' | 0x8e => self.binary(code)?,
            b')' | b't' | 0x85 | 0x86 | 0x87 => self.tuple(code)?,
            b']' | b'l' | b'a' | b'e' => self.list(code)?,
            b'}' | b'd' | b's' | b'u' => self.dict(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            _ => {
                return Err(format!(
                    "its description of the weights has an instruction {code:#04x}, which weights never need"
                ));
            }
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let bytes = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end));
        let bytes = bytes.ok_or("its description of the weights is cut off")?;
        self.at += count;
        Ok(bytes)
    }

    /// An unsigned little-endian integer of `width` bytes, at most 8.
    fn unsigned(&mut self, width: usize) -> Result<u64, String> {
        let mut wide = [0; 8];
        for (byte, &read) in wide.iter_mut().zip(self.take(width)?) {
            *byte = read;
        }
        Ok(u64::from_le_bytes(wide))
    }

    /// As many bytes as the integer of `width` bytes before them says.
    fn counted(&mut self, width: usize) -> Result<&'a [u8], String> {
        let count = self.unsigned(width)?;
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn top(&self) -> Result<Value<'a>, String> {
        match self.stack.last() {
            Some(value) if self.stack.len() > self.floor() => Ok(*value),
            _ => Err(unbalanced()),
        }
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        let value = self.top()?;
        self.stack.pop();
        Ok(value)
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or_else(unbalanced)?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.take(1)?[0] {
            2..=5 => Ok(()),
            other => Err(format!("its description of the weights has pickle protocol {other}; 2 to 5 are read")),
        }
    }

    fn memoize(&mut self, code: u8) -> Result<(), String> {
        let key = match code {
            b'q' => self.unsigned(1)? as u32,
            b'r' => self.unsigned(4)? as u32,
            _ => self.memo.len() as u32,
        };
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<(), String> {
        let key = self.unsigned(if code == b'h' { 1 } else { 4 })? as u32;
        let value = self.memo.get(&key).ok_or("its description of the weights refers to something it does not hold")?;
        self.stack.push(*value);
        Ok(())
    }

    fn number(&mut self, code: u8) -> Result<(), String> {
        let value = match code {
            b'J' => Value::Int(i64::from(self.unsigned(4)? as u32 as i32)),
            b'K' => Value::Int(self.unsigned(1)? as i64),
            b'M' => Value::Int(self.unsigned(2)? as i64),
            b'G' => {
                self.take(8)?;
                Value::Other
            }
            _ => {
                let digits = self.counted(if code == 0x8a { 1 } else { 4 })?;
                let negative = digits.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                if digits.len() <= 8 {
                    wide[..digits.len()].copy_from_slice(digits);
                    Value::Int(i64::from_le_bytes(wide))
                } else {
                    Value::Long(digits)
                }
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn text(&mut self, code: u8) -> Result<(), String> {
        let bytes = self.counted(match code {
            0x8c | b'U' => 1,
            0x8d => 8,
            _ => 4,
        })?;
        let text =
            std::str::from_utf8(bytes).map_err(|_| "its description of the weights has a text that is not UTF-8")?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn binary(&mut self, code: u8) -> Result<(), String> {
        self.counted(match code {
            b'C' => 1,
            0x8e => 8,
            _ => 4,
        })?;
        self.stack.push(Value::Other);
        Ok(())
    }

    fn tuple(&mut self, code: u8) -> Result<(), String> {
        let items = match code {
            b')' => Vec::new(),
            b't' => self.pop_mark()?,
            _ => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
                self.stack.split_off(start.ok_or_else(unbalanced)?)
            }
        };
        self.stack.push(Value::Tuple(self.out.tuples.len()));
        self.out.tuples.push(items);
        Ok(())
    }

    fn list(&mut self, code: u8) -> Result<(), String> {
        if code == b']' || code == b'l' {
            let items = if code == b'l' { self.pop_mark()? } else { Vec::new() };
            self.stack.push(Value::List(self.out.lists.len()));
            self.out.lists.push(items);
            return Ok(());
        }
        let items = if code == b'a' { vec![self.pop()?] } else { self.pop_mark()? };
        let Value::List(index) = self.top()? else { return Err(unbalanced()) };
        self.out.lists.get_mut(index).ok_or_else(unbalanced)?.extend(items);
        Ok(())
    }

    fn dict(&mut self, code: u8) -> Result<(), String> {
        let items = match code {
            b'}' => Vec::new(),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let (pairs, []) = items.as_chunks::<2>() else { return Err(unbalanced()) };
        if code == b'}' || code == b'd' {
            self.new_dict();
        }
        let Value::Dict(index) = self.top()? else { return Err(unbalanced()) };
        let dict = self.out.dicts.get_mut(index).ok_or_else(unbalanced)?;
        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    fn new_dict(&mut self) {
        self.stack.push(Value::Dict(self.out.dicts.len()));
        self.out.dicts.push(Vec::new());
    }

    fn global(&mut self, code: u8) -> Result<(), String> {
        let (module, name) = if code == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let (Value::Text(module), Value::Text(name)) = (module, name) else { return Err(unbalanced()) };
            (module, name)
        };
        self.stack.push(Value::Global(known(module, name)?));
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("its description of the weights is cut off")?;
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| "its description of the weights has a name that is not UTF-8".to_string())
    }

    /// A reference to a storage: `("storage", class, key, device, length)`, in old files with a view at the end.
    fn persistent(&mut self) -> Result<(), String> {
        let odd = || "its description of the weights refers to something other than a block of numbers".to_string();
        let id = self.pop()?;
        let items = self.items(id).ok_or_else(odd)?;
        let [Value::Text("storage"), Value::Global(Global::Storage(number)), Value::Text(key), _, length, rest @ ..] =
            items
        else {
            return Err(odd());
        };
        let view = match rest {
            [] | [Value::Other] => None,
            [Value::Tuple(view)] => match self.out.tuples.get(*view).map(Vec::as_slice) {
                Some([_, offset, length]) => Some((size(*offset)?, size(*length)?)),
                _ => return Err(odd()),
            },
            _ => return Err(odd()),
        };
        let storage = Storage { key, number: *number, length: size(*length)?, view };
        self.stack.push(Value::Storage(self.out.storages.len()));
        self.out.storages.push(storage);
        Ok(())
    }

    fn items(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Tuple(index) => self.out.tuples.get(index).map(Vec::as_slice),
            _ => None,
        }
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = self.items(arguments).ok_or_else(unbalanced)?;
        match (function, arguments) {
            (Value::Global(Global::OrderedDict), []) => self.new_dict(),
            (Value::Global(Global::Size), [sizes @ Value::Tuple(_)])
            | (Value::Global(Global::RebuildParameter), [sizes @ Value::Tensor(_), _, _]) => {
                let value = *sizes;
                self.stack.push(value);
            }
            (
                Value::Global(Global::RebuildTensor),
                [Value::Storage(storage), offset, shape @ Value::Tuple(_), strides @ Value::Tuple(_), _, _]
                | [Value::Storage(storage), offset, shape @ Value::Tuple(_), strides @ Value::Tuple(_), _, _, _],
            ) => {
                let tensor = Tensor {
                    storage: *storage,
                    offset: size(*offset)?,
                    shape: self.sizes(*shape)?,
                    strides: self.sizes(*strides)?,
                };
                self.stack.push(Value::Tensor(self.out.tensors.len()));
                self.out.tensors.push(tensor);
            }
            _ => return Err("its description of the weights has a tensor or dict in an unknown form".to_string()),
        }
        Ok(())
    }

    fn sizes(&self, value: Value<'a>) -> Result<Vec<usize>, String> {
        let items = self.items(value).ok_or_else(unbalanced)?;
        if items.len() > MAX_AXES {
            return Err(format!("it has a tensor of {} axes; {MAX_AXES} at most are read", items.len()));
        }
        items.iter().map(|item| size(*item)).collect()
    }

    /// Attributes of a state dict (its `_metadata`) carry nothing that weights need.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.top()? {
            Value::Dict(_) => Ok(()),
            _ => Err(unbalanced()),
        }
    }
}

fn unbalanced() -> String {
    "its description of the weights is damaged".to_string()
}

fn size(value: Value<'_>) -> Result<usize, String> {
    match value {
        Value::Int(number) => usize::try_from(number).map_err(|_| format!("it has a size of {number}")),
        _ => Err("it has a size that is not an integer".to_string()),
    }
}

/// The function or class `module.name`, if state dicts name it.
fn known(module: &str, name: &str) -> Result<Global, String> {
    let number = match name {
        "DoubleStorage" => Some(Number::F64),
        "FloatStorage" => Some(Number::F32),
        "HalfStorage" => Some(Number::F16),
        "BFloat16Storage" => Some(Number::Bf16),
        "LongStorage" => Some(Number::I64),
        "IntStorage" => Some(Number::I32),
        "ShortStorage" => Some(Number::I16),
        "CharStorage" => Some(Number::I8),
        "ByteStorage" => Some(Number::U8),
        "BoolStorage" => Some(Number::Bool),
        _ => None,
    };
    match (module, name, number) {
        ("collections", "OrderedDict", _) => Ok(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2", _) => Ok(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter", _) => Ok(Global::RebuildParameter),
        ("torch", "Size", _) => Ok(Global::Size),
        ("torch" | "torch.cuda" | "torch.storage", _, Some(number)) => Ok(Global::Storage(number)),
        _ => Err(format!(
            "it names the Python object '{}', which weights do not need and which is never run here; only plain weights \
             are read, as torch.save(model.state_dict(), FILE) writes them",
            shortened(&format!("{module}.{name}"))
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width() {
        let bytes = b"\x80\x02(K\xffM\x00\x01J\xfe\xff\xff\xff\x8a\x00\x8a\x02\x00\x80\x8a\x09\0\0\0\0\0\0\0\x80\x00t.";
        let (pickle, root, length) = read(bytes).unwrap();
        assert_eq!(length, bytes.len());
        let Value::Tuple(index) = root else { panic!("{root:?}") };
        let ints: Vec<Value> = [255, 256, -2, 0, -32768].into_iter().map(Value::Int).collect();
        assert_eq!(pickle.tuples[index][..5], ints);
        assert_eq!(pickle.tuples[index][5], Value::Long(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0]));
    }

    #[test]
    fn dicts_lists_and_the_memo() {
        // {"a": [True, "b"], "c": the same list}
        let (pickle, root, _) = read(b"\x80\x04}(\x8c\x01a]\x94(\x88\x8c\x01be\x8c\x01ch\x00u.").unwrap();
        assert_eq!(root, Value::Dict(0));
        assert_eq!(pickle.dicts[0], [(Value::Text("a"), Value::List(0)), (Value::Text("c"), Value::List(0))]);
        assert_eq!(pickle.lists[0], [Value::Bool(true), Value::Text("b")]);
    }

    #[test]
    fn functions_are_refused_by_name() {
        for bytes in [&b"\x80\x02cos\nsystem\n(X\x04\0\0\0trueetR."[..], b"\x80\x04\x8c\x02os\x8c\x06system\x93."] {
            let message = read(bytes).unwrap_err();
            assert!(message.contains("'os.system'") && message.contains("never run"), "{message}");
        }
        assert!(read(b"\x80\x02cbuiltins\neval\n.").unwrap_err().contains("'builtins.eval'"));
        assert!(read(b"\x80\x02ctorch.storage\n_load_from_bytes\n.").unwrap_err().contains("_load_from_bytes"));
    }

    #[test]
    fn what_is_not_balanced_is_refused() {
        for bytes in [
            &b""[..],
            b".",
            b"t.",
            b"(.",
            b"K\x01(\x85.",
            b"K\x01(0.",
            b"}K\x01s.",
            b"}(K\x01u.",
            b"K\x01a.",
            b"]K\x01K\x01s.",
            b"h\x05.",
            b"X\xff\xff\xff\xffab.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab.",
            b"\x8b\xff\xff\xff\xff.",
            b"ccollections\nOrderedDict",
            b"ccollections\nOrderedDict\nK\x01R.",
            b"NNb.",
            b")Q.",
            b"i",
            b"\x80\x09N.",
        ] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn nesting_and_cycles_cost_no_stack() {
        let mut deep = vec![b')'];
        deep.extend(std::iter::repeat_n(0x85, 500_000));
        deep.push(b'.');
        assert_eq!(read(&deep).unwrap().1, Value::Tuple(500_000));
        let (pickle, root, _) = read(b"]q\x00h\x00a.").unwrap();
        assert_eq!((pickle.lists[0].as_slice(), root), (&[Value::List(0)][..], Value::List(0)));
        let endless = vec![b'N'; MAX_OPERATIONS + 1];
        assert!(read(&endless).unwrap_err().contains("instructions"));
    }
}
