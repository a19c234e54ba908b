//! Where a run took place: no number without hardware, kernel and command line.

use std::fs;

/// The machine that the load came from, and the command line.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Machine {
    /// Kernel name and release.
    pub(super) kernel: String,
    /// The first CPU's model.
    pub(super) cpu_model: String,
    /// CPUs that this process may use.
    pub(super) cpus: usize,
    /// As it was given, quoted for a shell where needed.
    pub(super) command_line: String,
}

impl Machine {
    /// Asks the system; what it does not say is "unknown".
    pub(super) fn detect() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpu_info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let arguments: Vec<String> = std::env::args().map(|argument| quoted(&argument)).collect();
        Self {
            kernel: format!("Linux {}", known(release.trim())),
            cpu_model: known(cpu_model(&cpu_info)).to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            command_line: arguments.join(" "),
        }
    }
}

fn known(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

/// The first "model name" of /proc/cpuinfo (x86), or "Model" (some other architectures).
fn cpu_model(cpu_info: &str) -> &str {
    let field = |name: &str| {
        cpu_info
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim())
    };
    field("model name")
        .or_else(|| field("Model"))
        .unwrap_or_default()
}

fn quoted(argument: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+[]".contains(c);
    if !argument.is_empty() && argument.chars().all(is_plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::{Machine, cpu_model, quoted};

    #[test]
    fn the_machine_is_named() {
        let machine = Machine::detect();
        assert!(machine.kernel.starts_with("Linux "), "{}", machine.kernel);
        assert!(machine.cpus > 0);
        assert!(!machine.command_line.is_empty());
    }

    #[test]
    fn cpu_models_are_found() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: B\n";
        assert_eq!(cpu_model(text), "AMD EPYC");
        assert_eq!(cpu_model("Model\t\t: Board 4\n"), "Board 4");
        assert_eq!(cpu_model(""), "");
    }

    #[test]
    fn arguments_are_quoted_when_a_shell_needs_it() {
        assert_eq!(quoted("--rate=20k"), "--rate=20k");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
