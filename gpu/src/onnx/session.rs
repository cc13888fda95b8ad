//! A model made ready for pictures of one size.
//!
//! A model is run when it takes one picture and gives one: `float32` in NCHW order, a batch of
//! one, one channel (luma) or three (red, green, blue), samples from 0 to 1, the result 1 to 4
//! times as large on both sides. Its two tensors are made once; a run copies and allocates nothing
//! of a picture's size on the host.
//!
//! What the file declares is checked before the library sees it, and the size of the result is
//! found on a small picture before memory for the real one is taken. What a model computes in
//! between is the library's affair: a folder of models is to be trusted like a folder of programs.

use std::sync::Arc;
use std::time::Instant;

use ort::memory::Allocator;
use ort::session::{IoBinding, Session as OrtSession};
use ort::value::Tensor;
use pipeline::Size;

use super::error::Error;
use super::inspect::{FLOAT, Outline, Port};
use super::provider::{Choice, Provider};
use super::runtime::{Loaded, Runtime};
use super::store::Store;

/// Most bytes of a model's file: 1 GiB, far above what keeps up with video.
pub const MODEL_BYTES_MAX: u64 = 1 << 30;

/// The largest factor between input and output.
pub const SCALE_MAX: u32 = 4;

/// Most pixels that a model may give: one 8K picture, as graphs allow.
const OUTPUT_PIXELS_MAX: u64 = 8192 * 4320;

/// Side of the small picture on which the scale is found, at least.
const TRIAL_SIDE: u32 = 64;

/// The property of a model that takes only sides that are multiples of a number.
const MULTIPLE: &str = "millstream.multiple";

/// Which channels a model works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// One: brightness.
    Luma,
    /// Three: red, green, blue.
    Rgb,
}

impl Channels {
    /// How many planes.
    pub const fn count(self) -> usize {
        match self {
            Self::Luma => 1,
            Self::Rgb => 3,
        }
    }
}

/// What a model's file declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The input's name.
    pub input: String,
    /// The output's name.
    pub output: String,
    /// The channels of both.
    pub channels: Channels,
    /// The only width and height that it takes, where it says so.
    pub fixed: (Option<u32>, Option<u32>),
    /// Both sides must be multiples of this; pictures are filled up and cut again.
    pub multiple: u32,
}

impl Signature {
    /// Reads the declaration in a model's file.
    ///
    /// # Errors
    /// Why it is not run, in words that follow "is refused".
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        Self::of(&Outline::read(bytes)?)
    }

    pub(super) fn of(outline: &Outline) -> Result<Self, String> {
        let input = only("input", &outline.inputs)?;
        let output = only("output", &outline.outputs)?;
        let [height, width] = [2, 3].map(|side| input.sides.get(side).copied().flatten());
        let multiple = match outline.property(MULTIPLE) {
            None => 1,
            Some(value) => {
                let multiple = value.parse().ok().filter(|multiple| (1..=256).contains(multiple));
                multiple.ok_or_else(|| format!("its {MULTIPLE} is {value:?}, not 1 to 256"))?
            }
        };
        if output.channels != input.channels {
            return Err("its input and output have different numbers of channels".into());
        }
        Ok(Self {
            input: input.name,
            output: output.name,
            channels: input.channels,
            fixed: (width, height),
            multiple,
        })
    }

    /// The size of the tensor for pictures of `size`.
    fn padded(&self, size: Size) -> Result<Size, String> {
        let (width, height) = self.fixed;
        if width.is_some_and(|w| w != size.width) || height.is_some_and(|h| h != size.height) {
            let side = |side: Option<u32>| side.map_or("any".into(), |side| side.to_string());
            let (width, height) = (side(width), side(height));
            return Err(format!("it takes {width}x{height} only; scale the picture first"));
        }
        let up = |side: u32| side.next_multiple_of(self.multiple);
        Ok(Size::new(up(size.width), up(size.height)))
    }
}

struct Declared {
    name: String,
    channels: Channels,
    sides: Vec<Option<u32>>,
}

