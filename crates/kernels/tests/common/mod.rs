//! What several test programs share.

/// Runs this test program again on every instruction set below the widest of this machine.
pub fn pass_on_every_instruction_set() {
    if std::env::var_os("PHIZ_ISA").is_some() {
        return;
    }
    let mut sets = phiz_kernels::isa::available();
    sets.pop();
    for set in sets {
        let program = std::env::current_exe().expect("a test program knows its path");
        let output = std::process::Command::new(program)
            .env("PHIZ_ISA", set.name())
            .output()
            .expect("a test program starts");
        assert!(
            output.status.success(),
            "on {}: {}",
            set.name(),
            String::from_utf8_lossy(&output.stdout)
        );
    }
}
