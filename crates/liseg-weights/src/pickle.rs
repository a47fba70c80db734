//! A pickle machine that builds values and calls nothing.
//!
//! Values lie in one list and refer to one another by position, so that shared, cyclic and deeply
//! nested objects cost no more than the bytes that describe them, and dropping them does not recurse.

use crate::NumberFormat;
use crate::globals::Global;
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

/// The position of a value.
pub(crate) type Id = u32;

/// Longest pickle that is read, in bytes: weights themselves lie outside, and their names, shapes and
/// settings take far less.
const LONGEST: u64 = 32 << 20;

/// Most values that one pickle may build. Copies of what it built before count as well, axes and names of tensors by
/// their length: a few bytes can ask for the copy of a long list.
const MOST_VALUES: usize = 4_000_000;

/// Most axes of a tensor, as in PyTorch.
const MOST_AXES: usize = 64;

/// The longest name of a storage, in bytes. PyTorch numbers them.
const LONGEST_KEY: usize = 256;

/// A run of numbers in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Storage {
    pub(crate) kind: NumberFormat,
    pub(crate) key: String,
    /// Length in bytes.
    pub(crate) bytes: u64,
    /// Where a view of another storage begins, in bytes.
    pub(crate) start: u64,
}

/// A tensor as a pickle describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) storage: Storage,
    pub(crate) kind: NumberFormat,
    /// Its first element, counted in elements of `kind`.
    pub(crate) offset: i64,
    pub(crate) size: Vec<i64>,
    pub(crate) stride: Vec<i64>,
}

/// What a pickle holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// Raw bytes and numbers beyond 64 bits: kept by nobody.
    Raw,
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<Described>),
    /// A harmless object that is no weight.
    Other,
}

/// A parsed pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Parses one pickle from the front of `source` and leaves what follows unread.
    ///
    /// # Errors
    /// What is wrong, in words: a name that weights are not made of, an instruction that makes no
    /// sense, an end that comes too early, too many values.
    pub(crate) fn read(source: &mut impl Read) -> Result<Self, String> {
        let mut machine = Machine {
            source: source.take(LONGEST),
            values: Vec::new(),
            copied: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run()?;
        Ok(Self {
            values: machine.values,
            root,
        })
    }

    pub(crate) fn root(&self) -> Id {
        self.root
    }

    /// All values, in the order in which they were built.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    pub(crate) fn get(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    /// The entries of a mapping whose keys are text or whole numbers.
    pub(crate) fn entries(&self, id: Id) -> impl Iterator<Item = (Cow<'_, str>, Id)> {
        let pairs = match self.get(id) {
            Value::Dict(pairs) => pairs.as_slice(),
            _ => &[],
        };
        pairs.iter().filter_map(|&(key, value)| {
            let name = match self.get(key) {
                Value::Text(text) => Cow::Borrowed(text.as_str()),
                Value::Int(number) => Cow::Owned(number.to_string()),
                _ => return None,
            };
            Some((name, value))
        })
    }
}

struct Machine<'a, R: Read> {
    source: std::io::Take<&'a mut R>,
    values: Vec<Value>,
    /// Values that were copied from one place to another.
    copied: usize,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

type Step<T = ()> = Result<T, String>;

