//! Where a model runs.
//!
//! ONNX Runtime answers "available" for providers whose libraries are missing and falls back to the
//! CPU without a word, so nothing here asks it: a provider counts when it was registered with a
//! session's options without an error.

use std::fmt;
use std::str::FromStr;

use ort::ep::{self, ExecutionProviderDispatch};
use serde::Serialize;

/// A part of ONNX Runtime that runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// NVIDIA TensorRT.
    TensorRt,
    /// NVIDIA CUDA.
    Cuda,
    /// The host's processor; in every build.
    Cpu,
}

impl Provider {
    /// All, the quickest first.
    pub const ALL: [Self; 3] = [Self::TensorRt, Self::Cuda, Self::Cpu];

    /// The name in settings and prompts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TensorRt => "tensorrt",
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
        }
    }

    pub(super) fn dispatch(self) -> ExecutionProviderDispatch {
        let dispatch = match self {
            Self::TensorRt => ep::TensorRT::default().build(),
            Self::Cuda => ep::CUDA::default().build(),
            Self::Cpu => ep::CPU::default().with_arena_allocator(true).build(),
        };
        dispatch.error_on_failure()
    }

    /// What the provider's libraries are, for those who lack them.
    pub const fn needs(self) -> &'static str {
        match self {
            Self::TensorRt => {
                "ONNX Runtime's GPU build, its libonnxruntime_providers_tensorrt.so beside it, \
                 TensorRT 10 (libnvinfer.so.10, libnvonnxparser.so.10), CUDA 13, cuDNN 9 and a driver"
            }
            Self::Cuda => {
                "ONNX Runtime's GPU build, its libonnxruntime_providers_cuda.so beside it, CUDA 13 \
                 (libcudart.so.13, libcublas.so.13, libcurand.so.10), cuDNN 9 and a driver"
            }
            Self::Cpu => "nothing more",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which provider is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// The quickest that works.
    #[default]
    Auto,
    /// This one or none.
    Only(Provider),
}

impl Choice {
    /// The names in settings and prompts.
    pub const NAMES: [&str; 4] = ["auto", "cpu", "cuda", "tensorrt"];

    /// The providers to try, in order.
    pub(super) fn candidates(self) -> Vec<Provider> {
        match self {
            Self::Auto => Provider::ALL.to_vec(),
            Self::Only(provider) => vec![provider],
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        let found = Provider::ALL.into_iter().find(|provider| provider.name() == name);
        found
            .map(Self::Only)
            .ok_or_else(|| format!("{name:?} is none of {}", Self::NAMES.join(", ")))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(provider) => provider.fmt(f),
        }
    }
}
