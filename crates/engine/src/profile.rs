//! Time by dispatch.

/// Time of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileRow {
    /// Where in the model.
    pub path: String,
    /// The op's name.
    pub op: &'static str,
    /// The launch's name.
    pub launch: &'static str,
    /// Names of all launches that the op offers on this device, best guess first.
    pub offered: Vec<&'static str>,
    /// Shapes of its inputs.
    pub shapes: String,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that have to be moved at least.
    pub bytes: u64,
    /// Seconds on the device.
    pub seconds: f64,
    /// Number of dispatches.
    pub dispatches: usize,
}

/// Times of a run, in order of the nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// A row a node.
    pub rows: Vec<ProfileRow>,
    /// Whether the device's own clock was read, rather than the host's around one submit each.
    pub timestamps: bool,
}

impl Profile {
    /// Sum of all rows, in seconds.
    pub fn seconds(&self) -> f64 {
        self.rows.iter().map(|row| row.seconds).sum()
    }
}
