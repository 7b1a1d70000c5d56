//! What `make demo` and `make test` install: nothing that is there, and a clear list where it may not.
#![cfg(unix)]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

/// Runs the script with nothing on the path but the programs that every system has, and those named.
fn set_up(tools: &[&str], there: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for name in
        ["bash", "sh", "cat", "sed", "sort", "head", "dirname", "id", "env", "uname", "mktemp", "chmod", "rm", "mkdir"]
    {
        let found =
            ["/bin", "/usr/bin"].map(|folder| Path::new(folder).join(name)).into_iter().find(|path| path.exists());
        symlink(found.unwrap_or_else(|| panic!("no {name}")), folder.path().join(name)).unwrap();
    }
    for (name, says) in there {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/set_up.sh");
    let mut command = Command::new(folder.path().join("bash"));
    command.arg(script).args(tools).env_clear().env("PATH", folder.path()).env("HOME", folder.path());
    command.output().unwrap()
}

#[test]
fn what_is_there_is_left_as_it_is() {
    let found = set_up(
        &["rust", "c"],
        &[("rustc", "rustc 9.9.9 (of)"), ("cargo", "cargo"), ("cc", ""), ("c++", ""), ("make", "")],
    );
    assert!(found.status.success(), "{found:?}");
    assert!(found.stdout.is_empty() && found.stderr.is_empty(), "{found:?}");
}

#[test]
fn what_is_missing_and_cannot_be_installed_is_listed() {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let found =
        set_up(&["rust", "valgrind", "--optional", "java"], &[("rustc", "rustc 1.2.3 (old)"), ("cargo", "cargo")]);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    let [said, refused] = [&found.stdout, &found.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(refused.contains(&format!("Rust {needed} or later: https://rustup.rs")), "{refused}");
    assert!(refused.contains("valgrind: apt-get install valgrind") && !refused.contains("java"), "{refused}");
    assert!(said.contains("left out") && said.contains("java: apt-get install"), "{said}");
    // What only some tests need is no reason to fail.
    assert!(set_up(&["--optional", "java"], &[]).status.success());
    assert_eq!(set_up(&["fortran"], &[]).status.code(), Some(2));
}

/// The server of rustup answers with a program, which here puts two others where it should.
#[test]
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn rust_comes_by_rustup_where_its_server_answers() {
    let needed = env!("CARGO_PKG_RUST_VERSION");
    let installs = format!(
        r#"'; set -e; while [ "$1" != -o ]; do shift; done
cat > "$2" <<'PROGRAM'
#!/bin/sh
bin="$HOME/.cargo/bin"
mkdir -p "$bin"
printf '#!/bin/sh\necho "rustc {needed}.0"\n' > "$bin/rustc"
printf '#!/bin/sh\n' > "$bin/cargo"
chmod +x "$bin/rustc" "$bin/cargo"
PROGRAM
: '"#
    );
    let found = set_up(&["rust"], &[("curl", &installs)]);
    assert!(found.status.success(), "{found:?}");
    let said = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    assert!(
        said.starts_with("rust is missing: installing it by rustup\nrust: make finds it") && said.lines().count() == 2,
        "{said}"
    );
    // A server that cannot be reached leaves what the distribution has, and here that is nothing.
    let found = set_up(&["rust"], &[("curl", "'; exit 6; '")]);
    assert_eq!(found.status.code(), Some(1), "{found:?}");
}
