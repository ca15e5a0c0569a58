//! Compiles the protos beside it with a compiler written in Rust, so that nobody needs `protoc`.

use std::error::Error;
use std::path::PathBuf;

/// What the server serves, and so what reflection shows.
const SERVED: &str = "evnode/v1/backup.proto";
/// What the client reads replies with.
const READ: &str = "evbackup/v1/any_layout.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut served = protox::Compiler::new(["proto"])?;
    served.include_imports(true).open_file(SERVED)?;
    #[expect(clippy::disallowed_methods, reason = "a build product in cargo's own directory")]
    std::fs::write(out.join("reflection.bin"), served.encode_file_descriptor_set())?;

    // `bytes`: a chunk is cut out of the receive buffer, not copied.
    tonic_prost_build::configure()
        .bytes(".evnode.v1.BackupResponse.chunk")
        .bytes(".evnode.v1.BackupMetadata.listed")
        .bytes(".evbackup.v1.AnyResponse.chunk")
        .bytes(".evbackup.v1.AnyMetadata.listed")
        .compile_fds(protox::compile([SERVED, READ], ["proto"])?)?;
    Ok(())
}
