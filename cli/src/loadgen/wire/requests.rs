//! Requests as bytes. Everything that is the same in all requests is encoded once, at the start.

use super::Protocol;
use crate::workload::{KeyFormat, Value};
use std::time::Duration;

/// A time to live, in milliseconds (at least 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ttl {
    ms: u64,
}

impl Ttl {
    /// Rounds up to whole milliseconds; zero is no TTL and refused.
    pub(crate) fn new(duration: Duration) -> Result<Self, String> {
        let ms = u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        if ms == 0 {
            Err("--ttl must be more than zero".to_owned())
        } else {
            Ok(Self { ms })
        }
    }

    /// ` EX seconds` or ` PX milliseconds`, as two RESP arguments.
    fn resp_arguments(self) -> String {
        let (name, number) = if self.ms.is_multiple_of(1000) {
            ("EX", self.ms / 1000)
        } else {
            ("PX", self.ms)
        };
        let number = number.to_string();
        format!(
            "${}\r\n{name}\r\n${}\r\n{number}\r\n",
            name.len(),
            number.len()
        )
    }

    /// Seconds as a JSON number.
    fn json_seconds(self) -> String {
        let (seconds, ms) = (self.ms / 1000, self.ms % 1000);
        if ms == 0 {
            return seconds.to_string();
        }
        let text = format!("{seconds}.{ms:03}");
        text.trim_end_matches('0').to_owned()
    }
}

/// What a counter's key begins with; its number follows.
pub(crate) const COUNTER_PREFIX: &[u8] = b"counter:";

/// Encodes requests for one target.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    protocol: Protocol,
    keys: KeyFormat,
    get_before_key: Vec<u8>,
    get_after_key: Vec<u8>,
    set_before_key: Vec<u8>,
    /// Between the key and the decimal length that comes before the value.
    set_after_key: Vec<u8>,
    set_before_value: Vec<u8>,
    set_after_value: Vec<u8>,
    /// What HTTP's Content-Length counts beside the value.
    body_frame_bytes: usize,
}

impl Requests {
    /// Requests in `protocol`. `host` is sent as HTTP's Host field.
    pub(crate) fn new(protocol: Protocol, host: &str, keys: KeyFormat, ttl: Option<Ttl>) -> Self {
        match protocol {
            Protocol::Resp => Self::resp(keys, ttl),
            Protocol::Http => Self::http(host, keys, ttl),
        }
    }

    fn resp(keys: KeyFormat, ttl: Option<Ttl>) -> Self {
        let key_bytes = keys.key_bytes();
        let arguments = if ttl.is_some() { 5 } else { 3 };
        let after_value = format!("\r\n{}", ttl.map(Ttl::resp_arguments).unwrap_or_default());
        Self {
            protocol: Protocol::Resp,
            keys,
            get_before_key: format!("*2\r\n$3\r\nGET\r\n${key_bytes}\r\n").into_bytes(),
            get_after_key: b"\r\n".to_vec(),
            set_before_key: format!("*{arguments}\r\n$3\r\nSET\r\n${key_bytes}\r\n").into_bytes(),
            set_after_key: b"\r\n$".to_vec(),
            set_before_value: b"\r\n".to_vec(),
            set_after_value: after_value.into_bytes(),
            body_frame_bytes: 0,
        }
    }

    fn http(host: &str, keys: KeyFormat, ttl: Option<Ttl>) -> Self {
        let body_start = "{\"value\":\"";
        let body_end = ttl.map_or_else(
            || "\"}".to_owned(),
            |ttl| format!("\",\"ttl\":{}}}", ttl.json_seconds()),
        );
        let json = "Content-Type: application/json\r\nContent-Length: ";
        Self {
            protocol: Protocol::Http,
            keys,
            get_before_key: b"GET /".to_vec(),
            get_after_key: format!(" HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
            set_before_key: b"POST /".to_vec(),
            set_after_key: format!(" HTTP/1.1\r\nHost: {host}\r\n{json}").into_bytes(),
            set_before_value: format!("\r\n\r\n{body_start}").into_bytes(),
            body_frame_bytes: body_start.len() + body_end.len(),
            set_after_value: body_end.into_bytes(),
        }
    }

    /// The protocol of the requests.
    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Appends key number `key` alone.
    pub(crate) fn write_key(&self, key: u64, out: &mut Vec<u8>) {
        self.keys.write(key, out);
    }

    /// Appends a read of key number `key`.
    pub(crate) fn get(&self, key: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.get_before_key);
        self.keys.write(key, out);
        out.extend_from_slice(&self.get_after_key);
    }

