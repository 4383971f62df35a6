//! The one place where faults of the device come out.
//!
//! wgpu panics on errors nobody catches, forgets errors after a device is lost, and may then never call a map callback
//! back. So: calls that can fail run in error scopes, a lost flag is kept and looked at after every wait, and every
//! wait has a deadline.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_intrusive::channel::shared::{OneshotSender, oneshot_channel};

use crate::Error;

/// What the device's callbacks reported.
#[derive(Debug, Default)]
struct Reports {
    lost: Option<String>,
    error: Option<Error>,
}

/// A device with its faults.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    reports: Arc<Mutex<Reports>>,
    deadline: Duration,
}

fn convert(error: wgpu::Error) -> Error {
    match error {
        wgpu::Error::OutOfMemory { source } => Error::OutOfMemory(source.to_string()),
        wgpu::Error::Validation { description, .. } => Error::Validation(description),
        wgpu::Error::Internal { description, .. } => Error::Validation(description),
    }
}

impl Guarded {
    /// Watches a device. `owned` devices get an error handler too; an application's keeps its own.
    pub fn new(device: wgpu::Device, queue: wgpu::Queue, owned: bool, deadline: Duration) -> Self {
        let reports = Arc::new(Mutex::new(Reports::default()));
        if owned {
            let seen = reports.clone();
            device.set_device_lost_callback(move |reason, message| {
                let message = if message.is_empty() { format!("{reason:?}") } else { message };
                lock(&seen).lost.get_or_insert(message);
            });
            let seen = reports.clone();
            device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
                log::error!("uncaptured: {error}");
                lock(&seen).error.get_or_insert(convert(error));
            }));
        }
        Self { device, queue, reports, deadline }
    }

    /// Marks the device as lost.
    fn lose(&self, message: &str) {
        lock(&self.reports).lost.get_or_insert(message.to_string());
    }

    /// The first fault that was reported, if any. A lost device stays lost; other errors are reported once.
    pub fn check(&self) -> Result<(), Error> {
        let mut reports = lock(&self.reports);
        if let Some(message) = &reports.lost {
            return Err(Error::DeviceLost(message.clone()));
        }
        reports.error.take().map_or(Ok(()), Err)
    }

    /// Whether the device is gone.
    pub fn is_lost(&self) -> bool {
        lock(&self.reports).lost.is_some()
    }

    /// Runs calls that can fail and gives the first of their errors. The scopes belong to the calling thread, so
    /// nothing is awaited while they are open.
    pub async fn scoped<T>(&self, calls: impl FnOnce(&wgpu::Device) -> T) -> Result<T, Error> {
        let filters =
            [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let result = calls(&self.device);
        // Scopes are popped in reverse order; the futures may be awaited in any.
        let [validation, memory, internal] = scopes;
        let errors = (internal.pop(), memory.pop(), validation.pop());
        let found = match errors.0.await {
            Some(error) => Some(error),
            None => match errors.1.await {
                Some(error) => Some(error),
                None => errors.2.await,
            },
        };
        self.check()?;
        match found {
            Some(error) => Err(convert(error)),
            None => Ok(result),
        }
    }

    /// Submits commands.
    pub async fn submit(&self, commands: wgpu::CommandBuffer) -> Result<wgpu::SubmissionIndex, Error> {
        self.scoped(|_| self.queue.submit([commands])).await
    }

    /// Waits until the device has finished everything submitted so far.
    pub async fn finish(&self) -> Result<(), Error> {
        let (sender, receiver) = oneshot_channel();
        let sender = Arc::new(sender);
        let done = sender.clone();
        self.queue.on_submitted_work_done(move || {
            let _ = done.send(Ok(()));
        });
        self.wait(sender, None);
        let result = receiver.receive().await.unwrap_or(Err(Error::Timeout(self.deadline.as_secs())));
        self.check()?;
        result
    }

    /// Reads buffers that were created with `MAP_READ` and were written by what was submitted last.
    pub async fn read(&self, buffer: &wgpu::Buffer) -> Result<Vec<u8>, Error> {
        self.read_behind(buffer, None).await
    }

    /// Reads such buffers as soon as the submission that wrote them is done, whatever was submitted since.
    pub async fn read_behind(
        &self,
        buffer: &wgpu::Buffer,
        index: Option<wgpu::SubmissionIndex>,
    ) -> Result<Vec<u8>, Error> {
        let (sender, receiver) = oneshot_channel();
        let sender = Arc::new(sender);
        let mapped = sender.clone();
        self.scoped(|_| {
            buffer.slice(..).map_async(wgpu::MapMode::Read, move |result| {
                let _ = mapped.send(result.map_err(|error| Error::DeviceLost(error.to_string())));
            });
        })
        .await?;
        self.wait(sender, index);
        let result = receiver.receive().await.unwrap_or(Err(Error::Timeout(self.deadline.as_secs())));
        self.check()?;
        result?;
        let view =
            buffer.slice(..).get_mapped_range().map_err(|error| Error::DeviceLost(error.to_string()))?;
        let bytes = view.to_vec();
        drop(view);
        buffer.unmap();
        Ok(bytes)
    }

    /// Sees to it that something is sent in time: callbacks run while a helper thread polls until a submission, or the
    /// last one, is done, and the thread reports a lost device or a passed deadline itself.
    #[cfg(not(target_arch = "wasm32"))]
    fn wait(&self, sender: Arc<Sender>, index: Option<wgpu::SubmissionIndex>) {
        let guarded = self.clone();
        let spawned = std::thread::Builder::new().name("kiln-poll".into()).spawn({
            let sender = sender.clone();
            move || guarded.poll_until_sent(&sender, index)
        });
        if let Err(error) = spawned {
            let _ = sender.send(Err(Error::DeviceLost(format!("no thread to wait for it: {error}"))));
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    fn poll_until_sent(&self, sender: &Sender, index: Option<wgpu::SubmissionIndex>) {
        let start = std::time::Instant::now();
        loop {
            let slice = wgpu::PollType::Wait {
                submission_index: index.clone(),
                timeout: Some(Duration::from_millis(100)),
            };
            // wgpu's poll panics on device errors it does not expect.
            let polled =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.device.poll(slice).is_ok()));
            match polled {
                // Everything is finished and every callback has run; if ours has, sending again does nothing.
                Ok(true) => {
                    let _ = sender.send(Err(Error::DeviceLost("a callback was never called".into())));
                    return;
                }
                Ok(false) => {}
                Err(_) => self.lose("polling it failed"),
            }
            if let Err(error) = self.check() {
                let _ = sender.send(Err(error));
                return;
            }
            if start.elapsed() > self.deadline {
                self.lose("it did not answer in time");
                let _ = sender.send(Err(Error::Timeout(self.deadline.as_secs())));
                return;
            }
        }
    }

    /// Browsers poll by themselves, and report a lost device by failing the callback.
    #[cfg(target_arch = "wasm32")]
    fn wait(&self, _sender: Arc<Sender>, _index: Option<wgpu::SubmissionIndex>) {}
}

/// Tells whoever waits.
type Sender = OneshotSender<Result<(), Error>>;

/// A poisoned lock still holds what was reported.
fn lock(reports: &Mutex<Reports>) -> std::sync::MutexGuard<'_, Reports> {
    reports.lock().unwrap_or_else(PoisonError::into_inner)
}
