//! A network as data: nodes in the order of computation, with named parameters.

/// The number of a node in its [`Graph`].
pub type NodeId = usize;

/// What is applied to a result before it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// Negative values become 0.
    Relu,
}

/// What a node computes. Maps are `[batch, height, width, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The input of the network.
    Input,
    /// Convolution with stride 1, zero padding and bias. Parameters `kernel` `[k, k, in, out]` and `bias` `[out]`.
    Conv {
        /// What is convolved.
        input: NodeId,
        /// Side of the kernel: 1 or 3.
        kernel: usize,
        /// Applied to the result.
        activation: Activation,
    },
    /// Maximum over windows of `by` pixels (rows, columns), stride `by`.
    MaxPool {
        /// What is pooled.
        input: NodeId,
        /// Window and stride.
        by: [usize; 2],
    },
    /// Nearest-neighbour up-sampling.
    Upsample {
        /// What is enlarged.
        input: NodeId,
        /// Factors for rows and columns.
        by: [usize; 2],
    },
    /// Channels of several maps side by side; only convolutions may read it.
    Concat {
        /// The maps, first channels first.
        inputs: Vec<NodeId>,
    },
    /// Batch normalisation. Parameters `gamma`, `beta`, and the statistics `moving_mean`, `moving_variance`, all `[in]`.
    BatchNorm {
        /// What is normalised.
        input: NodeId,
        /// Added to the variance.
        epsilon: f32,
        /// Share of the old value when a moving statistic takes in a new one.
        momentum: f32,
        /// Applied to the result.
        activation: Activation,
    },
}

/// A node of a [`Graph`].
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name of the layer, prefix of its parameters' names.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Channels of its result.
    pub channels: usize,
    /// How many times smaller than the input its result is, in rows and columns.
    pub scale: [usize; 2],
}

/// How a parameter begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Uniform in plus or minus `sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    GlorotUniform {
        /// Inputs of one output.
        fan_in: usize,
        /// Outputs that one input reaches.
        fan_out: usize,
    },
    /// One value everywhere.
    Constant(f32),
}

/// A parameter that a network needs.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    /// `layer/kernel`, `layer/bias`, ...
    pub name: String,
    /// Shape; kernels are `[k, k, in, out]`.
    pub shape: Vec<usize>,
    /// How it begins.
    pub init: Init,
    /// Whether the optimiser changes it; moving statistics are changed by training itself.
    pub trainable: bool,
}

/// A network: nodes in the order of computation, of which some are outputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    outputs: Vec<NodeId>,
}

impl Graph {
    /// A graph without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the input, of `channels` channels.
    pub fn input(&mut self, channels: usize) -> NodeId {
        self.push("input", Op::Input, channels, [1, 1])
    }

    /// Adds a convolution with `filters` outputs.
    pub fn conv(&mut self, name: &str, input: NodeId, kernel: usize, filters: usize, activation: Activation) -> NodeId {
        let scale = self.nodes[input].scale;
        self.push(name, Op::Conv { input, kernel, activation }, filters, scale)
    }

    /// Adds a maximum pooling.
    pub fn max_pool(&mut self, name: &str, input: NodeId, by: [usize; 2]) -> NodeId {
        let Node { channels, scale, .. } = self.nodes[input];
        self.push(name, Op::MaxPool { input, by }, channels, [scale[0] * by[0], scale[1] * by[1]])
    }

    /// Adds an up-sampling.
    pub fn upsample(&mut self, name: &str, input: NodeId, by: [usize; 2]) -> NodeId {
        let Node { channels, scale, .. } = self.nodes[input];
        self.push(name, Op::Upsample { input, by }, channels, [scale[0] / by[0], scale[1] / by[1]])
    }

    /// Adds a concatenation of channels.
    pub fn concat(&mut self, name: &str, inputs: &[NodeId]) -> NodeId {
        let channels = inputs.iter().map(|&i| self.nodes[i].channels).sum();
        let scale = self.nodes[inputs[0]].scale;
        self.push(name, Op::Concat { inputs: inputs.to_vec() }, channels, scale)
    }

