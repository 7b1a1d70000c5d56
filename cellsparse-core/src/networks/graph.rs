//! A network as data: nodes in the order of computation, with named parameters.

/// The number of a node in its [`Graph`].
pub type NodeId = usize;

/// What is applied to a result before it is passed on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// Nothing.
    Linear,
    /// Negative values become 0.
    Relu,
    /// Negative values are multiplied by a number between 0 and 1.
    LeakyRelu(f32),
}

impl Activation {
    /// The slope for negative values, if it is not 1.
    pub fn slope(self) -> Option<f32> {
        match self {
            Activation::Linear => None,
            Activation::Relu => Some(0.0),
            Activation::LeakyRelu(slope) => Some(slope),
        }
    }
}

/// Over which values a normalisation takes mean and variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Statistics {
    /// For each channel over all images and pixels of the batch (Ioffe and Szegedy 2015). Outside training, moving
    /// statistics are used: parameters `moving_mean` and `moving_variance`.
    Batch {
        /// Fraction of the old value when a moving statistic takes in a new one.
        momentum: f32,
        /// Whether the moving variance takes in the unbiased variance (PyTorch) or the biased one (Keras).
        unbiased: bool,
    },
    /// For each image over the pixels of a group of channels (group normalisation, Wu and He 2018).
    Group {
        /// Channels normalised together; divides the number of channels.
        channels: usize,
    },
}

