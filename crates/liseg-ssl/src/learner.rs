//! A network that is being trained.

use liseg_nn::{
    GradientNorm, Optimiser, OptimiserConfig, Result, SegmentationNet, TensorMap, clip_gradients,
};

/// A network with its optimiser.
pub struct Learner {
    name: String,
    network: Box<dyn SegmentationNet>,
    optimiser: Optimiser,
}

impl Learner {
    /// Binds a fresh optimiser to a network. `name` prefixes its tensors in checkpoints.
    ///
    /// # Errors
    /// When the optimiser's constants are out of range or libtorch fails.
    pub fn new(
        name: &str,
        network: Box<dyn SegmentationNet>,
        optimiser: OptimiserConfig,
    ) -> Result<Self> {
        let optimiser = Optimiser::new(optimiser, network.parameters())?;
        Ok(Self {
            name: name.to_owned(),
            network,
            optimiser,
        })
    }

    /// The name that prefixes its tensors in checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network.
    pub fn network(&self) -> &dyn SegmentationNet {
        self.network.as_ref()
    }

    /// The name and the network.
    pub fn named(&self) -> (&str, &dyn SegmentationNet) {
        (&self.name, self.network.as_ref())
    }

    /// The network, to load weights into.
    pub fn network_mut(&mut self) -> &mut dyn SegmentationNet {
        self.network.as_mut()
    }

    /// Clips the gradients to a global norm of `clip`; says what it was.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn clip(&self, clip: f64) -> Result<GradientNorm> {
        clip_gradients(self.network.parameters(), clip)
    }

    /// Moves the weights by one step at `lr`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn step(&mut self, lr: f64) -> Result<()> {
        self.optimiser.step(self.network.parameters(), lr)
    }

    /// Clears the gradients.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn clear_gradients(&self) -> Result<()> {
        self.network.parameters().zero_grad()
    }

    /// Copies weights and optimiser state into `map`, under `{name}.` and `{name}.optimiser/`.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn save_into(&self, map: &mut TensorMap) -> Result<()> {
        self.network
            .parameters()
            .save_into(&format!("{}.", self.name), map)?;
        self.optimiser
            .save_into(&format!("{}/optimiser.", self.name), map)
    }

    /// Restores what [`Learner::save_into`] saved.
    ///
    /// # Errors
    /// When a tensor is missing, left over or of another shape.
    pub fn load(&mut self, map: &TensorMap) -> Result<()> {
        self.network
            .parameters_mut()
            .load(&format!("{}.", self.name), map)?;
        self.optimiser
            .load(&format!("{}/optimiser.", self.name), map)
    }
}

impl std::fmt::Debug for Learner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Learner")
            .field("name", &self.name)
            .field("parameters", &self.network.parameters().count())
            .finish_non_exhaustive()
    }
}
