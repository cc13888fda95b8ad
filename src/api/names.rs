//! MediaMTX's names of settings and ours: which is which, and how values are spelled.
//!
//! What has no row keeps our name in their spelling (`camelCase`), so that every setting of a stream
//! can be read and written by both names' users.

use serde_json::{Map, Value as Json};
use toml::{Table, Value};

/// A setting by both names.
pub(super) struct Row {
    /// MediaMTX's.
    theirs: &'static str,
    /// Ours, with dots between sections.
    ours: &'static str,
    form: Form,
}

/// How a value is spelled.
#[derive(Clone, Copy)]
enum Form {
    /// The same.
    Same,
    /// Our seconds or milliseconds, their `10s`.
    Seconds,
    Millis,
    /// Our bytes, their `50M`.
    Bytes,
    /// Our `low_latency`, their `lowLatency` or `fmp4`.
    Variant,
    /// Users and their permissions.
    Users,
    /// Destinations of pushes.
    Forward,
    /// STUN and TURN servers.
    IceServers,
    /// Our absence, their `publisher`.
    Source,
}

const fn row(theirs: &'static str, ours: &'static str, form: Form) -> Row {
    Row { theirs, ours, form }
}

/// Settings of the node.
pub(super) const GLOBAL: &[Row] = &[
    row("logLevel", "log.level", Form::Same),
    row("apiAddress", "admin.listen", Form::Same),
    row("metricsAddress", "metrics.listen", Form::Same),
    row("authInternalUsers", "auth.users", Form::Users),
    row("authHTTPAddress", "auth.webhook.url", Form::Same),
    row("authJWTJWKS", "auth.jwt.jwks", Form::Same),
    row("authJWTClaimKey", "auth.jwt.claim", Form::Same),
    row("authJWTIssuer", "auth.jwt.issuer", Form::Same),
    row("authJWTAudience", "auth.jwt.audience", Form::Same),
    row("readTimeout", "rtmp.read_timeout_seconds", Form::Seconds),
    row("rtmp", "rtmp.enabled", Form::Same),
    row("rtmpAddress", "rtmp.listen", Form::Same),
    row("rtmpsAddress", "rtmps.listen", Form::Same),
    row("rtsp", "rtsp.enabled", Form::Same),
    row("rtspAddress", "rtsp.listen", Form::Same),
    row("rtspsAddress", "rtsps.listen", Form::Same),
    row("srt", "srt.enabled", Form::Same),
    row("srtAddress", "srt.listen", Form::Same),
    row("playback", "playback.enabled", Form::Same),
    row("playbackAddress", "playback.listen", Form::Same),
    row("hls", "hls.enabled", Form::Same),
    row("hlsAddress", "http.listen", Form::Same),
    row("hlsVariant", "hls.low_latency", Form::Variant),
    row("hlsAlwaysRemux", "hls.always", Form::Same),
    row("hlsSegmentCount", "hls.segments", Form::Same),
    row("hlsSegmentDuration", "hls.segment_ms", Form::Millis),
    row("hlsPartDuration", "hls.part_ms", Form::Millis),
    row("hlsSegmentMaxSize", "hls.segment_bytes_max", Form::Bytes),
    row("hlsMuxerCloseAfter", "hls.close_after_seconds", Form::Seconds),
    row("webrtcAddress", "http.listen", Form::Same),
    row("webrtcAllowOrigins", "http.allow_origins", Form::Same),
    row("webrtcLocalUDPAddress", "webrtc.listen", Form::Same),
    row("webrtcAdditionalHosts", "webrtc.hosts", Form::Same),
    row("webrtcICEServers2", "webrtc.ice_servers", Form::IceServers),
];

/// Settings of a stream. What is called the same but for the spelling needs no row.
pub(super) const STREAM: &[Row] = &[
    row("source", "source", Form::Source),
    row("sourceOnDemandStartTimeout", "source_start_timeout_seconds", Form::Seconds),
    row("sourceOnDemandCloseAfter", "source_close_after_seconds", Form::Seconds),
    row("rtspTransport", "source_transport", Form::Same),
    row("whepBearerToken", "source_bearer", Form::Same),
    row("overridePublisher", "take_over", Form::Same),
    row("maxReaders", "readers_max", Form::Same),
    row("forward", "pushes", Form::Forward),
    row("recordPartDuration", "record_part_ms", Form::Millis),
    row("recordMaxPartSize", "record_part_bytes_max", Form::Bytes),
    row("recordSegmentDuration", "record_segment_seconds", Form::Seconds),
    row("recordDeleteAfter", "record_delete_after_seconds", Form::Seconds),
];