/// What a node computes. Maps are `[batch, height, width, channels]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// The input of the network.
    Input,
    /// Convolution with stride 1 and zero padding. Parameters `kernel` `[k, k, in, out]` and `bias` `[out]`. On a vector
    /// (see [`Node::scale`]) a 1x1 convolution is a fully connected layer.
    Conv {
        /// What is convolved.
        input: NodeId,
        /// Side of the kernel: 1 or 3.
        kernel: usize,
        /// Whether there is a bias.
        bias: bool,
        /// A map that is added before the activation.
        residual: Option<NodeId>,
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
    /// Nearest-neighbour upsampling.
    Upsample {
        /// What is upsampled.
        input: NodeId,
        /// Factors for rows and columns.
        by: [usize; 2],
    },
    /// Channels of several maps side by side; only convolutions may read it.
    Concat {
        /// The maps, first channels first.
        inputs: Vec<NodeId>,
    },
    /// Normalisation to mean 0 and variance 1, then a factor and an offset for each channel: parameters `gamma` and
    /// `beta`, `[channels]`.
    Norm {
        /// What is normalised.
        input: NodeId,
        /// A vector that is added to every pixel of the input first, as Cellpose does with its style.
        style: Option<NodeId>,
        /// What mean and variance are taken over.
        statistics: Statistics,
        /// Added to the variance.
        epsilon: f32,
        /// Applied to the result.
        activation: Activation,
    },
    /// The mean over all pixels (global average pooling): a vector.
    GlobalAveragePool {
        /// What is averaged.
        input: NodeId,
    },
    /// A vector divided by its Euclidean length (L2 normalisation).
    L2Normalize {
        /// What is divided.
        input: NodeId,
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
    /// How many times smaller than the input its result is, in rows and columns; `[0, 0]` for a vector, which has one
    /// pixel whatever the size of the input.
    pub scale: [usize; 2],
}

impl Node {
    /// Rows and columns of its result for an input of `height x width` pixels.
    pub fn size(&self, height: usize, width: usize) -> [usize; 2] {
        [height.checked_div(self.scale[0]).unwrap_or(1), width.checked_div(self.scale[1]).unwrap_or(1)]
    }
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
    /// Uniform in plus or minus `1 / sqrt(fan_in)` (PyTorch's default for convolutions and linear layers).
    FanInUniform {
        /// Inputs of one output.
        fan_in: usize,
    },
    /// Normal with variance `2 / fan_in` (He et al. 2015).
    HeNormal {
        /// Inputs of one output.
        fan_in: usize,
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

/// How the kernels and biases of a network are initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Initializer {
    /// Kernels [`Init::GlorotUniform`], biases 0: Keras.
    #[default]
    Glorot,
    /// Kernels and biases [`Init::FanInUniform`]: PyTorch.
    FanIn,
    /// Kernels [`Init::HeNormal`], biases 0.
    He,
}

/// A network: nodes in the order of computation, of which some are outputs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    outputs: Vec<NodeId>,
    initializer: Initializer,
}

impl Graph {
    /// A graph without nodes, whose parameters are initialised by `initializer`.
    pub fn new(initializer: Initializer) -> Self {
        Self { initializer, ..Self::default() }
    }

    /// Adds the input, of `channels` channels.
    pub fn input(&mut self, channels: usize) -> NodeId {
        self.push("input", Op::Input, channels, [1, 1])
    }

    /// Adds a convolution with bias and `filters` outputs.
    pub fn conv(&mut self, name: &str, input: NodeId, kernel: usize, filters: usize, activation: Activation) -> NodeId {
        self.conv_with(name, Op::Conv { input, kernel, bias: true, residual: None, activation }, filters)
    }

    /// Adds a convolution with bias whose result is added to `residual`.
    pub fn conv_onto(
        &mut self,
        name: &str,
        input: NodeId,
        kernel: usize,
        residual: NodeId,
        activation: Activation,
    ) -> NodeId {
        let filters = self.nodes[residual].channels;
        self.conv_with(name, Op::Conv { input, kernel, bias: true, residual: Some(residual), activation }, filters)
    }

    /// Adds a 1x1 convolution without bias and activation.
    pub fn projection(&mut self, name: &str, input: NodeId, filters: usize) -> NodeId {
        let activation = Activation::Linear;
        self.conv_with(name, Op::Conv { input, kernel: 1, bias: false, residual: None, activation }, filters)
    }

    fn conv_with(&mut self, name: &str, op: Op, filters: usize) -> NodeId {
        let scale = match op {
            Op::Conv { input, .. } => self.nodes[input].scale,
            _ => [1, 1],
        };
        self.push(name, op, filters, scale)
    }

    /// Adds a maximum pooling.
    pub fn max_pool(&mut self, name: &str, input: NodeId, by: [usize; 2]) -> NodeId {
        let Node { channels, scale, .. } = self.nodes[input];
        self.push(name, Op::MaxPool { input, by }, channels, [scale[0] * by[0], scale[1] * by[1]])
    }

    /// Adds an upsampling.
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

    /// Adds a normalisation of `input`, or of `input` with the vector `style` added to every pixel.
    pub fn norm(
        &mut self,
        name: &str,
        input: NodeId,
        style: Option<NodeId>,
        statistics: Statistics,
        epsilon: f32,
        activation: Activation,
    ) -> NodeId {
        let Node { channels, scale, .. } = self.nodes[input];
        self.push(name, Op::Norm { input, style, statistics, epsilon, activation }, channels, scale)
    }

    /// Adds the mean over all pixels.
    pub fn mean(&mut self, name: &str, input: NodeId) -> NodeId {
        let channels = self.nodes[input].channels;
        self.push(name, Op::GlobalAveragePool { input }, channels, [0, 0])
    }

    /// Adds a vector divided by its length.
    pub fn unit(&mut self, name: &str, input: NodeId) -> NodeId {
        let channels = self.nodes[input].channels;
        self.push(name, Op::L2Normalize { input }, channels, [0, 0])
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

    /// Whether the result for one image of a batch depends on the others while training.
    pub fn joins_images(&self) -> bool {
        let joins = |node: &Node| matches!(node.op, Op::Norm { statistics: Statistics::Batch { .. }, .. });
        self.nodes.iter().any(joins)
    }

    /// The nodes that `node` transforms, concatenations resolved: without residuals and shifts.
    pub fn sources(&self, node: NodeId) -> Vec<NodeId> {
        let direct: Vec<NodeId> = match &self.nodes[node].op {
            Op::Input => Vec::new(),
            Op::Conv { input, .. }
            | Op::MaxPool { input, .. }
            | Op::Upsample { input, .. }
            | Op::Norm { input, .. }
            | Op::GlobalAveragePool { input }
            | Op::L2Normalize { input } => vec![*input],
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

    /// The node whose values are added in `node`: the residual of a convolution, the style of a normalisation.
    pub fn addend(&self, node: NodeId) -> Option<NodeId> {
        match self.nodes[node].op {
            Op::Conv { residual, .. } => residual,
            Op::Norm { style, .. } => style,
            _ => None,
        }
    }

    /// Everything that `node` reads: sources and addend.
    pub fn reads(&self, node: NodeId) -> Vec<NodeId> {
        let mut reads = self.sources(node);
        reads.extend(self.addend(node));
        reads
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
            Op::Conv { input, kernel, bias, .. } => {
                let inputs = self.nodes[input].channels;
                let area = kernel * kernel;
                let fan_in = area * inputs;
                let (init, bias_init) = match self.initializer {
                    Initializer::Glorot => {
                        (Init::GlorotUniform { fan_in, fan_out: area * node.channels }, Init::Constant(0.0))
                    }
                    Initializer::FanIn => (Init::FanInUniform { fan_in }, Init::FanInUniform { fan_in }),
                    Initializer::He => (Init::HeNormal { fan_in }, Init::Constant(0.0)),
                };
                let mut specs = vec![spec("kernel", vec![kernel, kernel, inputs, node.channels], init, true)];
                if bias {
                    specs.push(spec("bias", vec![node.channels], bias_init, true));
                }
                specs
            }
            Op::Norm { statistics, .. } => {
                let mut specs = vec![
                    spec("gamma", vec![node.channels], Init::Constant(1.0), true),
                    spec("beta", vec![node.channels], Init::Constant(0.0), true),
                ];
                if let Statistics::Batch { .. } = statistics {
                    specs.push(spec("moving_mean", vec![node.channels], Init::Constant(0.0), false));
                    specs.push(spec("moving_variance", vec![node.channels], Init::Constant(1.0), false));
                }
                specs
            }
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
