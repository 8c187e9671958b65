//! A reader for the pickles inside `torch.save` archives that builds data and calls nothing.
//!
//! A pickle is a program for a small stack machine. Only the instructions that state dicts use are
//! known here; a call (`REDUCE`) is answered for the four functions that make dicts and tensors,
//! and every other call gives a value that means nothing. So a hostile file can at worst be
//! refused. Values are kept in one list and refer to each other by index: sharing through the memo
//! costs nothing, cycles and deep nesting cannot overflow a recursion, and memory is bounded by
//! the length of the pickle.

use std::collections::BTreeMap;
use std::rc::Rc;

use candle::{DType, Result, bail};

/// Where in which storage a tensor lies; sizes and strides in elements.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) key: Rc<str>,
    pub(super) dtype: DType,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) stride: Vec<usize>,
}

#[derive(Debug, Clone)]
enum Value {
    Int(i64),
    Text(Rc<str>),
    Node(usize),
    /// None, booleans, numbers with a point, bytes, and whatever an unknown call would have made.
    Other,
}

#[derive(Debug)]
enum Node {
    /// Module and name with a space between; a name only, never looked up.
    Global(Rc<str>),
    Tuple(Vec<Value>),
    List,
    Dict(Vec<(Value, Value)>),
    Storage {
        key: Rc<str>,
        dtype: DType,
    },
    Tensor(Stored),
}

/// What a pickle ended with.
#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    top: Value,
}

impl Pickle {
    /// The tensors of the outermost dict by name, or those of the dict under the first of `keys`
    /// that has any.
    pub(super) fn state_dict(&self, keys: &[&str]) -> BTreeMap<Rc<str>, Stored> {
        let inner = keys.iter().filter_map(|key| {
            let (_, value) = self
                .dict(&self.top)
                .iter()
                .find(|(name, _)| matches!(name, Value::Text(name) if name.as_ref() == *key))?;
            Some(self.tensors(value)).filter(|found| !found.is_empty())
        });
        inner
            .into_iter()
            .next()
            .unwrap_or_else(|| self.tensors(&self.top))
    }

    fn dict(&self, value: &Value) -> &[(Value, Value)] {
        match value {
            Value::Node(i) => match self.nodes.get(*i) {
                Some(Node::Dict(items)) => items,
                _ => &[],
            },
            _ => &[],
        }
    }

    fn tensors(&self, value: &Value) -> BTreeMap<Rc<str>, Stored> {
        let tensor = |(name, value): &(Value, Value)| match (name, value) {
            (Value::Text(name), Value::Node(i)) => match self.nodes.get(*i) {
                Some(Node::Tensor(stored)) => Some((name.clone(), stored.clone())),
                _ => None,
            },
            _ => None,
        };
        self.dict(value).iter().filter_map(tensor).collect()
    }
}

/// Reads one pickle.
///
/// # Errors
/// When it is cut short, uses an instruction that state dicts do not, or takes from an empty stack.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle> {
    let mut machine = Machine {
        rest: bytes,
        ..Default::default()
    };
    while let Some(op) = machine.take(1)?.first().copied() {
        if op == b'.' {
            let top = machine.pop()?;
            return Ok(Pickle {
                nodes: machine.nodes,
                top,
            });
        }
        machine.step(op)?;
    }
    bail!("the pickle has no end")
}

#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    nodes: Vec<Node>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
}