/// Our settings by their names. Those without a row are left out, or with `all` shown by our names.
pub(super) fn theirs(rows: &[Row], ours: &Table, all: bool) -> Map<String, Json> {
    let mut map = Map::new();
    for row in rows {
        let value = at(ours, row.ours);
        match (row.form, value) {
            (Form::Source, None) => {
                map.insert(row.theirs.into(), "publisher".into());
            }
            (form, Some(value)) => {
                map.insert(row.theirs.into(), told(form, value));
            }
            (_, None) => {}
        }
    }
    if all {
        for (key, value) in ours {
            if !rows.iter().any(|row| row.ours == key) {
                map.insert(camel(key), spelled(value));
            }
        }
    }
    map
}

/// A setting's path and its new value; `None` forgets it.
pub(super) type Change = (Vec<String>, Option<Value>);

/// A change by their names in our names.
/// Names without a row are refused, or with `all` taken for ours.
pub(super) fn ours(
    rows: &[Row],
    theirs: Map<String, Json>,
    all: bool,
) -> Result<Vec<Change>, String> {
    let mut changes = Vec::new();
    for (key, value) in theirs {
        let row = rows.iter().find(|row| row.theirs == key);
        let path: Vec<String> = match row {
            Some(row) => row.ours.split('.').map(str::to_owned).collect(),
            None if all => vec![snake(&key)],
            None => return Err(format!("there is no setting {key:?} here")),
        };
        let form = row.map_or(Form::Same, |row| row.form);
        let value = match (form, value) {
            (_, Json::Null) => None,
            (Form::Source, Json::String(text)) if text == "publisher" => None,
            (form, value) => Some(heard(form, value).map_err(|error| format!("{key}: {error}"))?),
        };
        changes.push((path, value));
    }
    Ok(changes)
}

fn at<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, key| value.as_table()?.get(key))
}

/// A value of ours in their spelling.
fn told(form: Form, value: &Value) -> Json {
    match (form, value) {
        (Form::Seconds, Value::Integer(seconds)) => format!("{seconds}s").into(),
        (Form::Millis, Value::Integer(ms)) if ms % 1000 == 0 => format!("{}s", ms / 1000).into(),
        (Form::Millis, Value::Integer(ms)) => format!("{ms}ms").into(),
        (Form::Bytes, Value::Integer(bytes)) if bytes % 1_000_000 == 0 => {
            format!("{}M", bytes / 1_000_000).into()
        }
        (Form::Bytes, Value::Integer(bytes)) => format!("{bytes}B").into(),
        (Form::Variant, Value::Boolean(low)) => if *low { "lowLatency" } else { "fmp4" }.into(),
        (Form::Users, Value::Array(users)) => {
            users.iter().filter_map(Value::as_table).map(|user| renamed(user, &USER)).collect()
        }
        (Form::Forward, Value::Array(pushes)) => {
            pushes.iter().filter_map(Value::as_table).map(|push| renamed(push, &PUSH)).collect()
        }
        (Form::IceServers, Value::Array(servers)) => {
            servers.iter().filter_map(Value::as_table).map(ice_server_told).collect()
        }
        (_, value) => json(value),
    }
}

/// A value of theirs in our spelling.
fn heard(form: Form, value: Json) -> Result<Value, String> {
    match (form, value) {
        (Form::Seconds, Json::String(text)) => {
            let ms = duration_ms(&text)?;
            if ms % 1000 == 0 { Ok(Value::Integer(ms / 1000)) } else { Err("whole seconds".into()) }
        }
        (Form::Millis, Json::String(text)) => duration_ms(&text).map(Value::Integer),
        (Form::Bytes, Json::String(text)) => bytes(&text).map(Value::Integer),
        (Form::Variant, Json::String(text)) => match text.as_str() {
            "lowLatency" => Ok(Value::Boolean(true)),
            "fmp4" => Ok(Value::Boolean(false)),
            other => Err(format!("{other:?} is not lowLatency or fmp4")),
        },
        (Form::Users, Json::Array(users)) => users
            .into_iter()
            .map(|user| named(user, &USER))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        (Form::Forward, Json::Array(pushes)) => pushes
            .into_iter()
            .map(|push| named(push, &PUSH))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        (Form::IceServers, Json::Array(servers)) => {
            servers.into_iter().map(ice_server_heard).collect::<Result<_, _>>().map(Value::Array)
        }
        (_, value) => value_of(value),
    }
}

/// Keys of a user and of a destination, theirs and ours.
const USER: [(&str, &str); 1] = [("pass", "password")];
const PUSH: [(&str, &str); 3] =
    [("dest", "url"), ("destFingerprint", "fingerprint"), ("whipBearerToken", "bearer")];

/// One of a list by their keys.
fn renamed(table: &Table, keys: &[(&str, &str)]) -> Json {
    let key_of = |ours: &str| {
        let row = keys.iter().find(|(_, key)| *key == ours);
        row.map_or_else(|| camel(ours), |(theirs, _)| (*theirs).to_owned())
    };
    table.iter().map(|(key, value)| (key_of(key), json(value))).collect()
}