    /// Adds a batch normalisation.
    pub fn batch_norm(
        &mut self,
        name: &str,
        input: NodeId,
        epsilon: f32,
        momentum: f32,
        activation: Activation,
    ) -> NodeId {
        let Node { channels, scale, .. } = self.nodes[input];
        self.push(name, Op::BatchNorm { input, epsilon, momentum, activation }, channels, scale)
    }

    /// Marks a node as an output. Outputs are returned in the order of these calls.
    pub fn output(&mut self, node: NodeId) {
        self.outputs.push(node);
    }

    fn push(&mut self, name: &str, op: Op, channels: usize, scale: [usize; 2]) -> NodeId {
        self.nodes.push(Node { name: name.to_string(), op, channels, scale });
        self.nodes.len() - 1
    }

    /// The nodes in the order of computation.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The outputs.
    pub fn outputs(&self) -> &[NodeId] {
        &self.outputs
    }

    /// Channels of the input.
    pub fn input_channels(&self) -> usize {
        self.nodes.iter().find(|node| node.op == Op::Input).map_or(0, |node| node.channels)
    }

    /// What the height and the width of an input must be multiples of.
    pub fn divisor(&self) -> [usize; 2] {
        std::array::from_fn(|axis| self.nodes.iter().map(|node| node.scale[axis]).max().unwrap_or(1))
    }

    /// The nodes that `node` reads, concatenations resolved.
    pub fn sources(&self, node: NodeId) -> Vec<NodeId> {
        let direct: Vec<NodeId> = match &self.nodes[node].op {
            Op::Input => Vec::new(),
            Op::Conv { input, .. }
            | Op::MaxPool { input, .. }
            | Op::Upsample { input, .. }
            | Op::BatchNorm { input, .. } => vec![*input],
            Op::Concat { inputs } => inputs.clone(),
        };
        direct
            .into_iter()
            .flat_map(|id| match self.nodes[id].op {
                Op::Concat { .. } => self.sources(id),
                _ => vec![id],
            })
            .collect()
    }

    /// The parameters of one node, in the order in which executors take them.
    pub fn node_parameters(&self, id: NodeId) -> Vec<ParameterSpec> {
        let node = &self.nodes[id];
        let spec = |part: &str, shape: Vec<usize>, init: Init, trainable: bool| ParameterSpec {
            name: format!("{}/{part}", node.name),
            shape,
            init,
            trainable,
        };
        match node.op {
            Op::Conv { input, kernel, .. } => {
                let inputs = self.nodes[input].channels;
                let area = kernel * kernel;
                let init = Init::GlorotUniform { fan_in: area * inputs, fan_out: area * node.channels };
                vec![
                    spec("kernel", vec![kernel, kernel, inputs, node.channels], init, true),
                    spec("bias", vec![node.channels], Init::Constant(0.0), true),
                ]
            }
            Op::BatchNorm { .. } => vec![
                spec("gamma", vec![node.channels], Init::Constant(1.0), true),
                spec("beta", vec![node.channels], Init::Constant(0.0), true),
                spec("moving_mean", vec![node.channels], Init::Constant(0.0), false),
                spec("moving_variance", vec![node.channels], Init::Constant(1.0), false),
            ],
            _ => Vec::new(),
        }
    }

    /// All parameters, in the order of the nodes.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        (0..self.nodes.len()).flat_map(|id| self.node_parameters(id)).collect()
    }

    /// For every node the index of its first parameter in [`parameters`](Self::parameters).
    pub fn parameter_offsets(&self) -> Vec<usize> {
        let mut next = 0;
        (0..self.nodes.len())
            .map(|id| {
                let first = next;
                next += self.node_parameters(id).len();
                first
            })
            .collect()
    }
}
