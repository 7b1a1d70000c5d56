//! Python's pickle format read as data, for the arrays in it: nothing named in a file is ever run.
//!
//! Source of the instructions: Python's `pickletools` module, protocols 2 to 5. What a function would have made is an
//! [`Object`] that holds the names, the arguments and the state of it. Containers live in tables and are referred to by index, so
//! neither deep nesting nor cycles cost stack; every instruction adds a few words at most. Errors are texts without the file's
//! name.

use std::collections::HashMap;

/// Most instructions. The files of Cellpose have a few hundred, and a few for each cell.
const MAX_OPERATIONS: usize = 1 << 22;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// Nothing that arrays depend on.
    Other,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
    /// A tuple or a list.
    Sequence(usize),
    Dict(usize),
    /// A function or a class: module and name.
    Global(&'a str, &'a str),
    Object(usize),
}

/// What a call of `callee` would have made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Object<'a> {
    pub(super) callee: Value<'a>,
    pub(super) arguments: Value<'a>,
    pub(super) state: Value<'a>,
}

#[derive(Debug, Default)]
pub(super) struct Pickle<'a> {
    sequences: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    objects: Vec<Object<'a>>,
}

impl<'a> Pickle<'a> {
    /// The items of a tuple or a list.
    pub(super) fn items(&self, value: Value<'a>) -> &[Value<'a>] {
        match value {
            Value::Sequence(index) => self.sequences.get(index).map(Vec::as_slice).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The value of a text key; the last one counts.
    pub(super) fn get(&self, dict: Value<'a>, key: &str) -> Option<Value<'a>> {
        let Value::Dict(index) = dict else { return None };
        self.dicts.get(index)?.iter().rev().find(|(name, _)| *name == Value::Text(key)).map(|(_, value)| *value)
    }

    pub(super) fn object(&self, value: Value<'a>) -> Option<Object<'a>> {
        match value {
            Value::Object(index) => self.objects.get(index).copied(),
            _ => None,
        }
    }
}

/// Reads the pickle at the beginning of `bytes`: its objects and the outermost one.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, Value<'_>), String> {
    let mut machine =
        Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), out: Pickle::default() };
    for _ in 0..MAX_OPERATIONS {
        match machine.step() {
            Some(None) => {}
            Some(Some(root)) => return Ok((machine.out, root)),
            None => {
                return Err(format!("its pickled content is damaged or in an unknown form (at byte {})", machine.at));
            }
        }
    }
    Err(format!("its pickled content has more than {MAX_OPERATIONS} instructions"))
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
    /// Runs one instruction; the value at the end, or nothing when the bytes make no sense.
    fn step(&mut self) -> Option<Option<Value<'a>>> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return self.pop().map(Some),
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'q' | b'r' | 0x94 => {
                let key = match code {
                    b'q' => self.unsigned(1)? as u32,
                    b'r' => self.unsigned(4)? as u32,
                    _ => self.memo.len() as u32,
                };
                let top = self.top()?;
                self.memo.insert(key, top);
            }
            b'h' | b'j' => {
                let key = self.unsigned(if code == b'h' { 1 } else { 4 })? as u32;
                self.stack.push(*self.memo.get(&key)?);
            }
            b'N' => self.stack.push(Value::Other),
            0x88 | 0x89 => self.stack.push(Value::Bool(code == 0x88)),
            b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(code)?,
            b'X' | 0x8c | 0x8d => {
                let bytes = self.counted(match code {
                    0x8c => 1,
                    0x8d => 8,
                    _ => 4,
                })?;
                self.stack.push(std::str::from_utf8(bytes).map_or(Value::Other, Value::Text));
            }
            b'B' | b'C' | 0x8e | 0x96 | b'T' | b'U' => {
                let bytes = self.counted(match code {
                    b'C' | b'U' => 1,
                    0x8e | 0x96 => 8,
                    _ => 4,
                })?;
                self.stack.push(Value::Bytes(bytes));
            }
            b')' | b']' | 0x8f => self.sequence(Vec::new()),
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.sequence(items);
            }
            0x85..=0x87 => {
                let start =
                    self.stack.len().checked_sub(usize::from(code - 0x84)).filter(|start| *start >= self.floor())?;
                let items = self.stack.split_off(start);
                self.sequence(items);
            }
            b'a' | b'e' | 0x90 => {
                let items = if code == b'a' { vec![self.pop()?] } else { self.pop_mark()? };
                // Other containers than lists take items too.
                if let Value::Sequence(index) = self.top()? {
                    self.out.sequences.get_mut(index)?.extend(items);
                }
            }
            b'}' | b'd' | b's' | b'u' => self.dict(code)?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Global(module, name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (module, name) else { return None };
                self.stack.push(Value::Global(module, name));
            }
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.object(callee, arguments);
            }
            0x92 => {
                let (_, arguments, callee) = (self.pop()?, self.pop()?, self.pop()?);
                self.object(callee, arguments);
            }
            b'b' => {
                let state = self.pop()?;
                if let Value::Object(index) = self.top()? {
                    self.out.objects.get_mut(index)?.state = state;
                }
            }
            _ => return None,
        }
        Some(None)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    /// An unsigned little-endian integer of `width` bytes, at most 8.
    fn unsigned(&mut self, width: usize) -> Option<u64> {
        let mut wide = [0; 8];
        wide.iter_mut().zip(self.take(width)?).for_each(|(byte, read)| *byte = *read);
        Some(u64::from_le_bytes(wide))
    }

    /// As many bytes as the integer of `width` bytes before them says.
    fn counted(&mut self, width: usize) -> Option<&'a [u8]> {
        let count = usize::try_from(self.unsigned(width)?).ok()?;
        self.take(count)
    }

    fn line(&mut self) -> Option<&'a str> {
        let length = self.bytes.get(self.at..)?.iter().position(|byte| *byte == b'\n')?;
        let line = self.take(length)?;
        self.take(1)?;
        std::str::from_utf8(line).ok()
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Option<Value<'a>> {
        self.stack.last().copied().filter(|_| self.stack.len() > self.floor())
    }

    fn pop(&mut self) -> Option<Value<'a>> {
        let value = self.top()?;
        self.stack.pop();
        Some(value)
    }

    fn pop_mark(&mut self) -> Option<Vec<Value<'a>>> {
        let mark = self.marks.pop()?;
        Some(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn number(&mut self, code: u8) -> Option<()> {
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
                match wide.get_mut(..digits.len()) {
                    Some(low) => {
                        low.copy_from_slice(digits);
                        Value::Int(i64::from_le_bytes(wide))
                    }
                    None => Value::Other,
                }
            }
        };
        self.stack.push(value);
        Some(())
    }

    fn sequence(&mut self, items: Vec<Value<'a>>) {
        self.stack.push(Value::Sequence(self.out.sequences.len()));
        self.out.sequences.push(items);
    }

    fn object(&mut self, callee: Value<'a>, arguments: Value<'a>) {
        self.stack.push(Value::Object(self.out.objects.len()));
        self.out.objects.push(Object { callee, arguments, state: Value::Other });
    }

    fn dict(&mut self, code: u8) -> Option<()> {
        let items = match code {
            b'}' => Vec::new(),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        if matches!(code, b'}' | b'd') {
            self.stack.push(Value::Dict(self.out.dicts.len()));
            self.out.dicts.push(Vec::new());
        }
        let (pairs, []) = items.as_chunks::<2>() else { return None };
        // Other mappings than dicts take entries too.
        if let Value::Dict(index) = self.top()? {
            self.out.dicts.get_mut(index)?.extend(pairs.iter().map(|&[key, value]| (key, value)));
        }
        Some(())
    }
}