/// One of a list by our keys.
fn named(value: Json, keys: &[(&str, &str)]) -> Result<Value, String> {
    keyed(value, keys).map(Value::Table)
}

fn keyed(value: Json, keys: &[(&str, &str)]) -> Result<Table, String> {
    let Json::Object(map) = value else { return Err("a list of objects is wanted".into()) };
    let mut table = Table::new();
    for (key, value) in map {
        let row = keys.iter().find(|(theirs, _)| *theirs == key);
        let key = row.map_or_else(|| snake(&key), |(_, ours)| (*ours).to_owned());
        table.insert(key, value_of(value)?);
    }
    Ok(table)
}

/// Their user name of a TURN server whose password is the secret that credentials are made from.
const AUTH_SECRET: &str = "AUTH_SECRET";

/// A STUN or TURN server in their spelling. Ours are for clients only.
fn ice_server_told(server: &Table) -> Json {
    let text = |key: &str| server.get(key).and_then(Value::as_str).unwrap_or_default();
    let (user, password) = match text("secret") {
        "" => (text("user"), text("password")),
        secret => (AUTH_SECRET, secret),
    };
    let url = text("url");
    serde_json::json!({
        "url": url, "username": user, "password": password, "clientOnly": true,
    })
}

fn ice_server_heard(server: Json) -> Result<Value, String> {
    let mut table = keyed(server, &[("username", "user")])?;
    match table.remove("client_only") {
        None | Some(Value::Boolean(true)) => {}
        Some(_) => return Err("clientOnly: the node itself asks no ICE server".into()),
    }
    if table.get("user").and_then(Value::as_str) == Some(AUTH_SECRET) {
        table.remove("user");
        if let Some(secret) = table.remove("password") {
            table.insert("secret".into(), secret);
        }
    }
    Ok(Value::Table(table))
}

/// Milliseconds of a text as Go spells durations: `1h30m`, `10s`, `200ms`, and `1d`.
fn duration_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no duration such as 10s or 200ms");
    let (mut rest, mut sum) = (text, 0_f64);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        sum += number
            * match &rest[..letters] {
                "ms" => 1.0,
                "s" => 1000.0,
                "m" => 60_000.0,
                "h" => 3_600_000.0,
                "d" => 86_400_000.0,
                _ => return Err(wrong()),
            };
        rest = &rest[letters..];
    }
    if text.is_empty() || sum > 9e15 { Err(wrong()) } else { Ok(sum.round() as i64) }
}

/// Bytes of `50M`, `512K`, `1G` or `1000B`, in powers of ten.
fn bytes(text: &str) -> Result<i64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim_end_matches(['B', 'b']) {
        "" => Some(1),
        "K" | "k" => Some(1000),
        "M" | "m" => Some(1_000_000),
        "G" | "g" => Some(1_000_000_000),
        _ => None,
    };
    let number: Option<i64> = text[..digits].parse().ok();
    let product = number.zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    product.ok_or_else(|| format!("{text:?} is no size such as 50M"))
}

/// TOML in JSON's types.
pub(super) fn json(value: &Value) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

/// JSON in TOML's types, which have no null.
pub(super) fn value_of(value: Json) -> Result<Value, String> {
    match value {
        Json::Null => Err("null is no value".into()),
        Json::Bool(yes) => Ok(Value::Boolean(yes)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(Value::Integer(whole)),
            (None, Some(float)) => Ok(Value::Float(float)),
            _ => Err(format!("{number} is too large")),
        },
        Json::String(text) => Ok(Value::String(text)),
        Json::Array(list) => {
            list.into_iter().map(value_of).collect::<Result<_, _>>().map(Value::Array)
        }
        Json::Object(map) => map
            .into_iter()
            .map(|(key, value)| Ok((snake(&key), value_of(value)?)))
            .collect::<Result<Table, String>>()
            .map(Value::Table),
    }
}

/// As [`json`], keys of sections in `camelCase`.
fn spelled(value: &Value) -> Json {
    match value {
        Value::Table(table) => {
            table.iter().map(|(key, value)| (camel(key), spelled(value))).collect()
        }
        Value::Array(list) => list.iter().map(spelled).collect(),
        value => json(value),
    }
}

/// `take_over` is `takeOver`.
fn camel(key: &str) -> String {
    let mut words = key.split('_');
    let mut text = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        text.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        text.push_str(letters.as_str());
    }
    text
}

