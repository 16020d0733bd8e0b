//! Writes `capi/sys/src/bindings.rs` from the headers of libfabric 1.17, or compares it (`--check`).
//!
//! Needs libfabric-dev 1.17 and libclang. It is never part of a build of the provider and reads no other header.
#![deny(missing_docs)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The bindings are generated against this version and no other: it is the oldest one supported, and what
/// later versions appended is declared in `abi.rs`.
const SUPPORTED: (u32, u32) = (1, 17);

/// First lines of the output.
const HEADING: &str = "//! The types and constants of libfabric 1.17, generated from `include/bindgen.h`.\n\
    //!\n//! Written by `capi/sys/generate`; never edited by hand. What is missing is in `constants.rs` and `abi.rs`.";

/// Macros whose C form has the wrong type or value for Rust: `constants.rs` declares them.
const DECLARED_BY_HAND: &str = "FI_SHARED_CONTEXT|FI_LIB_EXTENSION|FI_LIB_SUFFIX|FI_SET_OPS_HMEM_OVERRIDE";

/// libfabric's own error numbers begin here; smaller ones are the system's.
const FIRST_OWN_ERRNO: i64 = 256;

/// Gives integer macros the type of the field or argument they are used for, and hides the enumerators that
/// `constants.rs` declares as signed integers: error numbers and the modes of memory registration.
#[derive(Debug)]
struct MacroTypes;

impl bindgen::callbacks::ParseCallbacks for MacroTypes {
    fn int_macro(&self, name: &str, _value: i64) -> Option<bindgen::callbacks::IntKind> {
        use bindgen::callbacks::IntKind;
        let version = ["FI_MAJOR_VERSION", "FI_MINOR_VERSION", "FI_REVISION_VERSION"];
        let errno = name.strip_prefix("FI_E").is_some_and(|rest| !matches!(rest, "VENT"));
        Some(match name {
            "FI_SUCCESS" => IntKind::Int,
            _ if errno || name.starts_with("FI_MR_") => IntKind::Int,
            _ if version.contains(&name) || name.starts_with("FI_PROV_SPECIFIC") => IntKind::U32,
            _ => IntKind::U64,
        })
    }

    fn enum_variant_behavior(
        &self,
        _enum_name: Option<&str>,
        name: &str,
        value: bindgen::callbacks::EnumVariantValue,
    ) -> Option<bindgen::callbacks::EnumVariantCustomBehavior> {
        let value = match value {
            bindgen::callbacks::EnumVariantValue::Boolean(_) => return None,
            bindgen::callbacks::EnumVariantValue::Signed(value) => value,
            bindgen::callbacks::EnumVariantValue::Unsigned(value) => i64::try_from(value).unwrap_or(i64::MAX),
        };
        let errno = name.starts_with("FI_E") && value >= FIRST_OWN_ERRNO;
        let mr_mode = matches!(name, "FI_MR_UNSPEC" | "FI_MR_BASIC" | "FI_MR_SCALABLE");
        (errno || mr_mode).then_some(bindgen::callbacks::EnumVariantCustomBehavior::Hide)
    }
}

fn main() -> ExitCode {
    let mut check = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            other => {
                eprintln!("unknown argument {other}; accepted: --check");
                return ExitCode::from(2);
            }
        }
    }
    let sys = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let missing = match (installed_version(), libclang_is_there()) {
        (Some(SUPPORTED), true) => None,
        (Some(SUPPORTED), false) => Some("libclang"),
        _ => Some("libfabric-dev 1.17"),
    };
    if let Some(missing) = missing {
        println!("skipped: {missing} not found");
        return if check { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let text = match generate(&sys.join("../../include/bindgen.h")) {
        Ok(text) => text,
        Err(problem) => {
            eprintln!("bindgen failed: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let target = sys.join("src/bindings.rs");
    if check { compare(&target, &text) } else { store(&target, &text) }
}

/// Whether bindgen finds the library it reads headers with; it panics when it does not.
fn libclang_is_there() -> bool {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = std::panic::catch_unwind(bindgen::clang_version).is_ok();
    std::panic::set_hook(hook);
    found
}

/// Directories that are searched for `rdma/fabric.h`.
fn include_directories() -> Vec<PathBuf> {
    let mut directories = vec![PathBuf::from("/usr/include"), PathBuf::from("/usr/local/include")];
    if let Some(extra) = std::env::var_os("LIBFABRIC_INCLUDE") {
        directories.insert(0, PathBuf::from(extra));
    }
    directories
}

/// Version (major, minor) of the first `rdma/fabric.h` found.
fn installed_version() -> Option<(u32, u32)> {
    let header = include_directories()
        .into_iter()
        .map(|directory| directory.join("rdma/fabric.h"))
        .find_map(|path| std::fs::read_to_string(path).ok())?;
    let number = |name: &str| {
        header.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some(name)).then(|| words.next())?
        })
    };
    let major = number("FI_MAJOR_VERSION")?.parse().ok()?;
    let minor = number("FI_MINOR_VERSION")?.parse().ok()?;
    Some((major, minor))
}

fn generate(header: &Path) -> Result<String, bindgen::BindgenError> {
    let mut builder = bindgen::Builder::default()
        .header(header.to_string_lossy())
        .rust_target(bindgen::RustTarget::stable(85, 0).expect("1.85 is known to this bindgen"))
        .rust_edition(bindgen::RustEdition::Edition2024)
        .allowlist_type("fi_.*|fid_?.*")
        .allowlist_var("FI_.*")
        // Only the types are wanted: nothing of the provider may link to libfabric.
        .ignore_functions()
        .blocklist_type("iovec|pollfd|fi_mutex_cond|pthread_.*|__pthread_.*")
        .blocklist_item(DECLARED_BY_HAND)
        .parse_callbacks(Box::new(MacroTypes))
        .raw_line(HEADING)
        .raw_line("use libc::{iovec, pollfd};")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .derive_debug(true)
        .derive_default(false)
        .layout_tests(false)
        .disable_header_comment()
        .generate_comments(false)
        .use_core()
        .formatter(bindgen::Formatter::Prettyplease)
        .size_t_is_usize(true);
    for directory in include_directories() {
        builder = builder.clang_arg(format!("-I{}", directory.display()));
    }
    Ok(builder.generate()?.to_string())
}

fn store(target: &Path, text: &str) -> ExitCode {
    match std::fs::write(target, text) {
        Ok(()) => {
            println!("written: {}", target.display());
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{}: {problem}", target.display());
            ExitCode::FAILURE
        }
    }
}

fn compare(target: &Path, text: &str) -> ExitCode {
    match std::fs::read_to_string(target) {
        Ok(stored) if stored == text => {
            println!("same: the bindings match libfabric-dev 1.17");
            ExitCode::SUCCESS
        }
        Ok(_) => {
            eprintln!("{} differs from what the headers give; regenerate it", target.display());
            ExitCode::FAILURE
        }
        Err(problem) => {
            eprintln!("{}: {problem}", target.display());
            ExitCode::FAILURE
        }
    }
}
