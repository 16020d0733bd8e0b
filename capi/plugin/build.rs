//! Link options of the shared object. That it exports `fi_prov_ini` and nothing else is rustc's own doing for a cdylib.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // libfabric closes the library from a destructor, when threads may still have destructors of ours to run.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // Every symbol must be found at link time: libfabric loads with RTLD_NOW, and 1.17 keeps quiet about a failure.
    // A sanitizer's are in the program.
    if std::env::var_os("CARGO_CFG_SANITIZE").is_none() {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,defs");
    }
}
