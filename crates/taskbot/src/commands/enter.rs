//! `worker enter`: a person gets into a virtual machine that is held for them.

use crate::{
    fault::{self, Fault},
    output,
};
use anyhow::{Context as _, Result};
use std::{fs::File, io::Read, os::fd::AsRawFd, path::Path, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::mpsc,
};
use worker::executor::PERSON_SOCKET;

/// How long the machine may be silent once there is nothing more to tell it. Emulated, it answers late.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How much is passed on at once, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;
/// How many pieces of input wait.
const WAITING_MAX: usize = 16;

/// Connects standard input and output with the machine whose folder this is.
pub(super) async fn run(folder: &Path) -> Result<u8> {
    let failed = |why: std::io::Error| {
        let held = "is a machine held there? `taskbot task show ID` says how to get in";
        Fault::new(fault::NOT_FOUND, format!("{}: {why}; {held}", folder.display()))
    };
    // By a descriptor of the folder: a socket's path has about a hundred bytes at most.
    let open = File::open(folder).map_err(failed)?;
    let socket = format!("/proc/self/fd/{}/{PERSON_SOCKET}", open.as_raw_fd());
    let (mut from, mut to) = UnixStream::connect(socket).await.map_err(failed)?.into_split();
    // A thread of its own: whoever does not type any more must not keep the program from its end.
    let (tell, mut typed) = mpsc::channel(WAITING_MAX);
    std::thread::spawn(move || {
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut buffer) {
            if tell.blocking_send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    let (mut buffer, mut done) = (vec![0; BUFFER_BYTES], false);
    loop {
        let count = tokio::select! {
            keys = typed.recv(), if !done => {
                match keys {
                    Some(keys) => to.write_all(&keys).await.context("the machine takes no input")?,
                    None => done = true,
                }
                continue;
            }
            () = tokio::time::sleep(LAST_WORDS), if done => break,
            count = from.read(&mut buffer) => count,
        };
        match count {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                output::write(&buffer[..count]).context("standard output")?;
            }
        }
    }
    Ok(fault::DONE)
}
