//! Lookup and parsing of inline commands: no panic, and errors of one line.
//!
//! Run with `-dict=resp.dict`.
#![no_main]

use fulmar_protocol::command::table::lookup;
use fulmar_protocol::command::{ConnectionCommand, reply_command};
use fulmar_protocol::resp::{Decoded, Decoder, Encoder, RespVersion, Slices};
use fulmar_protocol::{Command, ReplySink};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let input = [data, b"\n"].concat();
    let mut decoder = Decoder::new(1024);
    let mut slices = Slices::new();
    let Decoded::Command { frame, .. } = decoder.decode(&input, &mut slices) else {
        return;
    };
    let argv = frame.argv();
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, RespVersion::Resp3);
    match lookup(argv.args).and_then(|spec| Command::parse(spec, argv)) {
        Ok(Command::Connection(ConnectionCommand::Command(command))) => {
            reply_command(&command, &mut encoder);
        }
        Ok(_) => {}
        Err(error) => {
            encoder.error(&error);
            let line = out.strip_suffix(b"\r\n").expect("an error is a line");
            assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        }
    }
});
