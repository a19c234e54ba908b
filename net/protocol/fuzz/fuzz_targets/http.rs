//! HTTP requests: the same events whole and in pieces, and one well-formed response for each.
//!
//! The first byte is the length of the pieces. Run with `-dict=http.dict`.
#![no_main]

use std::sync::Arc;

use fulmar_protocol::ReplySink;
use fulmar_protocol::command::Value;
use fulmar_protocol::http::{Config, Decoded, Decoder, Encoder, KeyCommand, Request};
use libfuzzer_sys::fuzz_target;

/// The event of a refusal that ends the connection.
const CLOSES: &str = "closes";

/// Small limits, so that short inputs reach them.
fn config() -> Config {
    Config {
        body_bytes_max: 64,
        head_bytes_max: 512,
        ..Config::default()
    }
}

/// Decodes the pieces of a connection into one line for each request, with its response.
fn serve<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let config = config();
    let mut decoder = Decoder::new(Arc::new(config.clone()));
    let mut unconsumed = Vec::new();
    let mut events = Vec::new();
    for piece in pieces {
        unconsumed.extend_from_slice(piece);
        loop {
            let mut response = Vec::new();
            let (consumed, is_done) = match decoder.decode(&unconsumed) {
                Decoded::Need { consumed } => (consumed, true),
                Decoded::Continue { consumed } => (consumed, false),
                Decoded::Request {
                    request,
                    form,
                    consumed,
                } => {
                    let mut encoder = Encoder::new(form, &mut response);
                    match &request {
                        Request::Command(KeyCommand::Get { key }) => encoder.bulk(key),
                        Request::Command(KeyCommand::Delete { .. }) => encoder.integer(1),
                        Request::Command(KeyCommand::Set(set)) => {
                            let Value::Bytes(value) = set.value else {
                                panic!("never staged")
                            };
                            assert!(value.len() <= config.body_bytes_max);
                            encoder.ok();
                        }
                        Request::Page(_) => encoder.null(),
                    }
                    events.push(format!(
                        "{request:?} {}",
                        String::from_utf8_lossy(&response)
                    ));
                    (consumed, false)
                }
                Decoded::Refuse { refusal, consumed } => {
                    refusal.encode(&mut response);
                    // Which of several mistakes is found first depends on what is there of it.
                    events.push(if refusal.form.keep_alive() {
                        format!("{}", refusal.error.status().code())
                    } else {
                        CLOSES.to_owned()
                    });
                    (consumed, false)
                }
            };
            if !response.is_empty() {
                assert!(response.starts_with(b"HTTP/1.1 "));
            }
            unconsumed.drain(..consumed);
            if is_done {
                break;
            }
        }
        // The key, the body and its text without escapes.
        assert!(decoder.buffered_bytes() <= config.head_bytes_max + 2 * config.body_bytes_max);
        assert!(unconsumed.len() <= config.head_bytes_max.max(8 * 1024));
    }
    events
}

fuzz_target!(|data: &[u8]| {
    let Some((&piece_bytes, input)) = data.split_first() else {
        return;
    };
    let whole = serve([input].into_iter());
    let mut pieces = serve(input.chunks(usize::from(piece_bytes).max(1)));
    // What can never become a request is refused at the latest when its length has doubled.
    if pieces.len() < whole.len() && whole.last().is_some_and(|event| event == CLOSES) {
        pieces.push(CLOSES.to_owned());
    }
    assert_eq!(pieces, whole);
});
