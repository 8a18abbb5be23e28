//! Real processors that fail when a test says so.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Cluster, process, text};

impl Cluster {
    /// Makes it possible to let a stage fail by [`fail_phase`](Self::fail_phase). This takes effect at the worker's
    /// next start.
    pub fn script_phase(&self, stage: &str) -> anyhow::Result<()> {
        let script = self.scripts()?.join(format!("scripted-{stage}.sh"));
        let lines = [
            format!("printf '{{\"sealbus_processor\":2,\"stage\":\"{stage}\",\"pid\":%s}}\\n' $$"),
            "while IFS= read -r request; do".to_owned(),
            format!("  if [ -e '{}' ]; then", text(&self.failure(stage))),
            "    id=$(printf '%s' \"$request\" | sed 's/^{\"id\":\\([0-9]*\\),.*/\\1/')".to_owned(),
            "    echo 'scripted: it fails because a test says so' >&2".to_owned(),
            format!("    printf '{{\"id\":%s,\"error\":%s}}\\n' \"$id\" \"$(cat '{}')\"", text(&self.failure(stage))),
            "  else".to_owned(),
            // Each request runs in its own real processor. Its greeting is cut off, because the script has already sent
            // one.
            format!(
                "    printf '%s\\n' \"$request\" | SEALBUS_PARENT_PID=$$ '{}' processor {stage} | tail -n +2",
                text(&process::own_binary("sealbus-worker")?)
            ),
            "  fi".to_owned(),
            "done".to_owned(),
        ];
        std::fs::write(&script, lines.join("\n") + "\n")?;
        let mut config = std::fs::read_to_string(self.worker_config())?;
        config.push_str(&self.scripted_group(stage, &script)?);
        Ok(std::fs::write(self.worker_config(), config)?)
    }

    /// Makes every request to a scripted stage fail from now on.
    pub fn fail_phase(&self, stage: &str, class: &str, code: &str, message: &str) -> anyhow::Result<()> {
        let error: Value = json!({ "class": class, "code": code, "message": message });
        Ok(std::fs::write(self.failure(stage), error.to_string())?)
    }

    /// Lets the stage work again.
    pub fn mend_phase(&self, stage: &str) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.failure(stage))?)
    }

    fn failure(&self, stage: &str) -> PathBuf {
        self.root.join("scripts").join(format!("fail-{stage}.json"))
    }
}
