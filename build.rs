//! Turns `src/rpc/net.proto` into Rust without needing `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=src/rpc/net.proto");
    let descriptors = protox::compile(["src/rpc/net.proto"], ["src/rpc"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    let commit = std::process::Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo:rustc-env=MILLSTREAM_COMMIT={}", commit.unwrap_or_else(|| "unknown".into()));
    println!("cargo:rerun-if-changed=.git/HEAD");
    Ok(())
}
