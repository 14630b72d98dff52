"""What every error code means: a title, and the text behind ``neurocompile explain NC####``."""

from __future__ import annotations

__all__ = ["CATALOGUE"]

CATALOGUE: dict[str, tuple[str, str]] = {
    "NC1001": (
        "the file cannot be read",
        "The path does not exist, is not a regular file, or the operating system refused it.",
    ),
    "NC1002": (
        "not a valid ONNX file",
        "The bytes do not parse as an ONNX model, or the ONNX checker rejects the graph. A truncated download is the usual "
        "cause: compare the size with the source, and export again.",
    ),
    "NC1003": (
        "unsupported operator",
        "The graph holds an operator that no rule turns into spikes. The message names the node, the operator and the "
        "closest supported form. docs/import.md lists what is understood.",
    ),
    "NC1004": (
        "a weight or constant is not finite",
        "NaN or infinity in a constant cannot be quantized. SpikingResformer's scale buffers are infinite until they are "
        "calibrated: run one batch in training mode, then export.",
    ),
    "NC1005": (
        "external data leaves the model's folder",
        "An ONNX initializer stored outside the file must lie beside or below the .onnx file. Absolute paths, '..' and "
        "links that lead out are refused, because a model file is input from a stranger.",
    ),
    "NC1006": (
        "wrong shape or dtype",
        "An array does not have the shape or the dtype that the model declares. The message shows both.",
    ),
    "NC1007": (
        "T is out of range",
        "T is the number of simulation steps of one sample: an integer, at least 1.",
    ),
    "NC1008": (
        "time axis not found",
        "Every spiking layer must receive a tensor whose leading axis is time. The importer follows that axis from the "
        "node that repeats the input T times. Here the leading axis is something else.",
    ),
    "NC1009": (
        "unsupported attribute or form of a supported operator",
        "The operator is understood, but not with these attributes or operands. The message names the supported form.",
    ),
    "NC1010": (
        "a model without spiking layers",
        "Neither an ai.neurocompile::LIF node, as neurocompile.export_onnx writes them, nor a comparison that is a neuron's "
        "was found: the file holds no spiking model.",
    ),
    "NC1011": (
        "the import does not reproduce the model",
        "After import, one batch is run both through onnxruntime and through the imported graph. Their spikes differ by "
        "more than float rounding explains, so the import is refused: please report the file.",
    ),
    "NC1012": (
        "input data cannot be used",
        "An .npz file must hold 'x' (samples first, float32) and may hold 'y' (integer labels). Pickled objects are refused.",
    ),
    "NC1013": (
        "the model cannot be exported",
        "torch.export could not trace the module, or a neuron in it is of a kind that has no marker.",
    ),
    "NC1014": (
        "a torch model cannot be obtained",
        "'build package.module:function' calls the function, which returns (module, example input). From Python, give the "
        "example input as second argument: neurocompile.compile(model, x).",
    ),
    "NC1015": (
        "an option is out of range",
        "The message names the option, its value and the values it takes.",
    ),
    "NC1020": (
        "an input with a time axis of its own",
        "Nothing makes the axis of time: neither does the model repeat its input, x.unsqueeze(0).repeat(T, 1, 1, 1, 1), nor does "
        "reading the axis beside the batch as time (event frames: (B, T, C, H, W) or (T, B, C, H, W)) make sense of it. "
        "docs/import.md says more.",
    ),
    "NC1021": (
        "samples bring another number of steps",
        "Each sample of this model brings its own steps, such as frames of events: the chip runs as many. Give `T` that number, or "
        "export the model with as many frames a sample as it shall run.",
    ),
    "NC1022": (
        "the model cannot be fine-tuned",
        "Fine-tuning trains convolutions, linear layers, their neurons' biases and what lies between. The message names the layer "
        "that has no gradient: train it in your own framework, and compile the result.",
    ),
    "NC1023": (
        "fine-tuning diverges",
        "The loss is no number any more. Lower `lr`, or train with more bits.",
    ),
    "NC1024": (
        "the model does not finish in onnxruntime",
        "After import, a few samples are run through the file itself, in a process of its own that may take the machine's memory "
        "and a minute a sample. A loop that never ends, or values larger than the memory, end here. NEUROCOMPILE_IN_PROCESS=1 "
        "runs files that you trust without either limit.",
    ),
    "NC2001": (
        "no integer form",
        "The quantizer has no exact integer form for this operation on these values. The message says which values would be "
        "needed.",
    ),
    "NC2002": (
        "an integer range is exceeded",
        "Payloads on Loihi 2 carry 24 bits with sign, thresholds 17 bits, weights 8 bits. The range analysis found a value "
        "that can exceed its field.",
    ),
    "NC2003": ("bits out of range", "`weight_bits` takes 2 to 8, `digits` 4 to 12."),
    "NC2004": (
        "a pass broke the rules of its stage",
        "Every pass is checked after it ran. This is a defect of neurocompile: please report it with the model.",
    ),
    "NC2005": (
        "text form does not parse",
        "The textual form of a graph has an error at the line that the message names.",
    ),
    "NC2010": (
        "a recurrent loop does not fit its fields",
        "Between two samples a loop is silenced by inhibition as strong as its largest input, in the same 17 bits (membranes) "
        "or 18 bits (graded values) as the input itself. Use smaller weights or inputs; a circuit built by hand may state a "
        "tighter bound than interval arithmetic finds (Population.largest).",
    ),
    "NC2011": (
        "a circuit's parameters do not fit its fields",
        "A ready-made circuit (neurocompile.circuits) was asked for sizes whose sums leave the 17 bits of a current or the 8 bits "
        "and exponent of a weight. The message names the limit.",
    ),
    "NC2012": (
        "a softmax does not fit its fields",
        "A softmax counts scores, exponentiates and divides within one sample: it needs at least 4 steps, sums of scores below 2^18 "
        "and at most 8,000 scores a row (docs/circuits.md). Use coarser scores, fewer channels a head or fewer steps.",
    ),
    "NC2013": (
        "a kind of layer without a rule",
        "Each analysis and pass has a table with a rule for each kind of node; what has none is refused, because a guess "
        "would change the model in silence. It happens with kinds that another package adds: docs/new_operator.md has "
        "what to register. With a model from a file it is a defect of neurocompile; please report it.",
    ),
    "NC2014": (
        "passes in an order that cannot work",
        "Every pass states what it requires of a graph and what it ensures. The message names the pass, what it misses, and "
        "the pass that makes it so. It happens where passes are chosen by hand ('neurocompile opt', `passes`): docs/new_pass.md.",
    ),
    "NC3001": (
        "unknown target",
        "The target is neither the name of a shipped file (neurocompile targets) nor the path of a YAML file.",
    ),
    "NC3002": (
        "a target file is not valid",
        "A target is one YAML file, each number with source and status. 'neurocompile targets' has its fields (`schema`), "
        "docs/new_target.md says what they decide, and an example (`show='loihi2'`).",
    ),
    "NC3101": (
        "the model does not fit the target",
        "More cores are needed than the target has. Use fewer weight bits, a larger target, or a smaller model.",
    ),
    "NC3102": (
        "the smallest tile of a layer does not fit one core",
        "Even a single neuron of this layer needs more of a core's resource than the core has. Reduce the fan-in or use "
        "fewer weight bits.",
    ),
    "NC3110": (
        "the target has no graded messages",
        "Loihi 1 sends spikes alone. A population whose values are sums or graded inputs cannot reach other cores there. Take a "
        "Loihi 2 target, or a model whose layers exchange spikes only (inputs of 0 and 1, no sums between neurons).",
    ),
    "NC3111": (
        "one neuron exceeds the budget of spikes of a core",
        "The budget (`budget`, or spikes_per_core_step) is less than the expected messages of a single neuron in a step, so no "
        "cut keeps it. Allow more spikes, or train for a lower rate.",
    ),
    "NC3112": (
        "an estimate knows no budget",
        "An estimate (`estimate_only`) maps nothing, and what a budget of spikes means for a core follows from a mapping. Leave out "
        "`budget`, or build the model.",
    ),
    "NC3113": (
        "a field of the target is too narrow",
        "A target's file may have narrower fields than Loihi 2: thresholds, biases, decays, weights, messages, neuron state. What "
        "leaves a field is refused, never wrapped. The message names layer, field, need and limit ('neurocompile targets', "
        "`show`). Without `weight_bits`, weights take the bits that the target has.",
    ),
    "NC3114": (
        "a budget of spikes needs more cores than there are",
        "The budget (`budget`, or spikes_per_core_step) lets a core send so few messages that the model spreads over more cores "
        "than may be used, though its resources need fewer. Grant more spikes, or leave the budget out.",
    ),
    "NC3103": (
        "a delay exceeds what the target allows",
        "The scheduler inserts relays where a delay is longer than the target's; this target allows neither.",
    ),
    "NC3104": (
        "a model cannot be folded in time like this",
        "Folding runs a sample as windows of rows or columns (docs/folding.md). The message names the layer, the fold and what "
        "stands in the way: a size that the fold does not divide, or an operation that folding does not know. Take another fold "
        "(an estimate, `estimate_only`, lists those that work), or `fold='none'`.",
    ),
    "NC4001": (
        "a backend is not installed",
        "The backend needs an optional package. The message names the extra to install.",
    ),
    "NC4002": (
        "Intel's Loihi extension is not installed",
        "Running on Loihi 2 needs Intel's INRC-only package lava-loihi (module lava.utils.loihi2_profiler). The program was "
        "compiled, mapped and checked on the CPU models; join Intel's research community for the extension, or run with "
        "the backend emulator or lava.",
    ),
    "NC4003": (
        "the Lava runtime did not finish",
        "Lava's runtime hangs on most failures, so it runs in a process group of its own with a deadline. The group was "
        "ended. The message holds the last words of its error output.",
    ),
    "NC4004": (
        "not enough file descriptors for Lava's runtime",
        "Lava's runtime opens about eleven files a process and hangs when it runs out. Raise the limit with ulimit -n, or "
        "use the backend lava, which runs the same process models in one process.",
    ),
    "NC4005": (
        "unknown backend",
        "Backends are emulator, cores, lava, lava-runtime, loihi, and those of other packages (docs/new_backend.md).",
    ),
    "NC4006": (
        "backend and emulator disagree",
        "The integer program is exact: one different spike is a defect. The message names the layer, the neuron and the step.",
    ),
    "NC4007": ("no accelerator", "`device='cuda'` was asked for, and torch finds no CUDA device."),
    "NC4008": (
        "not exact on this device",
        "The evaluation on torch (`device`) computes a node only where the proven ranges of its operands keep every partial "
        "sum an integer that the device's types hold. Run it on the emulator (`device='cpu'`), and report the model.",
    ),
    "NC4009": (
        "a backend of another package fails",
        "A package offers a backend under the entry point group neurocompile.backends, and it does not load, raises an error, "
        "or gives back other populations, shapes or types than it was asked for. The message names it; docs/new_backend.md "
        "says what a backend promises.",
    ),
    "NC4010": (
        "the device has too little memory",
        "Batches are made as small as one sample before this is said. Other programs may hold the memory of the GPU: "
        "nvidia-smi lists them. Another device, or the emulator (`device='cpu'`), runs the model too.",
    ),
    "NC4011": (
        "a worker of a sweep was lost",
        "The operating system or the cluster ended a process that computed points, mostly because it took too much memory. "
        "What was finished is in the folder of `out`, and the same command goes on from there: with fewer `jobs`, or workers "
        "with more memory.",
    ),
    "NC4012": (
        "no cluster",
        "A sweep with `cluster` starts workers of dask, or reaches a scheduler of yours, whose workers must have the same version of "
        "neurocompile. The message says what failed.",
    ),
    "NC4013": (
        "a job cannot be submitted, or asked for",
        "neurocompile submit gives a job to Slurm: sbatch, squeue and scancel must be there, as on a login node. What Slurm says against a "
        "job (an unknown partition, a limit) is in the message; a dry run prints the script.",
    ),
    "NC4014": (
        "not a ticket",
        "A ticket is the folder that 'neurocompile submit' printed. Its files are damaged, of another version, or not there.",
    ),
    "NC4015": (
        "a job has not ended",
        "'neurocompile fetch TICKET' says how it stands, and waits for it if told to. A job that is lost ended without a word: its time was over, its memory too small, "
        "or the node does not see the job's folder; the folder of logs says more.",
    ),
    "NC5001": (
        "not a neurocompile artifact",
        "A .nca file is a zip archive with a manifest. This file is not one, or is cut short.",
    ),
    "NC5002": (
        "the artifact is damaged",
        "A member's SHA-256 differs from the manifest. Build the artifact again.",
    ),
    "NC5003": (
        "the artifact has another schema version",
        "It was written by a neurocompile whose format differs. Build it again from the model.",
    ),
    "NC5004": (
        "the artifact does not verify",
        "The resources counted from the artifact differ from what its mapping records, exceed the target, or its steps do "
        "not reproduce.",
    ),
    "NC5005": (
        "the output cannot be written",
        "The folder does not exist or cannot be written. Nothing was left behind.",
    ),
    "NC5006": (
        "not a key",
        "Artifacts are signed with Ed25519 keys in PEM files without a password; docs/artifacts.md shows how to make one.",
    ),
    "NC5007": (
        "the artifact is not signed by a trusted key",
        "It has no signature, one of another key, or one that does not fit its content. Get it again from where it was built.",
    ),
    "NC5008": (
        "the program cannot be expressed in that form",
        "What others' formats and simulators have no words for (graded messages, resets between samples, long delays) is named, a "
        "line each. Nothing was written.",
    ),
    "NC5009": (
        "a program cannot be said in NIR",
        "NIR has weighted layers, sums, sum pools and membranes. Maxima, products, softmax and normalizations have no node there; "
        "'neurocompile export lava' writes any program as Python code.",
    ),
    "NC5010": (
        "the folder holds another sweep",
        "Records of a sweep belong to one model, one set of samples and one version of neurocompile; sweep.json in the folder "
        "says which. A record that was changed is refused as well.",
    ),
    "NC6001": (
        "unknown error code",
        "neurocompile explain takes a code such as NC1003; without one it lists all.",
    ),
    "NC6002": (
        "wrong usage",
        "The command line names a command, an option or a value that does not exist, or lacks one. 'neurocompile COMMAND -h' "
        "lists what a command takes.",
    ),
    "NC6003": (
        "the result cannot be printed",
        "Standard output is on a full disk or cannot be written. What a command wrote to files is complete.",
    ),
    "NC7001": (
        "unknown energy profile",
        "The profile is neither the name of a shipped one (davies2018, horowitz45, keras-spiking, sanafe-loihi) nor a file.",
    ),
    "NC7002": (
        "an energy profile is not valid",
        "A profile is one YAML file: name, description, hardware, and the energy, time and static_power of target files, each number "
        "with source and status, under a name of its own. docs/energy.md has an example.",
    ),
    "NC7003": (
        "a file of measured power is not valid",
        "`measured` takes one JSON object with schema, device, source, static_w, dynamic_w and seconds_per_inference.",
    ),
    "NC7004": (
        "a file of measured step times is not valid",
        "`timings` takes a JSON list of objects with core_operations, core_updates, link_packets and step_ns.",
    ),
    "NC7005": (
        "a parity result cannot be read",
        "`parity` takes the file that 'neurocompile parity' wrote as JSON.",
    ),
    "NC7006": (
        "hardware gave no usable power",
        "Lava's probes read the sensors of a Loihi 2 board. Some boards have none, and a run of a few samples is too short for "
        "them. Nothing is taken as zero: measure more samples, or write the readings of other instruments into a file for "
        "`measured`.",
    ),
    "NC7007": (
        "measured step times do not determine the time model",
        "The model t = c0 + max(c1 operations, c2 updates, c3 packets) has up to four constants. Measurements that are too few, "
        "alike, or whose counts grow together fit many sets of constants equally well, so none is given. Measure networks whose "
        "busiest core and link differ.",
    ),
    "NC7008": (
        "a result of another program",
        "A file beside the artifact (`parity`) was written for another program, or by a version that did not say for which: its "
        "fingerprint, a hash of the circuit, its weights and the target, is not this artifact's. Make it again from this artifact.",
    ),
    "NC7009": (
        "a profile has no times",
        "Time on the mesh needs synaptic_operation, neuron updates, packet_within_tile, both hops and the barrier at 1 and 32 tiles, "
        "as davies2018 has them for Loihi 1. Nobody has published those of Loihi 2; counts of cores and links need none.",
    ),
    "NC8001": (
        "data cannot be analysed",
        "The effective dimension and the spike budget read the array 'x' of an .npz file (or a .npy file): real numbers, "
        "samples first, at least two of them, all finite. Pickled objects are refused.",
    ),
    "NC8002": (
        "the data do not vary",
        "All samples are the same, so there is no variance whose share a component could hold.",
    ),
    "NC8003": (
        "a parameter of the theory is out of range",
        "The message names the parameter, its value and the values it takes.",
    ),
    "NC8004": (
        "the sketch does not reach the quantile",
        "Beyond 4,096 numbers a sample only the leading components are computed, and they hold less of the variance than was "
        "asked for. Lower `quantile`, or reduce the data (smaller images, a projection) first.",
    ),
    "NC8005": (
        "no Lipschitz bound",
        "The product of two values has a Lipschitz constant only where both are bounded. The message names the layer whose "
        "factors are not. Use the measured local value instead: it is printed beside the bound.",
    ),
    "NC8006": (
        "an accuracy cannot be turned into an error",
        "`accuracy=A` asks for the largest output error that still leaves a share A of the samples right: half the margin "
        "between the right class and the next one. That needs `data` with labels 'y', and a model that reaches A on them.",
    ),
    "NC8007": (
        "too few points to fit",
        "A constant is fitted on at least three (epsilon, spikes) points that differ. Give more samples, or more values of T.",
    ),
    "NC8008": (
        "`budget` cannot be read",
        "A budget is epsilon=E or spikes=N, and after commas constant=C, lipschitz=L, dimension=D where you know better than "
        "what is measured.",
    ),
    "NC8009": (
        "the mapper cannot keep a spike budget",
        "This build's mapper has no capacity for spikes per core and step.",
    ),
    "NC8010": (
        "an experiment lacks a package",
        "The message names the package. What an experiment trains needs neurocompile[torch] and scikit-learn.",
    ),
    "NC8011": (
        "no other number of steps to compare with",
        "A sweep over T needs a model that runs at any. Samples that bring their own steps (frames of events) fix it: a "
        "build with `budget` divides a budget over the layers at their T, 'energy' counts spikes beside Corollary 9's bound. The integers of "
        "a softmax fix it too: 'budget' on such an artifact leaves the sweep out, on the model's ONNX file it does not.",
    ),
    "NC9001": (
        "an internal invariant is broken",
        "This is a defect of neurocompile. Please report it with the model and the command.",
    ),
}
"""Code -> (title, explanation). Codes are never reused for another meaning."""
