//! The checked-in code is what the .proto files say. `QUORATE_REGENERATE=1 cargo test -p quorate-proto`
//! rewrites it. Neither protoc nor this generator takes part in a build.

use std::{env, fs, path::Path};

const PROTO_FILES: [&str; 5] = ["kv.proto", "auth.proto", "rpc.proto", "health.proto", "quorate.proto"];
const GENERATED_FILES: [&str; 5] =
    ["authpb.rs", "etcdserverpb.rs", "grpc.health.v1.rs", "mvccpb.rs", "quorate.rs"];

#[test]
fn generated_code_is_what_the_proto_files_say() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = room_to_write(room);
    let descriptors = protox::compile(PROTO_FILES, [room.join("proto")]).expect("the .proto files are valid");
    tonic_prost_build::configure()
        .bytes(".")
        .build_transport(true)
        .out_dir(&fresh)
        .compile_fds(descriptors)
        .expect("code can be generated");

    let mut written: Vec<String> = fs::read_dir(&fresh)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    assert_eq!(written, GENERATED_FILES, "one module per package");

    for name in GENERATED_FILES {
        let now = fs::read_to_string(fresh.join(name)).unwrap();
        let checked_in = room.join("src/generated").join(name);
        if env::var_os("QUORATE_REGENERATE").is_some() {
            fs::write(&checked_in, &now).unwrap();
        }
        let then = fs::read_to_string(&checked_in).unwrap_or_default();
        assert!(now == then, "{name} is not what proto/ says; run with QUORATE_REGENERATE=1 to rewrite it");
    }
}

/// A folder of this test alone, empty, beside the build's other output.
fn room_to_write(room: &Path) -> std::path::PathBuf {
    let base = option_env!("CARGO_TARGET_TMPDIR").map_or_else(|| room.join("target"), Into::into);
    let fresh = base.join("regenerated");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).expect("the folder is this test's own");
    }
    fs::create_dir_all(&fresh).expect("the build folder can be written");
    fresh
}