/// The only port of a side, if it is a picture.
fn only(what: &str, ports: &[Port]) -> Result<Declared, String> {
    let [port] = ports else {
        return Err(format!("it has {} {what}s, not one", ports.len()));
    };
    let name = port.name.clone();
    if port.element != FLOAT {
        return Err(format!("its {what} {name:?} is not float32"));
    }
    let shape = port.shape.as_deref().unwrap_or_default();
    let [batch, channels, _, _] = shape else {
        let rank = shape.len();
        return Err(format!(
            "its {what} {name:?} has {rank} sides, not 4 (batch, channel, row, column)"
        ));
    };
    if batch.is_some_and(|batch| batch != 1) {
        return Err(format!("its {what} {name:?} is a batch of more than one picture"));
    }
    let channels = match channels {
        Some(1) => Channels::Luma,
        Some(3) => Channels::Rgb,
        Some(other) => return Err(format!("its {what} {name:?} has {other} channels, not 1 or 3")),
        None => return Err(format!("its {what} {name:?} leaves the number of channels open")),
    };
    let most = u64::from(Size::SIDE_MAX) * u64::from(SCALE_MAX);
    let side = |side: &Option<u64>| match side {
        Some(side) if *side > most => Err(format!("its {what} {name:?} has a side of {side}")),
        side => Ok(side.map(|side| side as u32)),
    };
    let sides = shape.iter().map(side).collect::<Result<_, _>>()?;
    Ok(Declared { name, channels, sides })
}

/// A model ready to run, and its two tensors.
#[derive(Debug)]
pub struct Session {
    session: OrtSession,
    binding: IoBinding,
    input: Tensor<f32>,
    output: Tensor<f32>,
    signature: Signature,
    padded: Size,
    scale: u32,
    loaded: Arc<Loaded>,
}

impl Session {
    /// Loads a model, finds out its scale, and runs it once at full size. Slow: for the moment at
    /// which a graph is compiled.
    ///
    /// # Errors
    /// Every [`Error`] but those of opening the library.
    pub fn open(
        runtime: &Runtime,
        store: &Store,
        name: &str,
        size: Size,
        choice: Choice,
        threads: usize,
    ) -> Result<Self, Error> {
        let bytes = store.read(name)?;
        let refused = |reason: String| Error::Refused { name: name.to_owned(), reason };
        let signature = Signature::read(&bytes).map_err(refused)?;
        let misfit = |reason: String| Error::Size { name: name.to_owned(), size, reason };
        let padded = signature.padded(size).map_err(misfit)?;
        let plan = Plan { runtime, name, bytes: &bytes, signature, size, padded, threads };

        let mut passed_over = Vec::new();
        for provider in choice.candidates() {
            match plan.on(provider, &mut passed_over) {
                Ok(session) => return Ok(session),
                // The next one may do, unless this one was asked for by name or is the last.
                Err(error) if choice != Choice::Auto || provider == Provider::Cpu => {
                    return Err(error);
                }
                Err(error) => passed_over.push(error.to_string()),
            }
        }
        Err(Error::Provider { provider: Provider::Cpu, reason: passed_over.join("; ") })
    }

    /// What the model declares.
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What is loaded where.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// How many times larger the result is on both sides.
    pub const fn scale(&self) -> u32 {
        self.scale
    }

    /// The size of the input tensor: the pictures' own, or filled up to the model's multiple. The
    /// output tensor is [`Self::scale`] times as large.
    pub const fn padded(&self) -> Size {
        self.padded
    }

    /// The input tensor's samples: plane by plane, row by row, of [`Self::padded`]. What was
    /// written stays until it is overwritten.
    pub fn input(&mut self) -> &mut [f32] {
        self.input.extract_tensor_mut().1
    }

    /// Runs the model on what is in [`Self::input`] and answers with the output tensor's samples,
    /// plane by plane, row by row.
    ///
    /// # Errors
    /// [`Error::Run`].
    pub fn run(&mut self) -> Result<&[f32], Error> {
        self.step().map_err(|error| Error::Run {
            name: self.loaded.model.clone(),
            reason: error.to_string(),
        })?;
        Ok(self.output.extract_tensor().1)
    }

    fn step(&mut self) -> ort::Result<()> {
        if self.loaded.provider != Provider::Cpu {
            // Binding copies to the device; on the host the tensor itself is bound.
            self.binding.bind_input(self.signature.input.as_str(), &self.input)?;
        }
        self.session.run_binding(&self.binding)?;
        Ok(())
    }
}

/// Everything of [`Session::open`] that does not depend on the provider.
struct Plan<'a> {
    runtime: &'a Runtime,
    name: &'a str,
    bytes: &'a [u8],
    signature: Signature,
    size: Size,
    padded: Size,
    threads: usize,
}