impl<'a> Machine<'a> {
    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            // PROTO and FRAME only announce.
            0x80 => self.take(1).map(drop),
            0x95 => self.take(8).map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'G' => {
                self.take(8)?;
                self.push(Value::Other)
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(n.into()))
            }
            b'K' => {
                let [n] = self.array()?;
                self.push(Value::Int(n.into()))
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(n.into()))
            }
            0x8a => self.long(),
            b'X' => {
                let n = u32::from_le_bytes(self.array()?);
                self.text(n as usize)
            }
            0x8c => {
                let [n] = self.array()?;
                self.text(n.into())
            }
            b'B' => {
                let n = u32::from_le_bytes(self.array()?);
                self.take(n as usize)?;
                self.push(Value::Other)
            }
            b'C' => {
                let [n] = self.array()?;
                self.take(n.into())?;
                self.push(Value::Other)
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.node(Node::Global(format!("{module} {name}").into()))
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    self.node(Node::Global(format!("{module} {name}").into()))
                }
                _ => bail!("a class is named by something that is not text"),
            },
            b')' => self.node(Node::Tuple(Vec::new())),
            b'}' => self.node(Node::Dict(Vec::new())),
            b']' => self.node(Node::List),
            b't' => {
                let items = self.pop_mark()?;
                self.node(Node::Tuple(items))
            }
            0x85..=0x87 => {
                let n = usize::from(op - 0x84);
                let at = self.stack.len().checked_sub(n);
                let Some(at) = at else {
                    bail!("a tuple of {n} from a stack that holds less")
                };
                let items = self.stack.split_off(at);
                self.node(Node::Tuple(items))
            }
            // What lists hold is of no use here.
            b'a' => self.pop().map(drop),
            b'e' => self.pop_mark().map(drop),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.insert(vec![key, value])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(items)
            }
            b'q' => {
                let [n] = self.array()?;
                self.remember(n.into())
            }
            b'r' => {
                let n = u32::from_le_bytes(self.array()?);
                self.remember(n)
            }
            0x94 => self.remember(self.memo.len() as u32),
            b'h' => {
                let [n] = self.array()?;
                self.recall(n.into())
            }
            b'j' => {
                let n = u32::from_le_bytes(self.array()?);
                self.recall(n)
            }
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let made = self.call(&callable, &args)?;
                self.push(made)
            }
            // BUILD sets attributes of the value below; the value itself is what counts.
            b'b' => self.pop().map(drop),
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(&id)?;
                self.node(storage)
            }
            _ => bail!("pickle instruction {op:#04x} does not occur in a state dict"),
        }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(n) else {
            bail!("the pickle is cut short")
        };
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    fn line(&mut self) -> Result<&'a str> {
        let Some(end) = self.rest.iter().position(|b| *b == b'\n') else {
            bail!("the pickle is cut short")
        };
        let line = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(line)
            .map_err(|_| candle::Error::Msg("a class name is not UTF-8".into()))
    }

    fn text(&mut self, n: usize) -> Result<()> {
        let text = std::str::from_utf8(self.take(n)?);
        let text = text.map_err(|_| candle::Error::Msg("a name is not UTF-8".into()))?;
        self.push(Value::Text(text.into()))
    }

    fn long(&mut self) -> Result<()> {
        let [n] = self.array()?;
        let bytes = self.take(n.into())?;
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        match wide.get_mut(..bytes.len()) {
            Some(low) => low.copy_from_slice(bytes),
            // No size is that large.
            None => return self.push(Value::Other),
        }
        self.push(Value::Int(i64::from_le_bytes(wide)))
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.stack.push(value);
        Ok(())
    }

    fn node(&mut self, node: Node) -> Result<()> {
        self.nodes.push(node);
        self.push(Value::Node(self.nodes.len() - 1))
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack
            .pop()
            .ok_or_else(|| candle::Error::Msg("the pickle takes from an empty stack".into()))
    }

    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => bail!("the pickle closes a list it did not open"),
        }
    }

    fn insert(&mut self, items: Vec<Value>) -> Result<()> {
        let Some(Value::Node(i)) = self.stack.last() else {
            return Ok(());
        };
        if let Some(Node::Dict(dict)) = self.nodes.get_mut(*i) {
            let mut items = items.into_iter();
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                dict.push((key, value));
            }
        }
        Ok(())
    }

    fn remember(&mut self, at: u32) -> Result<()> {
        let Some(value) = self.stack.last() else {
            bail!("the pickle remembers nothing")
        };
        self.memo.insert(at, value.clone());
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<()> {
        let Some(value) = self.memo.get(&at) else {
            bail!("the pickle recalls what it did not remember")
        };
        self.push(value.clone())
    }

    fn at(&self, value: &Value) -> Option<&Node> {
        match value {
            Value::Node(i) => self.nodes.get(*i),
            _ => None,
        }
    }

    fn tuple(&self, value: &Value) -> &[Value] {
        match self.at(value) {
            Some(Node::Tuple(items)) => items,
            _ => &[],
        }
    }

    /// Answers a call by the name of what would be called.
    fn call(&mut self, callable: &Value, args: &Value) -> Result<Value> {
        let Some(Node::Global(name)) = self.at(callable) else {
            return Ok(Value::Other);
        };
        let made = match name.as_ref() {
            "collections OrderedDict" => Node::Dict(Vec::new()),
            "torch._utils _rebuild_tensor_v2" => Node::Tensor(self.tensor(args)?),
            // The tensor itself is the first argument.
            "torch._utils _rebuild_parameter" => {
                return Ok(self.tuple(args).first().cloned().unwrap_or(Value::Other));
            }
            // (function, type, arguments of the function, attributes).
            "torch._tensor _rebuild_from_type_v2" => {
                let [function, _, inner, ..] = self.tuple(args) else {
                    return Ok(Value::Other);
                };
                match self.at(function) {
                    Some(Node::Global(name))
                        if name.as_ref() == "torch._utils _rebuild_tensor_v2" =>
                    {
                        Node::Tensor(self.tensor(inner)?)
                    }
                    _ => return Ok(Value::Other),
                }
            }
            _ => return Ok(Value::Other),
        };
        self.nodes.push(made);
        Ok(Value::Node(self.nodes.len() - 1))
    }

    /// `("storage", class, key, location, length)`.
    fn storage(&self, id: &Value) -> Result<Node> {
        let [_, class, Value::Text(key), ..] = self.tuple(id) else {
            bail!("a storage is not described as torch.save does")
        };
        let Some(Node::Global(class)) = self.at(class) else {
            bail!("storage {key} has no type")
        };
        let dtype = match class.as_ref() {
            "torch DoubleStorage" => DType::F64,
            "torch FloatStorage" => DType::F32,
            "torch HalfStorage" => DType::F16,
            "torch BFloat16Storage" => DType::BF16,
            "torch LongStorage" => DType::I64,
            "torch IntStorage" => DType::I32,
            "torch ShortStorage" => DType::I16,
            "torch ByteStorage" | "torch BoolStorage" => DType::U8,
            other => bail!("storage {key} has the unsupported type {other}"),
        };
        Ok(Node::Storage {
            key: key.clone(),
            dtype,
        })
    }

    /// `(storage, offset, shape, stride, ...)`.
    fn tensor(&self, args: &Value) -> Result<Stored> {
        let [storage, Value::Int(offset), shape, stride, ..] = self.tuple(args) else {
            bail!("a tensor is not described as torch.save does")
        };
        let Some(Node::Storage { key, dtype }) = self.at(storage) else {
            bail!("a tensor has no storage")
        };
        let sizes = |value: &Value| -> Result<Vec<usize>> {
            let size = |v: &Value| match v {
                Value::Int(n) => usize::try_from(*n).ok(),
                _ => None,
            };
            let sizes = self
                .tuple(value)
                .iter()
                .map(size)
                .collect::<Option<Vec<_>>>();
            sizes.ok_or_else(|| {
                candle::Error::Msg(format!("a tensor of storage {key} has a bad shape"))
            })
        };
        let (shape, stride) = (sizes(shape)?, sizes(stride)?);
        let Ok(offset) = usize::try_from(*offset) else {
            bail!("a tensor of storage {key} has a bad offset")
        };
        if shape.len() != stride.len() {
            bail!("a tensor of storage {key} has shape {shape:?} but strides {stride:?}")
        }
        Ok(Stored {
            key: key.clone(),
            dtype: *dtype,
            offset,
            shape,
            stride,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(bytes: &[u8], words: &str) {
        let text = read(bytes).unwrap_err().to_string();
        assert!(text.contains(words), "{text}");
    }

    #[test]
    fn malformed_programs_are_refused() {
        fails(b"", "cut short");
        fails(b"\x80\x02", "cut short");
        fails(b".", "empty stack");
        fails(b"\x86.", "a tuple of 2");
        fails(b"t.", "did not open");
        fails(b"(0t.", "empty stack");
        fails(b"N(00t.", "empty stack");
        fails(b"N(0t.", "did not open");
        fails(b"h\x05.", "did not remember");
        fails(b"q\x05.", "remembers nothing");
        fails(b"X\xff\xff\xff\xffa.", "cut short");
        fails(b"cposix\nsystem", "cut short");
        fails(b"X\x01\x00\x00\x00\xff.", "UTF-8");
        fails(b"NQ.", "storage");
        fails(b"I1\n.", "0x49");
        fails(b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "tensor");
        fails(
            b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\nN)tR.",
            "tensor",
        );
    }

    #[test]
    fn calls_of_other_functions_give_nothing() {
        let pickle =
            read(b"\x80\x02}X\x01\x00\x00\x00acposix\nsystem\nX\x04\x00\x00\x00true\x85Rs.")
                .unwrap();
        assert!(pickle.state_dict(&[]).is_empty());
        assert_eq!(pickle.dict(&pickle.top).len(), 1);
    }

    #[test]
    fn doubling_and_nesting_stay_cheap() {
        // Thirty levels of (x, x): 2^30 values if they were copied.
        let mut bomb = b"N".to_vec();
        for _ in 0..30 {
            bomb.extend_from_slice(b"q\x00h\x00\x86");
        }
        bomb.push(b'.');
        assert_eq!(read(&bomb).unwrap().nodes.len(), 30);
        let mut deep = b"N".to_vec();
        deep.resize(1_000_000, 0x85);
        deep.push(b'.');
        assert!(read(&deep).unwrap().state_dict(&["a"]).is_empty());
    }

    #[test]
    fn any_bytes_give_a_value_or_an_error() {
        // A fixed stream of pseudo-random programs over the known instructions.
        let ops = b"(0NGJKMXBC c)}]tasuqhRbQ.\x80\x81\x85\x86\x87\x88\x8a\x8c\x93\x94\x95";
        let mut state = 1u64;
        for _ in 0..20_000 {
            let program = (0..40).map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let random = (state >> 33) as usize;
                if random.is_multiple_of(5) {
                    (random >> 8) as u8
                } else {
                    ops[random % ops.len()]
                }
            });
            let _ = read(&program.collect::<Vec<_>>());
        }
    }
}
