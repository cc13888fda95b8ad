//! The graphs that come with the program.

use serde_json::{Value as Json, json};

/// What `./x up` and `./x demo` run: edges blended over the picture, and a clock.
pub fn default_prompt() -> Json {
    json!({
        "1": { "class_type": "LoadTensor", "inputs": {}, "_meta": { "title": "Picture" } },
        "2": {
            "class_type": "Canny",
            "inputs": { "image": ["1", 0], "low_threshold": 0.1, "high_threshold": 0.3 },
            "_meta": { "title": "Edges" },
        },
        "3": {
            "class_type": "ImageBlend",
            "inputs": {
                "image1": ["1", 0],
                "image2": ["2", 0],
                "blend_factor": 0.7,
                "blend_mode": "screen",
            },
            "_meta": { "title": "Edges over picture" },
        },
        "4": {
            "class_type": "MillstreamClock",
            "inputs": {
                "image": ["3", 0],
                "corner": "top-left",
                "size": 0,
                "color": 0xFF_FFFF,
                "opacity": 1.0,
                "background": 0.55,
            },
            "_meta": { "title": "Clock" },
        },
        "5": { "class_type": "SaveTensor", "inputs": { "images": ["4", 0] }, "_meta": { "title": "Result" } },
    })
}

/// The picture as it is.
pub fn passthrough_prompt() -> Json {
    json!({
        "1": { "class_type": "LoadTensor", "inputs": {} },
        "2": { "class_type": "SaveTensor", "inputs": { "images": ["1", 0] } },
    })
}
