//! The node classes that this process knows, and those that another one says it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::class::NodeClass;
use super::spec::NodeSpec;

/// Most classes that an `/object_info` of another node may describe.
pub const CLASSES_MAX: usize = 4096;

/// Node classes by name.
#[derive(Clone, Default)]
pub struct Registry {
    classes: BTreeMap<String, Entry>,
}

/// A class: always its description, and its maker when it can be run here.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) spec: Arc<NodeSpec>,
    pub(super) class: Option<Arc<dyn NodeClass>>,
}

impl Registry {
    /// No classes.
    pub fn empty() -> Self {
        Self::default()
    }

    /// The classes of this crate.
    pub fn host() -> Self {
        let mut registry = Self::default();
        for class in crate::nodes::classes() {
            registry.register(class);
        }
        registry
    }

    /// Adds a class; one of the same name is replaced.
    pub fn register(&mut self, class: Arc<dyn NodeClass>) {
        let spec = Arc::new(class.spec());
        self.classes.insert(spec.name.clone(), Entry { spec, class: Some(class) });
    }

    /// The classes that another node's `/object_info` describes: enough to validate a prompt for
    /// it, not to run one. Entries that are no descriptions are left out, and all after
    /// [`CLASSES_MAX`].
    pub fn described(object_info: &Json) -> Self {
        let entries = object_info.as_object().into_iter().flatten().take(CLASSES_MAX);
        let spec = |(name, entry): (&String, &Json)| {
            let spec = Arc::new(NodeSpec::from_json(name, entry)?);
            Some((name.clone(), Entry { spec, class: None }))
        };
        Self { classes: entries.filter_map(spec).collect() }
    }

    /// The description of a class.
    pub fn spec(&self, class_type: &str) -> Option<&NodeSpec> {
        self.entry(class_type).map(|entry| entry.spec.as_ref())
    }

    /// All class names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.classes.keys().map(String::as_str)
    }

    /// The known class name nearest to a wrong one, for messages.
    pub fn nearest(&self, class_type: &str) -> Option<&str> {
        let near = |name: &&str| strsim::damerau_levenshtein(name, class_type);
        self.names().min_by_key(near).filter(|name| near(name) <= 3)
    }

    /// All descriptions in the shape of ComfyUI's `GET /object_info`.
    pub fn object_info(&self) -> Json {
        let entry = |(name, entry): (&String, &Entry)| (name.clone(), entry.spec.to_json());
        Json::Object(self.classes.iter().map(entry).collect::<Map<_, _>>())
    }

    pub(super) fn entry(&self, class_type: &str) -> Option<&Entry> {
        self.classes.get(class_type)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