impl<R: Read> Machine<'_, R> {
    fn run(&mut self) -> Step<Id> {
        loop {
            let code = self.byte()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    fn step(&mut self, code: u8) -> Step {
        match code {
            // Protocol and frames.
            0x80 => {
                self.byte()?;
            }
            0x95 => {
                self.take::<8>()?;
            }
            // The stack.
            b'(' => {
                self.within_limits()?;
                self.marks.push(self.stack.len());
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.since_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push_again(top)?;
            }
            // Constants.
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            // Numbers.
            b'J' => {
                let number = i32::from_le_bytes(self.take()?);
                self.push(Value::Int(number.into()))?;
            }
            b'K' => {
                let number = self.byte()?;
                self.push(Value::Int(number.into()))?;
            }
            b'M' => {
                let number = u16::from_le_bytes(self.take()?);
                self.push(Value::Int(number.into()))?;
            }
            b'G' => {
                let number = f64::from_be_bytes(self.take()?);
                self.push(Value::Float(number))?;
            }
            b'I' | b'L' | b'F' => self.number_line()?,
            0x8a | 0x8b => self.long(code)?,
            // Text and bytes.
            b'U' | b'T' | b'X' | 0x8c | 0x8d | b'C' | b'B' | 0x8e | 0x96 => self.string(code)?,
            b'S' | b'V' => {
                let line = self.line()?;
                let text = line.trim_matches(['\'', '"']).to_owned();
                self.push(Value::Text(text))?;
            }
            // Containers.
            b']' | b')' | b'}' | 0x8f | b'l' | b't' | b'd' | 0x91 | 0x85..=0x87 => {
                self.container(code)?;
            }
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(code)?,
            // Memory.
            b'p' | b'q' | b'r' | 0x94 | b'g' | b'h' | b'j' => self.remember(code)?,
            // Objects.
            b'c' | 0x93 | b'R' | 0x81 | 0x92 | b'i' | b'o' | b'b' | b'P' | b'Q' => {
                self.object(code)?;
            }
            other => {
                return Err(format!(
                    "its pickle has the unknown instruction {other:#04x}"
                ));
            }
        }
        Ok(())
    }

    fn number_line(&mut self) -> Step {
        let line = self.line()?;
        let text = line.trim_end_matches('L');
        let value = match text {
            "00" => Value::Bool(false),
            "01" => Value::Bool(true),
            _ => match (text.parse(), text.parse()) {
                (Ok(number), _) => Value::Int(number),
                (_, Ok(number)) => Value::Float(number),
                _ => Value::Raw,
            },
        };
        self.push(value)
    }

    /// A whole number of any length, little-endian two's complement.
    fn long(&mut self, code: u8) -> Step {
        let length = match code {
            0x8a => u64::from(self.byte()?),
            _ => u32::from_le_bytes(self.take()?).into(),
        };
        let bytes = self.bytes(length)?;
        let value = if bytes.len() > 8 {
            Value::Raw
        } else {
            let negative = bytes.last().is_some_and(|&b| b >= 0x80);
            let mut whole = [if negative { 0xff } else { 0 }; 8];
            whole[..bytes.len()].copy_from_slice(&bytes);
            Value::Int(i64::from_le_bytes(whole))
        };
        self.push(value)
    }

    fn string(&mut self, code: u8) -> Step {
        let length = match code {
            b'U' | b'C' | 0x8c => u64::from(self.byte()?),
            b'T' | b'B' | b'X' => u32::from_le_bytes(self.take()?).into(),
            _ => u64::from_le_bytes(self.take()?),
        };
        let bytes = self.bytes(length)?;
        let value = match code {
            b'C' | b'B' | 0x8e | 0x96 => Value::Raw,
            // Python 2's strings are bytes; names in them are ASCII.
            _ => match String::from_utf8(bytes) {
                Ok(text) => Value::Text(text),
                Err(_) => Value::Raw,
            },
        };
        self.push(value)
    }

    fn container(&mut self, code: u8) -> Step {
        let value = match code {
            b']' | 0x8f => Value::List(Vec::new()),
            b')' => Value::Tuple(Vec::new()),
            b'}' => Value::Dict(Vec::new()),
            b'l' | 0x91 => Value::List(self.since_mark()?),
            b't' => Value::Tuple(self.since_mark()?),
            b'd' => Value::Dict(pairs(&self.since_mark()?)?),
            _ => {
                let count = usize::from(code - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or_else(underflow)?;
                Value::Tuple(self.stack.split_off(start))
            }
        };
        self.push(value)
    }

    fn fill(&mut self, code: u8) -> Step {
        let items = match code {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.since_mark()?,
        };
        let top = self.top()?;
        match (self.values.get_mut(top as usize), code) {
            (Some(Value::List(list)), b'a' | b'e' | 0x90) => list.extend(items),
            (Some(Value::Dict(dict)), b's' | b'u') => dict.extend(pairs(&items)?),
            (Some(Value::Other), _) => {}
            _ => return Err("its pickle fills something that is no container".into()),
        }
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Step {
        let key = match code {
            b'q' | b'h' => self.byte()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.take()?).into(),
            b'p' | b'g' => {
                let line = self.line()?;
                line.parse()
                    .map_err(|_| format!("`{line}` is no place in memory"))?
            }
            _ => self.memo.len() as u64,
        };
        if let b'g' | b'h' | b'j' = code {
            let id = self.memo.get(&key).copied();
            let id =
                id.ok_or_else(|| format!("its pickle recalls {key}, which it never stored"))?;
            self.push_again(id)?;
        } else {
            let top = self.top()?;
            self.within_limits()?;
            self.memo.insert(key, top);
        }
        Ok(())
    }

    fn object(&mut self, code: u8) -> Step {
        match code {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.text(module)?, self.text(name)?);
                self.global(&module, &name)
            }
            b'R' | 0x81 => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                let arguments = self.copied(arguments)?;
                self.call(callable, &arguments)
            }
            0x92 => {
                let (_, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                let arguments = self.copied(arguments)?;
                self.call(class, &arguments)
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let arguments = self.since_mark()?;
                self.global(&module, &name)?;
                let class = self.pop()?;
                self.call(class, &arguments)
            }
            b'o' => {
                let mut arguments = self.since_mark()?;
                if arguments.is_empty() {
                    return Err(underflow());
                }
                let class = arguments.remove(0);
                self.call(class, &arguments)
            }
            // An object's further state, such as the version that modules attach to their dicts.
            b'b' => {
                self.pop()?;
                Ok(())
            }
            b'P' => {
                Err("its pickle refers to storages by text, which torch.save never does".into())
            }
            _ => {
                let reference = self.pop()?;
                let storage = self.storage(reference)?;
                self.push(Value::Storage(Box::new(storage)))
            }
        }
    }

    fn global(&mut self, module: &str, name: &str) -> Step {
        let global = Global::find(module, name).ok_or_else(|| {
            format!(
                "its pickle asks for `{module}.{name}`, of which no weights are made; nothing of it was \
                 executed. If you trust the file, save its state_dict() alone, or as safetensors"
            )
        })?;
        self.push(Value::Global(global))
    }

    /// What calling a known name with these arguments stands for. Nothing is called.
    fn call(&mut self, callable: Id, arguments: &[Id]) -> Step {
        let Value::Global(global) = *self.at(callable) else {
            return Err("its pickle calls something that is no known name".into());
        };
        let value = match global {
            Global::Mapping => {
                let items = match arguments.first() {
                    Some(&id) => self.copied(id)?,
                    None => Vec::new(),
                };
                let pairs = items.into_iter().filter_map(|item| match self.items(item) {
                    &[key, value] => Some((key, value)),
                    _ => None,
                });
                Value::Dict(pairs.collect())
            }
            Global::Tensor => Value::Tensor(Box::new(self.tensor(arguments, None)?)),
            Global::TypedTensor => {
                let dtype = arguments.get(6).map(|&id| self.at(id));
                let Some(&Value::Global(Global::Dtype(kind))) = dtype else {
                    return Err("a tensor has no number format that is known here".into());
                };
                Value::Tensor(Box::new(self.tensor(arguments, Some(kind))?))
            }
            Global::Parameter => match arguments.first().map(|&id| self.at(id)) {
                Some(Value::Tensor(tensor)) => Value::Tensor(tensor.clone()),
                _ => return Err("a parameter holds no tensor".into()),
            },
            Global::Other => Value::Other,
            Global::Storage(_) | Global::Bytes | Global::Dtype(_) => {
                return Err("its pickle calls a number format".into());
            }
        };
        self.push(value)
    }

    fn tensor(&self, arguments: &[Id], kind: Option<NumberFormat>) -> Step<Described> {
        let [storage, offset, size, stride, ..] = *arguments else {
            return Err("a tensor lacks storage, offset, size or stride".into());
        };
        let Value::Storage(storage) = self.at(storage) else {
            return Err("a tensor has no storage".into());
        };
        let &Value::Int(offset) = self.at(offset) else {
            return Err("a tensor's offset is no number".into());
        };
        let numbers = |id| -> Step<Vec<i64>> {
            let items = self.items(id);
            if items.len() > MOST_AXES {
                return Err(format!("a tensor has more than {MOST_AXES} axes"));
            }
            items
                .iter()
                .map(|&id| match self.at(id) {
                    Value::Int(n) if *n >= 0 => Ok(*n),
                    other => Err(format!("a tensor's size or stride holds {other:?}")),
                })
                .collect()
        };
        Ok(Described {
            kind: kind.unwrap_or(storage.kind),
            storage: (**storage).clone(),
            offset,
            size: numbers(size)?,
            stride: numbers(stride)?,
        })
    }

    /// `("storage", class, key, device, elements)`, and for the oldest files a view:
    /// `(key, offset, elements)` or nothing.
    fn storage(&self, reference: Id) -> Step<Storage> {
        let items = self.items(reference);
        let broken = || "a reference to a storage is broken".to_owned();
        let &[_, class, key, _, elements, ref view @ ..] = items else {
            return Err(broken());
        };
        let kind = match self.at(class) {
            Value::Global(Global::Storage(kind)) => *kind,
            Value::Global(Global::Bytes) => NumberFormat::U8,
            _ => return Err(broken()),
        };
        let key = match self.at(key) {
            Value::Text(text) if text.len() <= LONGEST_KEY => text.clone(),
            Value::Int(number) => number.to_string(),
            _ => return Err(broken()),
        };
        let bytes = |id| match self.at(id) {
            &Value::Int(n) => u64::try_from(n)
                .ok()
                .and_then(|n| n.checked_mul(kind.bytes()))
                .ok_or_else(broken),
            _ => Err(broken()),
        };
        let (mut start, mut length) = (0, bytes(elements)?);
        if let Some(&view) = view.first()
            && let &[_, offset, elements] = self.items(view)
        {
            (start, length) = (bytes(offset)?, bytes(elements)?);
        }
        Ok(Storage {
            kind,
            key,
            bytes: length,
            start,
        })
    }

    fn at(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::None)
    }

    fn items(&self, id: Id) -> &[Id] {
        match self.at(id) {
            Value::List(items) | Value::Tuple(items) => items,
            _ => &[],
        }
    }

    /// The items of a list as one of its own, which counts as if they had been built.
    fn copied(&mut self, id: Id) -> Step<Vec<Id>> {
        let items = self.items(id).to_vec();
        self.copied += items.len();
        self.within_limits()?;
        Ok(items)
    }

    fn within_limits(&self) -> Step {
        let most = [
            self.values.len() + self.copied,
            self.stack.len(),
            self.marks.len(),
            self.memo.len(),
        ];
        if most.into_iter().any(|count| count >= MOST_VALUES) {
            return Err(format!("its pickle builds more than {MOST_VALUES} objects"));
        }
        Ok(())
    }

    fn text(&self, id: Id) -> Step<String> {
        match self.at(id) {
            Value::Text(text) => Ok(text.clone()),
            _ => Err("its pickle names an object by something that is no text".into()),
        }
    }

    /// Puts a value that was built before onto the stack.
    fn push_again(&mut self, id: Id) -> Step {
        self.within_limits()?;
        self.stack.push(id);
        Ok(())
    }

    fn push(&mut self, value: Value) -> Step {
        self.copied += match &value {
            Value::Tensor(t) => t.size.len() + t.stride.len() + t.storage.key.len() / 8,
            Value::Storage(storage) => storage.key.len() / 8,
            _ => 0,
        };
        self.within_limits()?;
        self.stack.push(self.values.len() as Id);
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Step<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(underflow());
        }
        self.stack.pop().ok_or_else(underflow)
    }

    fn top(&self) -> Step<Id> {
        self.stack.last().copied().ok_or_else(underflow)
    }

    fn since_mark(&mut self) -> Step<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        if mark > self.stack.len() {
            return Err(underflow());
        }
        Ok(self.stack.split_off(mark))
    }

    fn byte(&mut self) -> Step<u8> {
        Ok(self.take::<1>()?[0])
    }

    fn take<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut bytes = [0; N];
        self.source
            .read_exact(&mut bytes)
            .map_err(|_| cut_short())?;
        Ok(bytes)
    }

    /// As many bytes as the pickle says, allocated only as they arrive.
    fn bytes(&mut self, length: u64) -> Step<Vec<u8>> {
        let mut bytes = Vec::new();
        let found = (&mut self.source).take(length).read_to_end(&mut bytes);
        match found {
            Ok(n) if n as u64 == length => Ok(bytes),
            _ => Err(cut_short()),
        }
    }

    fn line(&mut self) -> Step<String> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        String::from_utf8(line).map_err(|_| "its pickle has a name that is no text".to_owned())
    }
}