    /// Appends an increment of counter number `key`. RESP alone.
    pub(crate) fn increment(&self, key: u64, out: &mut Vec<u8>) {
        let (mut number, mut length) = (itoa::Buffer::new(), itoa::Buffer::new());
        let number = number.format(key).as_bytes();
        out.extend_from_slice(b"*2\r\n$4\r\nINCR\r\n$");
        let key_bytes = COUNTER_PREFIX.len() + number.len();
        out.extend_from_slice(length.format(key_bytes).as_bytes());
        for part in [b"\r\n", COUNTER_PREFIX, number, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }

    /// Appends a write of `value` to key number `key`.
    pub(crate) fn set(&self, key: u64, value: &Value<'_>, out: &mut Vec<u8>) {
        let mut buffer = itoa::Buffer::new();
        out.extend_from_slice(&self.set_before_key);
        self.keys.write(key, out);
        out.extend_from_slice(&self.set_after_key);
        let length = buffer.format(value.len() + self.body_frame_bytes);
        out.extend_from_slice(length.as_bytes());
        out.extend_from_slice(&self.set_before_value);
        value.write(out);
        out.extend_from_slice(&self.set_after_value);
    }
}

#[cfg(test)]
mod tests {
    use super::{Protocol, Requests, Ttl};
    use crate::workload::{KeyFormat, ValueSizes, Values};
    use std::time::Duration;

    fn requests(protocol: Protocol, ttl_ms: u64) -> Requests {
        let ttl = (ttl_ms > 0).then(|| Ttl::new(Duration::from_millis(ttl_ms)).expect("not zero"));
        Requests::new(
            protocol,
            "cache:8379",
            KeyFormat::new(8, 100).expect("fits"),
            ttl,
        )
    }

    fn set(requests: &Requests) -> (String, String) {
        let values = Values::new(ValueSizes::parse("12").expect("a size"), 1);
        let (mut out, mut value) = (Vec::new(), Vec::new());
        values.of(7).write(&mut value);
        requests.set(7, &values.of(7), &mut out);
        let text = |bytes| String::from_utf8(bytes).expect("ascii");
        (text(out), text(value))
    }

    #[test]
    fn resp_requests_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        requests(Protocol::Resp, 0).get(7, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$8\r\nkey:0007\r\n");
        let (out, value) = set(&requests(Protocol::Resp, 0));
        assert_eq!(
            out,
            format!("*3\r\n$3\r\nSET\r\n$8\r\nkey:0007\r\n$12\r\n{value}\r\n")
        );
        let (out, value) = set(&requests(Protocol::Resp, 60_000));
        let head = "*5\r\n$3\r\nSET\r\n$8\r\nkey:0007\r\n$12\r\n";
        assert_eq!(out, format!("{head}{value}\r\n$2\r\nEX\r\n$2\r\n60\r\n"));
        let (out, value) = set(&requests(Protocol::Resp, 1_500));
        assert_eq!(out, format!("{head}{value}\r\n$2\r\nPX\r\n$4\r\n1500\r\n"));
    }

    #[test]
    fn http_requests_carry_json_of_the_stated_length() {
        let mut out = Vec::new();
        requests(Protocol::Http, 0).get(7, &mut out);
        assert_eq!(out, b"GET /key:0007 HTTP/1.1\r\nHost: cache:8379\r\n\r\n");
        for (ttl_ms, ttl) in [
            (0, None),
            (60_000, Some(60.0)),
            (500, Some(0.5)),
            (1_001, Some(1.001)),
        ] {
            let (out, value) = set(&requests(Protocol::Http, ttl_ms));
            let (head, body) = out.split_once("\r\n\r\n").expect("a head");
            assert!(
                head.starts_with("POST /key:0007 HTTP/1.1\r\nHost: cache:8379\r\n"),
                "{head}"
            );
            assert!(
                head.ends_with(&format!("\r\nContent-Length: {}", body.len())),
                "{head}"
            );
            let body: serde_json::Value = serde_json::from_str(body).expect("json");
            assert_eq!(body["value"].as_str(), Some(value.as_str()));
            assert_eq!(body.get("ttl").and_then(serde_json::Value::as_f64), ttl);
        }
    }

    #[test]
    fn a_ttl_is_never_rounded_to_nothing() {
        assert!(Ttl::new(Duration::ZERO).is_err());
        assert_eq!(Ttl::new(Duration::from_micros(1)), Ok(Ttl { ms: 1 }));
        assert_eq!(Ttl::new(Duration::from_micros(1_001)), Ok(Ttl { ms: 2 }));
    }
}
