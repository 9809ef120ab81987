//! The unattended installation onto a blank disk.

use super::{
    super::{ExecError, LogSink, host::infra},
    arguments::Kernel,
    boot::{Patience, Running, Setback},
    machine::Vm,
    media,
};
use model::task_file::VmInstall;
use std::path::Path;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

impl Vm {
    /// The installation: a machine of its own, without anything of ours but the answers.
    pub(super) async fn install(
        &mut self,
        install: &VmInstall,
        disk: &Path,
        log: &dyn LogSink,
        stop: &CancellationToken,
    ) -> Result<(), Setback> {
        let mut machine = self.machine();
        machine.agent = false;
        machine.disk = Some(disk.to_owned());
        machine.ends_at_reset = true;
        machine.stays_at_end = true;
        if let Some(iso) = &install.iso {
            machine.media.push(self.inside(iso)?);
            machine.boot_medium = install.kernel.is_none();
        }
        if let Some(kernel) = &install.kernel {
            let initrd = self.place.root.join("install-initrd");
            media::initrd(&self.all_inside(&install.initrd)?, None, &initrd)?;
            let own = format!("console={}", self.arch.console);
            let append = format!("{own} {}", install.append.as_deref().unwrap_or_default());
            let initrd = (!install.initrd.is_empty()).then_some(initrd);
            machine.kernel = Some(Kernel { kernel: self.inside(kernel)?, initrd, append });
        }
        if let Some(answers) = &install.answers {
            let files = answers.files.iter().map(|(name, path)| Ok((name.clone(), self.inside(path)?)));
            let files: Vec<_> = files.collect::<Result<_, ExecError>>()?;
            let medium = self.place.root.join("answers.iso");
            media::answers(&answers.label, &files, &medium)?;
            machine.media.push(medium);
        }
        log.write(format!("installing onto a blank disk ({})\n", self.engine).as_bytes());
        let running = Running::start(&self.place, &machine, None, &self.files(), "install").await?;
        let patience = Patience {
            until: Instant::now() + self.limit(install.timeout),
            idle: Some(self.limit(install.idle)),
        };
        let steps = self.steps(&install.console);
        let running = self.running.insert(running);
        let position = running.dialogue(&steps, patience, log, stop).await?;
        match &install.until {
            Some(until) => {
                running.text(&[until], position, patience, log, stop).await?;
                // What the guest believes to be on its disk is there only once it ends by itself.
                let _ = running.qmp.execute("system_powerdown", serde_json::json!({})).await;
                let settled =
                    Patience { until: Instant::now() + self.limit(super::POWER_OFF_LIMIT), idle: None };
                let running = self.running.as_mut().ok_or_else(|| infra("no machine runs"))?;
                match running.end(settled, log, stop).await {
                    Ok(()) | Err(Setback::TooLong(_) | Setback::Ended(_)) => {}
                    Err(other) => return Err(other),
                }
            }
            None => running.end(patience, log, stop).await?,
        }
        // Killed, QEMU would lose what it has not written of the disk's own tables.
        if let Some(running) = &self.running {
            let _ = running.qmp.execute("quit", serde_json::json!({})).await;
            let _ = tokio::time::timeout(super::POWER_OFF_LIMIT, running.process.ended()).await;
        }
        self.switch_off().await;
        log.write(b"installed\n");
        Ok(())
    }
}
