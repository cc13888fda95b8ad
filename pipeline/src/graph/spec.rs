//! What a node class says of itself, and its form in ComfyUI's `/object_info`.
//!
//! The same words validate a prompt here, draw the editor of the console, and are read back from
//! another node's `/object_info`, so that a gateway can validate for an orchestrator.

use serde_json::{Map, Value as Json, json};

use super::value::Kind;

/// How an input is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Widget {
    /// By a link only.
    Link(Kind),
    /// A whole number.
    Int {
        /// What it is when left out by an editor.
        default: i64,
        /// The smallest allowed.
        min: i64,
        /// The largest allowed.
        max: i64,
        /// The editor's step.
        step: i64,
    },
    /// A number.
    Float {
        /// What it is when left out by an editor.
        default: f64,
        /// The smallest allowed.
        min: f64,
        /// The largest allowed.
        max: f64,
        /// The editor's step.
        step: f64,
    },
    /// Text.
    Text {
        /// What it is when left out by an editor.
        default: String,
    },
    /// Yes or no.
    Bool {
        /// What it is when left out by an editor.
        default: bool,
    },
    /// One of a list; the first is the default unless another is named.
    Combo {
        /// The list.
        options: Vec<String>,
        /// The default's place in it.
        default: usize,
    },
}

impl Widget {
    /// The type that a link into this input must carry. ComfyUI lets no link into a list but one
    /// of a `COMBO`.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Link(kind) => kind.clone(),
            Self::Int { .. } => Kind::Int,
            Self::Float { .. } => Kind::Float,
            Self::Text { .. } => Kind::Text,
            Self::Bool { .. } => Kind::Bool,
            Self::Combo { .. } => Kind::Opaque("COMBO".into()),
        }
    }

    /// The default as JSON, or `None` for inputs that take links only.
    pub fn default_value(&self) -> Option<Json> {
        match self {
            Self::Link(_) => None,
            Self::Int { default, .. } => Some(json!(default)),
            Self::Float { default, .. } => Some(json!(default)),
            Self::Text { default } => Some(json!(default)),
            Self::Bool { default } => Some(json!(default)),
            Self::Combo { options, default } => options.get(*default).map(|option| json!(option)),
        }
    }
}

/// One input of a node class.
#[derive(Clone, Debug, PartialEq)]
pub struct InputSpec {
    /// The name in prompts.
    pub name: String,
    /// How it is given.
    pub widget: Widget,
    /// Whether a prompt must give it.
    pub required: bool,
    /// One sentence for editors, or empty.
    pub tooltip: String,
    /// ComfyUI's `display` hint (`color`, `slider`), or empty.
    pub display: String,
}

impl InputSpec {
    fn of(name: &str, widget: Widget) -> Self {
        Self {
            name: name.into(),
            widget,
            required: true,
            tooltip: String::new(),
            display: String::new(),
        }
    }

    /// An input that only a link can give.
    pub fn link(name: &str, kind: Kind) -> Self {
        Self::of(name, Widget::Link(kind))
    }

    /// An `IMAGE`.
    pub fn image(name: &str) -> Self {
        Self::link(name, Kind::Image)
    }

    /// A `MASK`.
    pub fn mask(name: &str) -> Self {
        Self::link(name, Kind::Mask)
    }

    /// An `INT` of `min` to `max`, step 1.
    pub fn int(name: &str, default: i64, min: i64, max: i64) -> Self {
        Self::of(name, Widget::Int { default, min, max, step: 1 })
    }

    /// A `FLOAT` of `min` to `max`.
    pub fn float(name: &str, default: f64, min: f64, max: f64, step: f64) -> Self {
        Self::of(name, Widget::Float { default, min, max, step })
    }

    /// A `STRING`.
    pub fn text(name: &str, default: &str) -> Self {
        Self::of(name, Widget::Text { default: default.into() })
    }

    /// A `BOOLEAN`.
    pub fn bool(name: &str, default: bool) -> Self {
        Self::of(name, Widget::Bool { default })
    }

