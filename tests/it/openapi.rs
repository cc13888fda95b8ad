//! Answers of the API against the document that describes them: the part of JSON Schema that the
//! document uses.

use serde_json::Value;

/// The document that a node serves.
pub(crate) struct Document(pub(crate) Value);

impl Document {
    /// What is wrong with an answer to `verb` on the path as the document writes it.
    pub(crate) fn faults(&self, verb: &str, path: &str, status: u16, body: &Value) -> Vec<String> {
        let place = format!("{verb} {path}: {status}");
        let responses = &self.0["paths"][path][verb]["responses"];
        if responses.is_null() {
            return vec![format!("{verb} {path} is not described")];
        }
        let content = &responses[status.to_string()]["content"]["application/json"];
        match content.get("schema") {
            None => vec![format!("{place} is not described")],
            Some(schema) => {
                let mut faults = Vec::new();
                self.check(schema, body, &place, &mut faults);
                faults
            }
        }
    }

    fn check(&self, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str() {
            let found = self.0.pointer(name.trim_start_matches('#'));
            match found {
                Some(found) => self.check(found, value, place, faults),
                None => faults.push(format!("{place}: {name} is nowhere")),
            }
            return;
        }
        for all in schema["allOf"].as_array().into_iter().flatten() {
            self.check(all, value, place, faults);
        }
        for key in ["oneOf", "anyOf"] {
            let Some(choices) = schema[key].as_array() else { continue };
            let fits = choices.iter().any(|choice| {
                let mut inner = Vec::new();
                self.check(choice, value, place, &mut inner);
                inner.is_empty()
            });
            if !fits {
                faults.push(format!("{place}: {value} fits none of {key}"));
            }
        }
        let kinds: Vec<&str> = match &schema["type"] {
            Value::String(kind) => vec![kind],
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let fits = |kind: &&str| match *kind {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "null" => value.is_null(),
            _ => false,
        };
        if !kinds.is_empty() && !kinds.iter().any(fits) {
            faults.push(format!("{place}: {value} is not {kinds:?}"));
            return;
        }
        if let Some(least) = schema["minimum"].as_f64()
            && value.as_f64().is_some_and(|number| number < least)
        {
            faults.push(format!("{place}: {value} is less than {least}"));
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if value.get(key).is_none() {
                faults.push(format!("{place}: {key} is missing"));
            }
        }
        let known = schema["properties"].as_object();
        for (key, inner) in value.as_object().into_iter().flatten() {
            match known.and_then(|known| known.get(key)) {
                Some(schema) => self.check(schema, inner, &format!("{place}.{key}"), faults),
                None => {
                    let others = &schema["additionalProperties"];
                    if others.is_object() {
                        self.check(others, inner, &format!("{place}.{key}"), faults);
                    }
                }
            }
        }
        if schema["items"].is_object() {
            for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
                self.check(&schema["items"], inner, &format!("{place}[{index}]"), faults);
            }
        }
    }
}

#[test]
fn the_check_finds_what_is_wrong() {
    let document = Document(serde_json::json!({
        "paths": {"/a": {"get": {"responses": {"200": {"content": {"application/json": {"schema":
            {"$ref": "#/components/schemas/A"}}}}}}}},
        "components": {"schemas": {"A": {"type": "object", "required": ["n"], "properties": {
            "n": {"type": "integer", "minimum": 0},
            "s": {"oneOf": [{"type": "null"}, {"type": "string"}]},
            "l": {"type": "array", "items": {"type": "boolean"}},
        }}}},
    }));
    let faults = |body: Value| document.faults("get", "/a", 200, &body).len();
    assert_eq!(faults(serde_json::json!({"n": 1, "s": null, "l": [true], "x": 1})), 0);
    assert_eq!(faults(serde_json::json!({"s": "x"})), 1);
    assert_eq!(faults(serde_json::json!({"n": -1, "s": 1, "l": [1]})), 3);
    assert_eq!(faults(serde_json::json!([])), 1);
    assert_eq!(document.faults("get", "/a", 404, &Value::Null).len(), 1);
    assert_eq!(document.faults("post", "/a", 200, &Value::Null).len(), 1);
}