/// `takeOver` is `take_over`; what is so already stays.
fn snake(key: &str) -> String {
    let mut text = String::new();
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Settings;

    fn object(value: Json) -> Map<String, Json> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_row_names_a_setting_that_is_there() {
        let settings = Table::try_from(Settings::default()).unwrap();
        for row in GLOBAL {
            assert!(at(&settings, row.ours).is_some(), "{} names no setting", row.ours);
        }
        for row in STREAM {
            let text = format!("{} = \"\"", row.ours);
            let error = toml::from_str::<crate::config::Stream>(&text).err();
            let unknown = error.is_some_and(|error| error.message().contains("unknown field"));
            assert!(!unknown, "{} names no setting of a stream", row.ours);
        }
    }

    #[test]
    fn settings_come_back_as_they_were_told() {
        let settings = Table::try_from(Settings::default()).unwrap();
        let told = theirs(GLOBAL, &settings, false);
        assert_eq!(told["hlsSegmentDuration"], "1s");
        assert_eq!(told["hlsPartDuration"], "200ms");
        assert_eq!(told["hlsSegmentMaxSize"], "50M");
        assert_eq!(told["hlsVariant"], "lowLatency");
        assert_eq!(told["readTimeout"], "10s");
        for (path, value) in ours(GLOBAL, told, false).unwrap() {
            assert_eq!(value.as_ref(), at(&settings, &path.join(".")), "{path:?}");
        }
        let users = json!({"authInternalUsers": [{"user": "ann", "pass": "x", "ips": [],
            "permissions": [{"action": "read", "path": ""}]}]});
        let heard = ours(GLOBAL, object(users), false).unwrap();
        assert_eq!(heard[0].0, ["auth", "users"]);
        assert_eq!(heard[0].1.as_ref().unwrap()[0]["password"].as_str(), Some("x"));
        let servers = json!({"webrtcICEServers2": [
            {"url": "turn:h:3478", "username": "AUTH_SECRET", "password": "x", "clientOnly": true},
            {"url": "stun:h", "username": "", "password": "", "clientOnly": true},
        ]});
        let heard = ours(GLOBAL, object(servers.clone()), false).unwrap();
        assert_eq!(heard[0].0, ["webrtc", "ice_servers"]);
        let list = heard[0].1.clone().unwrap();
        assert_eq!((list[0]["secret"].as_str(), list[0].get("user")), (Some("x"), None));
        let mut settings = settings;
        settings["webrtc"].as_table_mut().unwrap().insert("ice_servers".into(), list);
        let parsed: Result<Settings, toml::de::Error> = settings.clone().try_into();
        assert_eq!(parsed.unwrap().webrtc.ice_servers.len(), 2);
        let told = theirs(GLOBAL, &settings, false);
        assert_eq!(told["webrtcICEServers2"], servers["webrtcICEServers2"]);
        let ours_alone = json!({"webrtcICEServers2": [{"url": "stun:h", "clientOnly": false}]});
        assert!(ours(GLOBAL, object(ours_alone), false).unwrap_err().contains("clientOnly"));
        let stream = json!({"record": true, "recordSegmentDuration": "1h", "sourceOnDemand": true,
            "forward": [{"dest": "rtmp://h/a", "destFingerprint": "ab"}]});
        let heard: Table = ours(STREAM, object(stream.clone()), true)
            .unwrap()
            .into_iter()
            .map(|(path, value)| (path.concat(), value.unwrap()))
            .collect();
        assert_eq!(heard["record_segment_seconds"].as_integer(), Some(3600));
        assert_eq!(heard["pushes"][0]["url"].as_str(), Some("rtmp://h/a"));
        let told = theirs(STREAM, &heard, true);
        assert_eq!((&told["forward"], &told["sourceOnDemand"]), (&stream["forward"], &json!(true)));
        assert_eq!(told["recordSegmentDuration"], "3600s");
    }

    #[test]
    fn what_has_no_row_is_refused_or_keeps_our_name() {
        assert!(ours(GLOBAL, object(json!({"pprof": true})), false).is_err());
        let stream: Table = "graph = \"none\"\ntake_over = true".parse().unwrap();
        let told = theirs(STREAM, &stream, true);
        let wanted = json!({"source": "publisher", "overridePublisher": true, "graph": "none"});
        assert_eq!(Json::from(told), wanted);
        let heard = ours(STREAM, object(json!({"graph": null, "source": "publisher"})), true);
        let heard = heard.unwrap();
        assert!(heard.iter().all(|(_, value)| value.is_none()), "{heard:?}");
    }

    #[test]
    fn durations_and_sizes_are_read_as_go_spells_them() {
        assert_eq!(duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(duration_ms("0.5s"), Ok(500));
        assert_eq!(duration_ms("1d"), Ok(86_400_000));
        for wrong in ["", "10", "s", "10x", "1e9s", "-1s", "99999999999999d"] {
            assert!(duration_ms(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(bytes("512K"), Ok(512_000));
        assert_eq!(bytes("1000B"), Ok(1000));
        for wrong in ["", "M", "1T", "-1", "99999999999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong:?}");
        }
    }
}