    /// One of `options`, the first by default.
    pub fn combo(name: &str, options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        Self::of(name, Widget::Combo { options, default: 0 })
    }

    /// A 24-bit colour, `0xRRGGBB`, with a colour picker in editors.
    pub fn color(name: &str, default: i64) -> Self {
        Self { display: "color".into(), ..Self::int(name, default, 0, 0xFF_FFFF) }
    }

    /// The same, which prompts may leave out.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.required = false;
        self
    }

    /// The same with a sentence for editors.
    #[must_use]
    pub fn tip(mut self, tooltip: &str) -> Self {
        self.tooltip = tooltip.into();
        self
    }

    /// The pair `[type or options, {…}]` of `/object_info`, ComfyUI's `input_config`.
    pub fn config(&self) -> Json {
        let mut rest = Map::new();
        let head = match &self.widget {
            Widget::Link(kind) => json!(kind.name()),
            Widget::Int { default, min, max, step } => {
                rest.extend(numbers(json!(default), json!(min), json!(max), json!(step)));
                json!("INT")
            }
            Widget::Float { default, min, max, step } => {
                rest.extend(numbers(json!(default), json!(min), json!(max), json!(step)));
                json!("FLOAT")
            }
            Widget::Text { default } => {
                rest.insert("default".into(), json!(default));
                json!("STRING")
            }
            Widget::Bool { default } => {
                rest.insert("default".into(), json!(default));
                json!("BOOLEAN")
            }
            Widget::Combo { options, .. } => {
                if let Some(default) = self.widget.default_value() {
                    rest.insert("default".into(), default);
                }
                json!(options)
            }
        };
        for (key, text) in [("tooltip", &self.tooltip), ("display", &self.display)] {
            if !text.is_empty() {
                rest.insert(key.into(), json!(text));
            }
        }
        json!([head, rest])
    }

    /// Reads [`Self::config`] back; also ComfyUI's `["COMBO", {"options": […]}]`.
    fn from_config(name: &str, required: bool, config: &Json) -> Option<Self> {
        let head = config.get(0)?;
        let rest = config.get(1).unwrap_or(&Json::Null);
        let strings = |list: &Json| -> Option<Vec<String>> {
            list.as_array()?.iter().map(|option| Some(option.as_str()?.to_owned())).collect()
        };
        let combo = |options: Vec<String>| {
            let named = rest["default"].as_str();
            let default = options.iter().position(|o| Some(o.as_str()) == named).unwrap_or(0);
            Widget::Combo { options, default }
        };
        let int = |key: &str, or: i64| rest[key].as_i64().unwrap_or(or);
        let float = |key: &str, or: f64| rest[key].as_f64().unwrap_or(or);
        let widget = match head.as_str() {
            None => combo(strings(head)?),
            Some("COMBO") => combo(strings(&rest["options"])?),
            Some("INT") => Widget::Int {
                default: int("default", 0),
                min: int("min", i64::MIN),
                max: int("max", i64::MAX),
                step: int("step", 1),
            },
            Some("FLOAT") => Widget::Float {
                default: float("default", 0.0),
                min: float("min", f64::MIN),
                max: float("max", f64::MAX),
                step: float("step", 0.01),
            },
            Some("STRING") => {
                Widget::Text { default: rest["default"].as_str().unwrap_or_default().into() }
            }
            Some("BOOLEAN") => {
                Widget::Bool { default: rest["default"].as_bool().unwrap_or_default() }
            }
            Some(kind) => Widget::Link(Kind::from_name(kind)),
        };
        Some(Self {
            name: name.into(),
            widget,
            required,
            tooltip: rest["tooltip"].as_str().unwrap_or_default().into(),
            display: rest["display"].as_str().unwrap_or_default().into(),
        })
    }
}

fn numbers(default: Json, min: Json, max: Json, step: Json) -> [(String, Json); 4] {
    let key = |key: &str| key.to_owned();
    [(key("default"), default), (key("min"), min), (key("max"), max), (key("step"), step)]
}

/// One output of a node class.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSpec {
    /// The name in editors.
    pub name: String,
    /// The type of its links.
    pub kind: Kind,
}

