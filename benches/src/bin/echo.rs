//! `echo [PORT] [CPU]`: a bare echo on Fulmar's network ring, the limit to compare with.

use std::env::args;
use std::error::Error;
use std::net::Ipv4Addr;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = args().skip(1);
    let port = args.next().map_or(Ok(0), |port| port.parse())?;
    let cpu = args.next().map_or(Ok(0), |cpu| cpu.parse())?;
    let ready = |port| println!("echo listening on 127.0.0.1:{port}");
    fulmar_server::echo::run(Ipv4Addr::LOCALHOST.into(), port, cpu, ready)?;
    Ok(())
}