impl Plan<'_> {
    fn on(&self, provider: Provider, passed_over: &mut Vec<String>) -> Result<Session, Error> {
        let misfit = |reason| Error::Size { name: self.name.into(), size: self.size, reason };
        let failed = |error: ort::Error| misfit(error.to_string());
        let mut session = self.session(provider)?;
        let scale = self.scale(&mut session)?;
        let output = Size::new(self.padded.width * scale, self.padded.height * scale);
        if !output.is_valid() || output.pixels() > OUTPUT_PIXELS_MAX {
            return Err(misfit(format!("its result would be {output}")));
        }
        let mut tensors = || {
            let allocator = Allocator::default();
            let input = Tensor::<f32>::new(&allocator, self.shape(self.padded))?;
            let mut out = Tensor::<f32>::new(&allocator, self.shape(output))?;
            let mut binding = session.create_binding()?;
            binding.bind_input(self.signature.input.as_str(), &input)?;
            binding.bind_output(self.signature.output.as_str(), &mut out)?;
            let begun = Instant::now();
            session.run_binding(&binding)?;
            Ok((input, out, binding, begun.elapsed()))
        };
        let (input, out, binding, warm_up) = tensors().map_err(failed)?;
        let loaded = Arc::new(Loaded {
            model: self.name.to_owned(),
            input: self.size,
            output: Size::new(self.size.width * scale, self.size.height * scale),
            provider,
            passed_over: std::mem::take(passed_over),
            threads: self.threads,
            warm_up,
        });
        self.runtime.keep_track(&loaded);
        tracing::info!(
            model = self.name, %provider, input = %loaded.input, output = %loaded.output,
            warm_up_ms = warm_up.as_millis() as u64, passed_over = ?loaded.passed_over,
            "model is ready"
        );
        Ok(Session {
            session,
            binding,
            input,
            output: out,
            signature: self.signature.clone(),
            padded: self.padded,
            scale,
            loaded,
        })
    }

    fn session(&self, provider: Provider) -> Result<OrtSession, Error> {
        let refused = |reason| Error::Refused { name: self.name.to_owned(), reason };
        let builder = OrtSession::builder(self.runtime.environment());
        let builder = builder.map_err(|error| refused(error.to_string()))?;
        let builder = builder.with_execution_providers([provider.dispatch()]);
        let builder = builder.map_err(|error| Error::Provider {
            provider,
            reason: format!("{error}; it needs {}", provider.needs()),
        })?;
        // Threads that wait for work sleep instead of spinning: the codecs need the cores.
        let builder = builder.with_intra_threads(self.threads.max(1));
        let builder = builder.map_err(|error| refused(error.to_string()))?.with_inter_threads(1);
        let builder = builder.map_err(|error| refused(error.to_string()))?;
        let builder = builder.with_intra_op_spinning(false);
        let mut builder = builder.map_err(|error| refused(error.to_string()))?;
        builder.commit_from_memory(self.bytes).map_err(|error| refused(error.to_string()))
    }

    /// Runs a small picture to see how much larger the result is.
    fn scale(&self, session: &mut OrtSession) -> Result<u32, Error> {
        let refused = |reason| Error::Refused { name: self.name.to_owned(), reason };
        let small = TRIAL_SIDE.next_multiple_of(self.signature.multiple);
        let (width, height) = self.signature.fixed;
        let trial = Size::new(width.unwrap_or(small), height.unwrap_or(small));
        let mut run = || {
            let input = Tensor::<f32>::new(&Allocator::default(), self.shape(trial))?;
            let outputs = session.run(ort::inputs![self.signature.input.as_str() => input])?;
            let (shape, _) = outputs[self.signature.output.as_str()].try_extract_tensor::<f32>()?;
            Ok(shape.to_vec())
        };
        let shape: Vec<i64> = run().map_err(|error: ort::Error| refused(error.to_string()))?;
        let found = (1..=SCALE_MAX).find(|scale| {
            shape[..] == self.shape(Size::new(trial.width * scale, trial.height * scale))
        });
        found.ok_or_else(|| {
            let (from, to) = (self.shape(trial), shape);
            refused(format!("it makes {to:?} of {from:?}, not 1 to {SCALE_MAX} times the size"))
        })
    }

    fn shape(&self, size: Size) -> [i64; 4] {
        let channels = self.signature.channels.count() as i64;
        [1, channels, i64::from(size.height), i64::from(size.width)]
    }
}
