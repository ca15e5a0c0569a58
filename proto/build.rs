//! Compiles the protos beside it with a compiler written in Rust, so that nobody needs `protoc`.

use prost_types::field_descriptor_proto::Type;
use prost_types::{FieldDescriptorProto, FileDescriptorSet};
use std::error::Error;
use std::path::PathBuf;

/// What the server serves, and so what reflection shows.
const SERVED: &str = "evnode/v1/state_rpc.proto";
/// What the client reads replies with.
const READ: &str = "evbackup/v1/any_layout.proto";
/// The parts of a block. A message and a string of bytes look the same on the wire, so they are taken and given as the bytes that they are:
/// decoded and encoded again, an old header would have another hash.
const AS_BYTES: [(&str, &str); 2] = [("Block", "header"), ("Block", "data")];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);

    let mut served = protox::Compiler::new(["proto"])?;
    served.include_imports(true).open_file(SERVED)?;
    #[expect(clippy::disallowed_methods, reason = "a build product in cargo's own directory")]
    std::fs::write(out.join("reflection.bin"), served.encode_file_descriptor_set())?;

    let mut files = protox::compile([SERVED, READ], ["proto"])?;
    for (message, field) in AS_BYTES {
        let field = find(&mut files, message, field).ok_or_else(|| format!("expected {message}.{field}"))?;
        field.set_type(Type::Bytes);
        field.type_name = None;
        // An empty message is not the same as none.
        field.proto3_optional = Some(true);
    }
    // `bytes`: a chunk is cut out of the receive buffer, not copied.
    tonic_prost_build::configure()
        .bytes(".evnode.v1.BackupResponse.chunk")
        .bytes(".evnode.v1.BackupMetadata.listed")
        .bytes(".evnode.v1.Block")
        .bytes(".evnode.v1.GetMetadataResponse")
        .bytes(".evbackup.v1.AnyResponse.chunk")
        .bytes(".evbackup.v1.AnyMetadata.listed")
        .compile_fds(files)?;
    Ok(())
}

/// A field of a message of ev-node's.
fn find<'a>(
    files: &'a mut FileDescriptorSet,
    message: &str,
    field: &str,
) -> Option<&'a mut FieldDescriptorProto> {
    let ours = files.file.iter_mut().filter(|file| file.package() == "evnode.v1");
    let message = ours.flat_map(|file| &mut file.message_type).find(|found| found.name() == message)?;
    message.field.iter_mut().find(|found| found.name() == field)
}
