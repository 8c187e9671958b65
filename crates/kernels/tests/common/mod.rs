//! What several test programs share.
#![allow(dead_code, reason = "every test binary uses its own part")]

/// Runs this test program again with an environment variable, which a run that has it does not repeat.
fn pass_again(name: &str, value: &str) {
    let program = std::env::current_exe().expect("a test program knows its path");
    let output = std::process::Command::new(program)
        .env(name, value)
        .output()
        .expect("a test program starts");
    assert!(
        output.status.success(),
        "with {name}={value}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

fn is_again() -> bool {
    ["PHIZ_ISA", "PHIZ_OPS"]
        .iter()
        .any(|name| std::env::var_os(name).is_some())
}

/// Runs this test program again on every instruction set below the widest of this machine.
pub fn pass_on_every_instruction_set() {
    if is_again() {
        return;
    }
    let mut sets = phiz_kernels::isa::available();
    sets.pop();
    for set in sets {
        pass_again("PHIZ_ISA", set.name());
    }
}

/// Runs this test program again with candle's operations at work, as on other devices.
pub fn pass_by_candles_operations() {
    if !is_again() {
        pass_again("PHIZ_OPS", "candle");
    }
}