/// Key, value, key, value, … as pairs.
fn pairs(items: &[Id]) -> Step<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a dict of its pickle has a key without a value".into());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}

fn underflow() -> String {
    "its pickle takes more from the stack than it put there".to_owned()
}

fn cut_short() -> String {
    format!(
        "its pickle breaks off, or is longer than {} MiB",
        LONGEST >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Pickle, String> {
        Pickle::read(&mut &bytes[..])
    }

    #[test]
    fn plain_values_are_read() {
        // pickle.dumps({"a": 1, "b": [2.5, None, True], 3: -7}, 2)
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01K\x01X\x01\x00\x00\x00bq\x02]q\x03\
            (G@\x04\x00\x00\x00\x00\x00\x00N\x88eK\x03J\xf9\xff\xff\xffu.";
        let pickle = parse(bytes).unwrap();
        let entries: Vec<_> = pickle.entries(pickle.root()).collect();
        assert_eq!(
            entries.iter().map(|(k, _)| k.as_ref()).collect::<Vec<_>>(),
            ["a", "b", "3"]
        );
        assert!(matches!(pickle.get(entries[0].1), Value::Int(1)));
        assert!(matches!(pickle.get(entries[2].1), Value::Int(-7)));
        let Value::List(list) = pickle.get(entries[1].1) else {
            panic!("no list");
        };
        assert!(matches!(pickle.get(list[0]), Value::Float(v) if *v == 2.5));
    }

    #[test]
    fn unknown_names_are_refused_by_name_before_anything_is_called() {
        let message = parse(b"cposix\nsystem\n(S'true'\ntR.").unwrap_err();
        assert!(message.contains("`posix.system`"), "{message}");
        let message = parse(b"\x80\x04\x8c\x02os\x8c\x06system\x93.").unwrap_err();
        assert!(message.contains("`os.system`"), "{message}");
        let message = parse(b"\x80\x02K\x01)R.").unwrap_err();
        assert!(message.contains("calls something"), "{message}");
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic() {
        for bytes in [
            &b""[..],
            b".",
            b"\x80\x02",
            b"0.",
            b"(.",
            b"\x86.",
            b"h\x05.",
            b"\x80\x02]K\x01s.",
            b"\x80\x02}(K\x01u.",
            b"X\xff\xff\xff\xffabc.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.",
            b"\x80\x02(K\x010K\x010.",
            b"\xff.",
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }

    /// A list in a list in a list …, and a dict that holds itself many times over.
    #[test]
    fn deep_and_shared_objects_cost_no_more_than_their_bytes() {
        let mut deep = b"\x80\x02".to_vec();
        deep.extend(std::iter::repeat_n(b']', 200_000));
        deep.extend(std::iter::repeat_n(b'a', 199_999));
        deep.push(b'.');
        drop(parse(&deep).unwrap());
        let mut shared = b"\x80\x02]q\x00".to_vec();
        for _ in 0..1000 {
            shared.extend(b"]q\x01(h\x00h\x00h\x00h\x00eq\x00");
        }
        shared.push(b'.');
        assert!(parse(&shared).unwrap().values.len() < 3000);
    }

    /// Six bytes ask for the copy of a list of a hundred thousand: a few hundred times that is refused.
    #[test]
    fn copies_of_what_is_shared_count() {
        let mut bytes = b"\x80\x02ccollections\nOrderedDict\nq\x00K\x01K\x02\x86q\x01](".to_vec();
        bytes.extend(b"h\x01".repeat(100_000));
        bytes.extend(b"e\x85q\x02");
        let with_copies = |count| [&bytes[..], &b"h\x00h\x02R".repeat(count), b"."].concat();
        assert!(parse(&with_copies(10)).is_ok());
        let message = parse(&with_copies(1000)).unwrap_err();
        assert!(message.contains("more than"), "{message}");
    }

    #[test]
    fn axes_of_copied_tensors_count() {
        // A tensor of 64 axes, and parameters that are copies of it: six bytes each.
        let axes = [&b"("[..], &b"K\x01".repeat(64), b"t"].concat();
        let mut bytes =
            b"\x80\x02ctorch._utils\n_rebuild_parameter\nq\x00ctorch._utils\n_rebuild_tensor_v2\n("
                .to_vec();
        bytes.extend(b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00");
        bytes.extend([&axes[..], &axes, b"\x89NtR\x85q\x01"].concat());
        let with_copies = |count| [&bytes[..], &b"h\x00h\x01R".repeat(count), b"."].concat();
        assert!(
            parse(&with_copies(1000)).is_ok(),
            "{:?}",
            parse(&with_copies(1000))
        );
        let message = parse(&with_copies(40_000)).unwrap_err();
        assert!(message.contains("more than"), "{message}");
    }

    #[test]
    fn what_is_only_recalled_counts() {
        for repeated in [&b"h\x00"[..], b"2", b"("] {
            let bytes = [
                &b"\x80\x02Nq\x00"[..],
                &repeated.repeat(MOST_VALUES + 1),
                b".",
            ]
            .concat();
            let message = parse(&bytes).unwrap_err();
            assert!(message.contains("more than"), "{message}");
        }
    }

    #[test]
    fn tensors_of_too_many_axes_are_refused() {
        let tensor = |axes: usize| {
            let shape = [b"(".to_vec(), b"K\x01".repeat(axes), b"t".to_vec()].concat();
            let mut bytes = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
            bytes.extend(b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQK\x00");
            bytes.extend(shape.repeat(2));
            bytes.extend(b"tR.");
            parse(&bytes)
        };
        let pickle = tensor(64).unwrap();
        assert!(matches!(pickle.get(pickle.root()), Value::Tensor(_)));
        assert!(tensor(65).unwrap_err().contains("axes"));
    }
}