/// A node class as editors and validation see it.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSpec {
    /// The `class_type` of prompts.
    pub name: String,
    /// The name in editors.
    pub display_name: String,
    /// One or two sentences.
    pub description: String,
    /// The editor's menu path.
    pub category: String,
    /// Inputs in the order in which a node gets them.
    pub inputs: Vec<InputSpec>,
    /// Outputs by slot.
    pub outputs: Vec<OutputSpec>,
    /// Whether graphs end here.
    pub output_node: bool,
}

impl NodeSpec {
    /// A class without inputs and outputs.
    pub fn new(name: &str, display_name: &str, category: &str) -> Self {
        Self {
            name: name.into(),
            display_name: display_name.into(),
            description: String::new(),
            category: category.into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            output_node: false,
        }
    }

    /// The same with a description.
    #[must_use]
    pub fn describe(mut self, description: &str) -> Self {
        self.description = description.into();
        self
    }

    /// The same with one more input.
    #[must_use]
    pub fn input(mut self, input: InputSpec) -> Self {
        self.inputs.push(input);
        self
    }

    /// The same with one more output, named like its type.
    #[must_use]
    pub fn output(mut self, kind: Kind) -> Self {
        self.outputs.push(OutputSpec { name: kind.name().into(), kind });
        self
    }

    /// The same with one more output of its own name.
    #[must_use]
    pub fn named_output(mut self, name: &str, kind: Kind) -> Self {
        self.outputs.push(OutputSpec { name: name.into(), kind });
        self
    }

    /// The same as the end of graphs.
    #[must_use]
    pub fn sink(mut self) -> Self {
        self.output_node = true;
        self
    }

    /// The place of an input.
    pub fn input_index(&self, name: &str) -> Option<usize> {
        self.inputs.iter().position(|input| input.name == name)
    }

    /// The class's entry of `/object_info`.
    pub fn to_json(&self) -> Json {
        let side = |required: bool| self.inputs.iter().filter(move |i| i.required == required);
        let configs = |required| -> Map<String, Json> {
            side(required).map(|input| (input.name.clone(), input.config())).collect()
        };
        let names = |required| -> Vec<&str> { side(required).map(|i| i.name.as_str()).collect() };
        let mut input = Map::from_iter([("required".to_owned(), json!(configs(true)))]);
        let mut order = Map::from_iter([("required".to_owned(), json!(names(true)))]);
        if side(false).next().is_some() {
            input.insert("optional".into(), json!(configs(false)));
            order.insert("optional".into(), json!(names(false)));
        }
        json!({
            "input": input,
            "input_order": order,
            "output": self.outputs.iter().map(|o| o.kind.name()).collect::<Vec<_>>(),
            "output_is_list": vec![false; self.outputs.len()],
            "output_name": self.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(),
            "name": self.name,
            "display_name": self.display_name,
            "description": self.description,
            "python_module": "millstream",
            "category": self.category,
            "output_node": self.output_node,
        })
    }

    /// Reads an entry of `/object_info`, ours or ComfyUI's; `None` when it is not one.
    pub fn from_json(name: &str, entry: &Json) -> Option<Self> {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let mut spec = Self { description: text("description"), ..Self::new(name, "", "") };
        spec.display_name = text("display_name");
        spec.category = text("category");
        spec.output_node = entry["output_node"].as_bool().unwrap_or_default();
        for (group, required) in [("required", true), ("optional", false)] {
            let Some(inputs) = entry["input"][group].as_object() else { continue };
            for (name, config) in inputs {
                spec.inputs.push(InputSpec::from_config(name, required, config)?);
            }
        }
        let names = entry["output_name"].as_array();
        for (slot, kind) in entry["output"].as_array()?.iter().enumerate() {
            let kind = Kind::from_name(kind.as_str().unwrap_or("COMBO"));
            let name = names.and_then(|names| names.get(slot)?.as_str());
            let name = name.unwrap_or(kind.name()).to_owned();
            spec.outputs.push(OutputSpec { name, kind });
        }
        Some(spec)
    }
}
